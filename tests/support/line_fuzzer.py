"""Throw mutated command lines at everything that reads a line of LunaSH.

Seeds are all commands with all their options.  A finding is any exception but the refusal of a
line, a refusal of more than MAX_MESSAGE characters, one that repeats the value of a secret option,
and a value that comes out otherwise than it went in.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import msgspec

from conclave.errors import BadInput, ConclaveError
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

MAX_MESSAGE: Final = 2000
CANARY: Final = "Canary-Passw0rd"
"""The value of each secret option; no refusal may repeat it."""
LOOK_EVERY: Final = 256
PIECES: Final = (
    *('"', "'", "\\", " ", "\t", "-", "--", "-1", "?", "help", ";", "|", "&", "$(id)", "`id`"),
    *("\x00", "\x1b[A", "\x7f", "\u202e", "\ud800", "é", "İ", "ß", "%s", "{0}", "\n", "\r"),
    "0" * 19,
)


@dataclass
class Report:
    """What a run came to."""

    inputs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """How the lines ended: understood, refused, help, arguments refused."""
    findings: list[str] = field(default_factory=list)


class LineFuzzer:
    """A seeded run; the same seed tries the same lines."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)
        self._root = make_tree(COMMANDS)
        self._words = sorted({word for command in COMMANDS for word in command.path})

    def run(self, *, seconds: float, inputs: int | None = None) -> Report:
        """Try lines for so long, or so many."""
        report = Report()
        deadline = time.monotonic() + seconds
        while inputs is None or report.inputs < inputs:
            if report.inputs % LOOK_EVERY == 0 and time.monotonic() > deadline:
                break
            line = self._line()
            report.inputs += 1
            try:
                report.ends[self._try(line)] += 1
            except Exception as error:  # noqa: BLE001 - it is what is looked for
                report.findings.append(f"{type(error).__name__}: {error} of {line[:500]!r}")
        return report

    def _try(self, line: str) -> str:
        begun, offered = completions(line, self._root)
        if not all(each.lower().startswith(begun.lower()) for each in offered):
            raise AssertionError(f"completion offers {offered}")
        secret = holds_secret(line, self._root)
        try:
            words = read_line(line)
            if not words:
                return "empty"
            parsed = parse(words, self._root)
        except BadInput as error:
            _check(error, line)
            return "refused"
        if isinstance(parsed, HelpWanted):
            help_lines(parsed.node)
            return "help"
        if CANARY in line and not secret and _given_secret(parsed):
            raise AssertionError("a history would keep a secret")
        return self._arguments(parsed, line)

    def _arguments(self, parsed: Invocation, line: str) -> str:
        """Go on as the execution does, up to the operation."""
        command = parsed.command
        answers = {
            option.name: _value(option, parsed.values[option.name])
            for option in command.all_options
            if option.name in parsed.values
        }
        try:
            require_one_each(command, answers)
            path_of(command, answers)
            if command.run is None:
                (operation,) = operations_of(command)
                decode_arguments(operation, msgspec.json.encode(fill(command, answers)))
        except BadInput as error:
            _check(in_the_words_of(command, error), line)
            return "arguments refused"
        return "understood"

    # ---- lines

    def _line(self) -> str:
        draw = self._random
        if draw.random() < 0.001:
            return draw.choice(("x", '"', " ", "é")) * (MAX_LINE_BYTES + draw.randint(-2, 2))
        words = self._seed(draw.choice(COMMANDS))
        for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
            self._mutate(words)
        line = " ".join(words)
        if draw.random() < 0.3 and line:
            place = draw.randrange(len(line))
            line = line[:place] + draw.choice((*PIECES, "")) + line[place + draw.randint(0, 3) :]
        return line

    def _seed(self, command: Command) -> list[str]:
        words = list(command.path)
        for option in command.all_options:
            if self._random.random() < 0.7:
                name = option.short if option.short and self._random.random() < 0.3 else option.name
                words += [] if option.positional else [f"-{name}"]
                words += [] if option.kind is Kind.FLAG else [self._sample(option)]
        return words

    def _sample(self, option: Option) -> str:
        if option.kind in SECRETS:
            return CANARY
        if option.kind is Kind.CHOICE:
            return self._random.choice(option.choices)
        if option.kind is Kind.NUMBER:
            return str(self._random.choice((0, 1, 7, 100, 10**9, 10**18)))
        return self._random.choice(("par", '"a b"', "192.0.2.1", "7:09:30", "x" * 300))

    def _mutate(self, words: list[str]) -> None:
        draw = self._random
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


def _value(option: Option, text: str) -> object:
    if option.kind is Kind.FLAG:
        return True
    return int(text) if option.kind is Kind.NUMBER else text


def _given_secret(parsed: Invocation) -> bool:
    options = parsed.command.all_options
    return any(each.kind in SECRETS and each.name in parsed.values for each in options)


def _check(error: ConclaveError, line: str) -> None:
    if len(error.message) > MAX_MESSAGE:
        raise AssertionError(f"a refusal of {len(error.message)} characters")
    if CANARY in line and CANARY in error.message:
        raise AssertionError(f"a secret in a refusal: {error.message}")
