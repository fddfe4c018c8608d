"""Mutated command lines for everything that reads a line of LunaSH; `input_fuzzer` tries them.

Seeds are all commands with all their options.  A finding is any exception but the refusal of a
line, a refusal of more than MAX_MESSAGE characters, one that repeats the value of a secret option,
and a line with a secret that a history would keep.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Final

import msgspec

from conclave.errors import BadInput
from conclave.lunash.arguments import fill, in_the_words_of, path_of, require_one_each
from conclave.lunash.catalogue import COMMANDS, operations_of
from conclave.lunash.completion import completions
from conclave.lunash.grammar import (
    MAX_LINE_BYTES,
    HelpWanted,
    Invocation,
    holds_secret,
    make_tree,
    parse,
    read_line,
)
from conclave.lunash.help import help_lines
from conclave.operations.calling import decode_arguments
from conclave.operations.commands import SECRETS, Command, Kind, Option
from conclave.shell_words import Word

MAX_MESSAGE: Final = 2000
CANARY: Final = "Canary-Passw0rd"
"""The value of each secret option; no refusal may repeat it."""
FITTING: Final = {
    "ipaddress": "192.0.2.1",
    "clusteripaddress": "192.0.2.1",
    "fingerprint": "c5" * 32,
}
"""What an option wants that does not take any name."""
_VALUE: Final = re.compile(
    r"(?P<option>\S+) must be (?:a number|one of .*); it is (?P<value>.*)\.$"
)
_RULE: Final = re.compile(r"^(?P<option>\S+) breaks a rule: .*, got (?P<value>'.*')\.$")
_SECRET_NAMES: Final = {
    f"-{option.name}"
    for command in COMMANDS
    for option in command.all_options
    if option.kind in SECRETS
}
PIECES: Final = (
    *('"', "'", "\\", " ", "\t", "-", "--", "-1", "?", "help", ";", "|", "&", "$(id)", "`id`"),
    *("\x00", "\x1b[A", "\x7f", "\u202e", "\ud800", "é", "İ", "ß", "%s", "{0}", "\n", "\r"),
    "0" * 19,
)


class LineTrial:
    """Reads one mutated line as far as the arguments of an operation."""

    def __init__(self) -> None:
        self._root = make_tree(COMMANDS)
        self._words = sorted({word for command in COMMANDS for word in command.path})

    def __call__(self, rng: random.Random, _directory: Path) -> None:
        """Read a mutated line; raise BadInput when it is refused as it should be."""
        self.read(self._line(rng))

    def read(self, line: str) -> None:
        """Read a line; raise BadInput when it is refused as it should be."""
        begun, offered = completions(line, self._root)
        if not all(each.lower().startswith(begun.lower()) for each in offered):
            raise AssertionError(f"completion offers {offered} after {line[:500]!r}")
        is_secret = holds_secret(line, self._root)
        try:
            parsed = parse(read_line(line) or [Word("?")], self._root)
            if isinstance(parsed, HelpWanted):
                help_lines(parsed.node)
                return
            if _gives_secret(parsed) and not is_secret:
                raise AssertionError(f"a history would keep {line[:500]!r}")
            _decode(parsed)
        except BadInput as refusal:
            if len(refusal.message) > MAX_MESSAGE:
                raise AssertionError(f"a refusal is {len(refusal.message)} long") from None
            if CANARY in refusal.message and CANARY not in _named_value(refusal.message):
                raise AssertionError(f"a secret in a refusal of {line[:500]!r}") from None
            raise

    # ---- lines

    def _line(self, draw: random.Random) -> str:
        if draw.random() < 0.001:
            return draw.choice(("x", '"', " ", "é")) * (MAX_LINE_BYTES + draw.randint(-2, 2))
        words = seed_words(draw, draw.choice(COMMANDS))
        for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
            self._mutate(draw, words)
        line = " ".join(words)
        if draw.random() < 0.3 and line:
            place = draw.randrange(len(line))
            line = line[:place] + draw.choice((*PIECES, "")) + line[place + draw.randint(0, 3) :]
        return line

    def _mutate(self, draw: random.Random, words: list[str]) -> None:
        place = draw.randrange(len(words)) if words else 0
        match draw.randrange(7):
            case 0 if words:
                del words[place]
            case 1 if words:
                words.insert(place, words[draw.randrange(len(words))])
            case 2 if words:
                words[place] = words[place][: draw.randint(0, len(words[place]))]
            case 3 if words:
                words[place] = words[place].swapcase()
            case 4:
                words.insert(place, draw.choice(PIECES))
            case 5:
                words.insert(place, draw.choice(self._words))
            case 6:
                draw.shuffle(words)


def _named_value(message: str) -> str:
    """Return the value that a refusal names: one of an option that is no secret."""
    named = _VALUE.search(message) or _RULE.search(message)
    return "" if named is None or named["option"] in _SECRET_NAMES else named["value"]


def seed_words(draw: random.Random, command: Command) -> list[str]:
    """Return a command with few, most or all of its options, and values that mostly fit."""
    words, share = list(command.path), draw.choice((0.3, 0.7, 1.0))
    for option in command.all_options:
        if draw.random() < share:
            name = option.short if option.short and draw.random() < 0.3 else option.name
            words += [] if option.positional else [f"-{name}"]
            words += [] if option.kind is Kind.FLAG else [_sample(draw, option)]
    return words


def _sample(draw: random.Random, option: Option) -> str:
    if option.kind in SECRETS:
        return CANARY
    if option.kind is Kind.CHOICE:
        return draw.choice(option.choices)
    if option.kind is Kind.NUMBER:
        return str(draw.choice((1, 1, 1, 1, 7, 100, 0, 10**9, 10**18)))
    if draw.random() < 0.6:
        return FITTING.get(option.name, "par")
    return draw.choice(("par", '"a b"', "192.0.2.1", "7:09:30", "x" * 300))


def _decode(parsed: Invocation) -> None:
    """Go on as the execution does, up to the operation."""
    command = parsed.command
    answers = {
        option.name: _value(option, parsed.values[option.name])
        for option in command.all_options
        if option.name in parsed.values
    }
    require_one_each(command, answers)
    path_of(command, answers)
    if command.run is None:
        (operation,) = operations_of(command)
        try:
            decode_arguments(operation, msgspec.json.encode(fill(command, answers)))
        except BadInput as error:
            raise in_the_words_of(command, error) from None


def _value(option: Option, text: str) -> object:
    if option.kind is Kind.FLAG:
        return True
    return int(text) if option.kind is Kind.NUMBER else text


def _gives_secret(parsed: Invocation) -> bool:
    options = parsed.command.all_options
    return any(each.kind in SECRETS and each.name in parsed.values for each in options)
