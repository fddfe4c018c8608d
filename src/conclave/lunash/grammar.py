"""The language of LunaSH: pure functions that read a line by the declared commands.

Commands and options ignore case, values keep it.  Any unambiguous beginning of a word or an option
is understood; a whole word wins over the longer ones that it begins.  A word that is no command may
be a mistyped password, so it is named in an answer only when it nearly is one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.operations.commands import SECRETS, Command, Kind, Option
from conclave.packages.manifest import CLUSTER_PACKAGE
from conclave.shell_words import Word, nearest, split_words

MAX_LINE_BYTES: Final = 64 * 1024
HELP_WORDS: Final = frozenset({"?", "help"})


@dataclass(slots=True)
class Node:
    """One word of the tree of commands."""

    words: tuple[str, ...] = ()
    command: Command | None = None
    children: dict[str, Node] = field(default_factory=dict)
    """By the next word in lower case, in the order of declaration."""
    absent: frozenset[str] = frozenset()
    """Words of a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command with what was given to its options; flags stand there with an empty text."""

    command: Command
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Invocation({self.command.words!r})"


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """Help on a node of the tree."""

    node: Node
    incomplete: bool = False
    """A subcommand is missing: nobody asked for help."""


def make_tree(commands: Iterable[Command], absent: Iterable[Command] = ()) -> Node:
    """Return the tree of commands; raise ValueError when two have the same words."""
    root = Node(absent=frozenset(command.path[0].lower() for command in absent))
    for command in commands:
        node = root
        for depth, word in enumerate(command.path, start=1):
            node = node.children.setdefault(word.lower(), Node(command.path[:depth]))
        if node.command is not None:
            raise ValueError(f"The command {command.words!r} is declared twice.")
        node.command = command
    return root


def read_line(line: str) -> list[Word]:
    """Return the words of a line; raise BadInput for what no line may hold."""
    if len(line.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES:
        raise _bad(f"A line may have {MAX_LINE_BYTES} bytes at most; this one is longer.")
    for place, character in enumerate(line, start=1):
        if character != "\t" and unicodedata.category(character) in {"Cc", "Cs", "Co"}:
            raise _bad(f"The line holds a control character, U+{ord(character):04X}, at {place}.")
    return split_words(line)


def parse(words: Sequence[Word], root: Node) -> Invocation | HelpWanted:
    """Return what the words ask for; raise BadInput naming what is not understood."""
    if words[0].text.lower() in HELP_WORDS and not words[0].quoted:
        return HelpWanted(_descend_all(words[1:], root))
    node, rest = _descend(words, root)
    if rest and not rest[0].quoted and rest[0].text.lower() in HELP_WORDS and len(rest) == 1:
        return HelpWanted(node)
    if node.command is None:
        if not rest:
            return HelpWanted(node, incomplete=True)
        raise _unknown_word(rest[0], node)
    return Invocation(node.command, _values(node, rest))


def find_option(command: Command, word: Word) -> Option:
    """Return the option that a word names; raise BadInput."""
    options = [option for option in command.all_options if not option.positional]
    name = word.text[1:].lower()
    for option in options:
        if name in (option.name.lower(), option.short.lower()) and name:
            return option
    begun = [option for option in options if name and option.name.lower().startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        names = ", ".join(f"-{option.name}" for option in begun)
        raise _bad(f"Option -{name} of '{command.words}' is ambiguous: {names}.")
    known = [f"-{option.name}" for option in options]
    near = nearest(word.text, known)
    what = f"option {near[1]}" if near and near[1] else "such option"
    hint = f"; did you mean {near[0]}?" if near else "."
    takes = f" It takes {', '.join(known)}." if known else " It takes none."
    raise _bad(f"'{command.words}' has no {what}{hint}{takes}")


def holds_secret(line: str, root: Node) -> bool:
    """Tell whether a line may hold a secret, so that no history keeps it."""
    try:
        parsed = parse(read_line(line), root)
    except (BadInput, IndexError):
        return True
    if isinstance(parsed, HelpWanted):
        return False
    return any(o.kind in SECRETS and o.name in parsed.values for o in parsed.command.all_options)


def match_words(node: Node, begun: str) -> list[Node]:
    """Return the children that a word means: the one that it spells, or all that it begins."""
    exact = node.children.get(begun)
    if exact is not None:
        return [exact]
    return [child for name, child in node.children.items() if begun and name.startswith(begun)]


# ---------------------------------------------------------------- words


def _descend(words: Sequence[Word], root: Node) -> tuple[Node, Sequence[Word]]:
    """Return the node that the first words name, and the words after them."""
    node = root
    for place, word in enumerate(words):
        if word.quoted or word.text.startswith("-"):
            return node, words[place:]
        found = match_words(node, word.text.lower())
        takes_words = node.command is not None and any(o.positional for o in node.command.options)
        if takes_words and word.text.lower() not in node.children:
            return node, words[place:]
        if len(found) > 1:
            names = ", ".join(" ".join(each.words) for each in found)
            raise _bad(f"The word {found[0].words[-1][: len(word.text)]!r} is ambiguous: {names}.")
        if not found:
            return node, words[place:]
        node = found[0]
    return node, ()


def _descend_all(words: Sequence[Word], root: Node) -> Node:
    node, rest = _descend(words, root)
    if rest:
        raise _unknown_word(rest[0], node)
    return node


def _unknown_word(word: Word, node: Node) -> BadInput:
    place = f"'{' '.join(node.words)}' has no such subcommand" if node.words else "Unknown command"
    if word.text.lower() in node.absent:
        return _bad(
            f"Unknown command. '{word.text.lower()}' is there in sessions that open once the"
            f" package {CLUSTER_PACKAGE} is installed."
        )
    near = nearest(word.text, [child.words[-1] for child in node.children.values()])
    if near is None:
        known = ", ".join(child.words[-1] for child in node.children.values())
        return _bad(f"{place}. There are: {known}.")
    meant = " ".join((*node.words, near[0]))
    shown = f": {near[1]!r}" if near[1] else ""
    return _bad(f"{place}{shown}. Did you mean '{meant}'?")


# ---------------------------------------------------------------- options


def _values(node: Node, words: Sequence[Word]) -> dict[str, str]:
    command = node.command
    assert command is not None  # noqa: S101 - the caller looked
    values: dict[str, str] = {}
    places = iter([option for option in command.options if option.positional])
    remaining = iter(words)
    for word in remaining:
        if word.text.startswith("-") and not word.quoted:
            option = find_option(command, word)
        else:
            positional = next(places, None)
            if positional is None:
                raise _superfluous(word, node)
            option = positional
        if option.name in values:
            raise _bad(f"Option -{option.name} was given twice.")
        values[option.name] = _value(command, option, word, remaining)
    return values


def _superfluous(word: Word, node: Node) -> BadInput:
    if node.children:
        return _unknown_word(word, node)
    names = [f"-{o.name}" for o in node.command.all_options] if node.command else []
    takes = f"it takes {', '.join(names)}" if names else "it takes no options"
    return _bad(f"'{' '.join(node.words)}' was given a word too many; {takes}.")


def _value(command: Command, option: Option, word: Word, remaining: Iterator[Word]) -> str:
    if option.positional:
        return _checked(option, word.text)
    if option.kind is Kind.FLAG:
        return ""
    value = next(remaining, None)
    if value is None or _is_option(command, value):
        raise _bad(f"Option -{option.name} needs a value: <{option.value}>.")
    return _checked(option, value.text)


def _is_option(command: Command, word: Word) -> bool:
    names = {f"-{option.name.lower()}" for option in command.all_options}
    return not word.quoted and word.text.lower() in names


def _checked(option: Option, text: str) -> str:
    name = f"<{option.value}>" if option.positional else f"-{option.name}"
    if option.kind is Kind.NUMBER and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise _bad(f"{name} must be a number; it is {text[:32]!r}.")
    if option.kind is Kind.CHOICE:
        for choice in option.choices:
            if choice.lower() == text.lower():
                return choice
        choices = ", ".join(option.choices)
        raise _bad(f"{name} must be one of {choices}; it is {text[:32]!r}.")
    return text


def _bad(message: str) -> BadInput:
    return BadInput(faults.COMMAND_LINE, message)
