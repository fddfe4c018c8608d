"""The language of LunaCM: one table of commands, and pure functions that read a line by it.

Commands and options ignore case, values keep it; only the short names of the table are understood,
no other prefixes.  Help and completion come from the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.shell_words import nearest, split_words

SEPARATOR: Final = "--"
"""Stands between two commands of one batch, which share the process and so the login."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command; `value` names what follows it, None for a switch."""

    name: str
    short: str
    value: str | None
    summary: str
    required: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its two words (one for help and exit), their short names, its options."""

    words: tuple[str, ...]
    short: tuple[str, ...]
    summary: str
    options: tuple[Option, ...] = ()

    @property
    def name(self) -> str:
        """Return the command's full name."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command with its values; switches stand there with an empty value."""

    command: Command
    values: Mapping[str, str] = field(default_factory=dict)
    rest: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Invocation({self.command.name!r})"


def credential(name: str, short: str, what: str) -> tuple[Option, Option, Option]:
    """Return the three ways to give a password without being asked."""
    return (
        Option(name, short, "password", f"{what}; visible to others while this runs", secret=True),
        Option(f"{name}fd", f"{short}fd", "descriptor", f"read {what} as a line from there"),
        Option(f"{name}env", f"{short}env", "variable", f"take {what} from the environment"),
    )


_ROLE: Final = Option("name", "n", "role", "po (KRSO) or co (KRCO)", required=True)
_SLOT: Final = Option("slot", "s", "number", "the slot to use from now on", required=True)

COMMANDS: Final = (
    Command(("slot", "list"), ("s", "l"), "list the slots: one for each keyring"),
    Command(("slot", "set"), ("s", "s"), "choose the current slot", (_SLOT,)),
    Command(("role", "list"), ("ro", "l"), "list the roles of the current slot"),
    Command(
        ("role", "login"),
        ("ro", "logi"),
        "log a role in to the current slot",
        (_ROLE, *credential("password", "p", "the password")),
    ),
    Command(("role", "logout"), ("ro", "logo"), "log the role of the current slot out"),
    Command(
        ("role", "init"),
        ("ro", "in"),
        "give the KRCO its password; the KRSO must be logged in",
        (_ROLE, *credential("password", "p", "the new password")),
    ),
    Command(
        ("role", "changepw"),
        ("ro", "cpw"),
        "change the password of the role that is logged in",
        (
            _ROLE,
            *credential("oldpw", "old", "the old password"),
            *credential("newpw", "new", "the new password"),
            Option("prompt", "p", None, "ask for both passwords"),
            Option("force", "f", None, "do not ask whether to proceed"),
        ),
    ),
    Command(("role", "show"), ("ro", "sh"), "show the state of a role", (_ROLE,)),
    Command(("partition", "contents"), ("par", "con"), "list the objects of the current slot"),
    Command(("partition", "showinfo"), ("par", "si"), "show the keyring of the current slot"),
    Command(
        ("partition", "clear"),
        ("par", "clear"),
        "destroy all objects of the current slot that the role sees",
        (Option("force", "f", None, "do not ask whether to proceed"),),
    ),
    Command(("help",), ("?",), "list the commands, or explain one"),
    Command(("exit",), ("e",), "leave"),
)

NOT_FOR_KEYRINGS: Final = {
    "hagroup": "a cluster spreads the load over its members and survives their loss by itself",
    "clientconfig": "a client joins a cluster with LNHClientRegistration.sh",
    "role createchallenge": "roles of keyrings have passwords, not challenges",
    "partition clone": "a keyring is replicated to every member, and its keys do not leave it",
    "partition showpolicies": "a keyring has no policies of its own",
    "partition changepolicy": "a keyring has no policies of its own",
}
"""Commands of the reference that keyrings have no use for, and what they have instead."""


def split_line(line: str) -> list[str]:
    """Return a line's words; double quotes hold blanks together. Raises BadInput."""
    return [word.text for word in split_words(line)]


def split_batch(words: Sequence[str]) -> list[list[str]]:
    """Return the commands of one batch, which SEPARATOR parts."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR:
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def parse(words: Sequence[str]) -> Invocation:
    """Return what the words ask for; raise BadInput naming the word that is not understood."""
    first = words[0].lower()
    family = [row for row in COMMANDS if first in (row.words[0], row.short[0])]
    name = " ".join([family[0].words[0] if family else first, *words[1:2]]).lower()
    for without in (first, name):
        if without in NOT_FOR_KEYRINGS:
            message = f"{without} is not for keyrings: {NOT_FOR_KEYRINGS[without]}."
            raise BadInput(faults.COMMAND_LINE, message)
    if not family:
        hint = _hint(words[0], [row.words[0] for row in COMMANDS])
        raise BadInput(faults.COMMAND_LINE, f'Command "{words[0]}" not found.{hint}')
    if len(family[0].words) == 1:
        return Invocation(family[0], rest=tuple(words[1:]))
    if len(words) == 1:
        names = ", ".join(row.words[1] for row in family)
        message = f'Command "{family[0].words[0]}" needs a subcommand: {names}.'
        raise BadInput(faults.COMMAND_LINE, message)
    second = words[1].lower()
    for row in family:
        if second in (row.words[1], row.short[1]):
            return Invocation(row, _parse_options(row, words[2:]))
    hint = _hint(words[1], [row.words[1] for row in family])
    raise BadInput(faults.COMMAND_LINE, f'Subcommand "{words[1]}" not found.{hint}')


def _hint(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    return f' Did you mean "{near[0]}"?' if near else ""


def _parse_options(command: Command, words: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        option = _find_option(command, word)
        if option.name in values:
            raise BadInput(faults.COMMAND_LINE, f"Option -{option.name} was given twice.")
        values[option.name] = "" if option.value is None else _value(option, remaining)
    for option in command.options:
        if option.required and option.name not in values:
            message = f"{command.name} needs the option -{option.name} <{option.value}>."
            raise BadInput(faults.COMMAND_LINE, message)
    return values


def _find_option(command: Command, word: str) -> Option:
    if word.startswith("-"):
        name = word[1:].lower()
        for option in command.options:
            if name in (option.name, option.short):
                return option
    known = ", ".join(f"-{option.name}" for option in command.options) or "none"
    # An unknown word may be a mistyped password, so it is not repeated.
    shown = f"Option {word}" if word.startswith("-") else "A word that is no option"
    hint = _hint(word, [f"-{option.name}" for option in command.options])
    message = f"{shown} is unknown to {command.name}; it takes {known}.{hint}"
    raise BadInput(faults.COMMAND_LINE, message)


def _value(option: Option, remaining: Iterator[str]) -> str:
    value = next(remaining, None)
    if value is None:
        raise BadInput(faults.COMMAND_LINE, f"Option -{option.name} needs a {option.value}.")
    return value


def holds_secret(line: str) -> bool:
    """Tell whether a line may hold a password, so that no history keeps it."""
    secret = {f"-{o.name}" for c in COMMANDS for o in c.options if o.secret}
    secret |= {f"-{o.short}" for c in COMMANDS for o in c.options if o.secret}
    return any(word.lower() in secret for word in line.replace('"', " ").split())


def completions(words: Sequence[str], begun: str) -> list[str]:
    """Return what may follow `words`, given the beginning of the next one."""
    begun = begun.lower()
    if not words:
        candidates = dict.fromkeys(row.words[0] for row in COMMANDS)
        return [name for name in candidates if name.startswith(begun)]
    first = words[0].lower()
    family = [row for row in COMMANDS if first in (row.words[0], row.short[0])]
    if len(words) == 1:
        second = [row.words[1] for row in family if len(row.words) == 2]
        return [name for name in second if name.startswith(begun)]
    used = {word.lower() for word in words[2:]}
    return [
        f"-{option.name}"
        for row in family
        if len(row.words) == 2 and words[1].lower() in (row.words[1], row.short[1])
        for option in row.options
        if f"-{option.name}".startswith(begun) and f"-{option.name}" not in used
    ]


def help_text(words: Sequence[str]) -> str:
    """Return help on the commands whose name begins with `words`; raise BadInput for none."""
    wanted = tuple(word.lower() for word in words)
    rows = [row for row in COMMANDS if row.words[: len(wanted)] == wanted]
    if not rows:
        raise BadInput(faults.COMMAND_LINE, f'Command "{" ".join(words)}" not found.')
    lines = [_usage(row) for row in rows]
    if len(rows) == 1:
        lines += [_option_line(option) for option in rows[0].options]
    return "\n".join(lines)


def _usage(command: Command) -> str:
    short = " ".join(command.short)
    return f"    {command.name:<22}{short:<10}{command.summary}"


def _option_line(option: Option) -> str:
    name = f"-{option.name}" + (f" <{option.value}>" if option.value else "")
    need = "" if option.required else " (optional)"
    return f"        {name:<28}{'-' + option.short:<10}{option.summary}{need}"
