"""Commands and their options as rows, and the one reader of options that the tools share.

An option begins with one dash or two, ignores case, and takes its value behind `=` or as the next
word.  click cannot read that: behind one dash it sees a row of one-letter options, so that it would
name neither the unknown option nor the nearest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conclave.client.refusals import misused
from conclave.shell_words import nearest

PATH: Final = "path"
"""What an option takes that names a file."""
HELP_WORDS: Final = frozenset({"-h", "-help", "--help"})
"""Any of them, before a command or as its last word, asks for help."""
BOOLEAN: Final = "T|F"
"""What an option takes that may also stand alone, for true."""


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
    """One command: its words (LunaCM has two for most), their short names, its options."""

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

    @property
    def secrets(self) -> tuple[Option, ...]:
        """Return the options that were given whose value is a password."""
        return tuple(
            option
            for option in self.command.options
            if option.secret and option.name in self.values
        )


JSON: Final = Option("json", "json", None, "print one line of JSON")
"""Every command of every tool takes it."""


def credential(name: str, short: str, what: str) -> tuple[Option, Option, Option]:
    """Return the three ways to give a password without being asked."""
    return (
        Option(name, short, "password", f"{what}; visible to others while this runs", secret=True),
        Option(f"{name}fd", f"{short}fd", "descriptor", f"read {what} as a line from there"),
        Option(f"{name}env", f"{short}env", "variable", f"take {what} from the environment"),
    )


def text_option(name: str, value: str, summary: str, *, required: bool = False) -> Option:
    """Return an option that is known by its name only."""
    return Option(name, name.lower(), value, summary, required)


def truth_option(name: str, summary: str) -> Option:
    """Return an option that is true or false, and true when it stands alone."""
    return Option(name, name.lower(), BOOLEAN, summary)


def read_options(command: Command, words: Sequence[str]) -> dict[str, str]:
    """Return the values of a command's options; raise BadInput naming what is not understood."""
    values: dict[str, str] = {}
    remaining = list(reversed(words))
    while remaining:
        name, equals, value = remaining.pop().partition("=")
        if not name.startswith("-"):
            # It may be a password behind a blank too many, so it is not repeated.
            raise misused(
                f"A word is no option of {command.name}; options are -name=value or -name value."
            )
        option = _named(command, name)
        if option is None:
            raise misused(_unknown(command, name))
        if option.name in values:
            raise misused(f"Option -{option.name} was given twice.")
        if option.value is None and equals:
            raise misused(f"Option -{option.name} takes no value.")
        values[option.name] = value if equals else _following(command, option, remaining)
        _require_text(option, values[option.name])
    for option in command.options:
        if option.required and option.name not in values:
            raise misused(f"{command.name} needs the option -{option.name}=<{option.value}>.")
    return values


def _require_text(option: Option, value: str) -> None:
    """Refuse bytes that are no text, which a password and a file's name may have."""
    if option.secret or option.value == PATH:
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise misused(f"Option -{option.name} must be UTF-8.") from None


def _following(command: Command, option: Option, remaining: list[str]) -> str:
    """Return the value that stands behind an option, which for a password may be any word."""
    if option.value is None:
        return ""
    if option.value == BOOLEAN:
        return "T"
    if remaining and (option.secret or _named(command, remaining[-1].partition("=")[0]) is None):
        return remaining.pop()
    raise misused(f"Option -{option.name} needs a value: -{option.name}=<{option.value}>.")


def _named(command: Command, word: str) -> Option | None:
    if not word.startswith("-"):
        return None
    name = plain_name(word)
    for option in (*command.options, JSON):
        if name in {option.name.lower(), option.short}:
            return option
    return None


def plain_name(word: str) -> str:
    """Return an option's word without its dashes, in lower case: `--password-fd` is passwordfd."""
    return word.lower().replace("-", "")


def _unknown(command: Command, word: str) -> str:
    known = [f"-{option.name}" for option in command.options]
    near = nearest(word, known)
    # A word that is like none may be a password, so it is not repeated.
    shown = f"option {near[1]}" if near and near[1] else "such option"
    takes = f"it takes {', '.join(known)}" if known else "it takes none"
    return f"{command.name} has no {shown}; " + (f"did you mean {near[0]}?" if near else takes)


def find_command(commands: Sequence[Command], word: str, otherwise: str) -> Command:
    """Return the command of this name or short name; raise BadInput with the nearest, or else."""
    for row in commands:
        if word.lower() in {row.words[0].lower(), row.short[0]}:
            return row
    near = nearest(word, [row.name for row in commands])
    hint = f'Did you mean "{near[0]}"?' if near else otherwise
    raise misused(f"There is no such command. {hint}")


def command_help(program: str, commands: Sequence[Command], words: Sequence[str]) -> str:
    """Return the list of commands, or the first word's options; raise BadInput for no command."""
    if words:
        command = find_command(commands, words[0], f"{program} help lists all.")
        head = f"    {program} {command.name}: {command.summary}"
        return "\n".join([head, *option_lines(command)])
    width = max(len(row.name) for row in commands) + 3
    return "\n".join(f"    {row.name:<{width}}{row.short[0]:<8}{row.summary}" for row in commands)


def option_usage(option: Option) -> str:
    """Return how an option is written."""
    return f"-{option.name}" if option.value is None else f"-{option.name}=<{option.value}>"


def option_lines(command: Command) -> list[str]:
    """Return one line of help for each option."""
    lines = []
    for option in command.options:
        other = "" if option.short == option.name.lower() else f" (-{option.short})"
        need = ", needed" if option.required else ""
        lines.append(f"        {option_usage(option):<32}{option.summary}{need}{other}")
    return lines
