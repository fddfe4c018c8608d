"""Where LunaCM's lines and passwords come from: a terminal, or standard input without one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO

from conclave import faults
from conclave.errors import BadInput

MAX_LINE_BYTES = 4096


class Cancelled(Exception):
    """The user gave up at a prompt; with the question when nobody was there to answer it."""

    def __init__(self, question: str = "") -> None:
        super().__init__(question)
        self.question = question.rstrip(" :\n").rpartition("\n")[2].strip()

    @property
    def message(self) -> str:
        """Return what became of the command."""
        asked = f"Nobody answered {self.question!r}; " if self.question else ""
        return f"{asked}nothing was done."


class Prompts(Protocol):
    """How questions are asked."""

    def secret(self, text: str) -> str:
        """Return a password; raise Cancelled."""

    def question(self, text: str) -> str:
        """Return an answer; raise Cancelled."""


class TerminalPrompts:
    """Ask at the terminal; passwords are shown as asterisks."""

    def secret(self, text: str) -> str:
        """Return a password; raise Cancelled."""
        return self._ask(text, hidden=True)

    def question(self, text: str) -> str:
        """Return an answer; raise Cancelled."""
        return self._ask(text, hidden=False)

    def _ask(self, text: str, *, hidden: bool) -> str:
        from prompt_toolkit import prompt

        try:
            return prompt(text, is_password=hidden)
        except (KeyboardInterrupt, EOFError) as cause:
            raise Cancelled from cause


class LinePrompts:
    """Take the answers from the lines of standard input, in the order of the questions."""

    def secret(self, text: str) -> str:
        """Return the next line; raise Cancelled at the end."""
        return self.question(text)

    def question(self, text: str) -> str:
        """Return the next line; raise Cancelled at the end."""
        line = read_line(0)
        if line is None:
            raise Cancelled(text)
        return line


def prompts_of(stream: TextIO) -> Prompts:
    """Return how a tool whose standard input this is asks its questions."""
    return TerminalPrompts() if stream.isatty() else LinePrompts()


def read_line(descriptor: int) -> str | None:
    """Return one line without its end, or None at the end; not a byte more is consumed."""
    line = bytearray()
    while len(line) <= MAX_LINE_BYTES:
        byte = os.read(descriptor, 1)
        if byte in {b"", b"\n"}:
            if not byte and not line:
                return None
            return bytes(line).decode("utf-8", "surrogateescape").removesuffix("\r")
        line += byte
    message = f"A line from descriptor {descriptor} is longer than {MAX_LINE_BYTES} bytes."
    raise BadInput(faults.COMMAND_LINE, message)


def given_password(
    values: Mapping[str, str], name: str, environment: Mapping[str, str]
) -> str | None:
    """Return the password that options `name`, `name`fd or `name`env give, or None."""
    given = [option for option in (name, f"{name}fd", f"{name}env") if option in values]
    if len(given) > 1:
        message = f"Options -{given[0]} and -{given[1]} exclude each other."
        raise BadInput(faults.COMMAND_LINE, message)
    if f"{name}fd" in values:
        return _from_descriptor(values[f"{name}fd"])
    if f"{name}env" in values:
        password = environment.get(values[f"{name}env"])
        if password is None:
            message = f"The environment has no variable {values[f'{name}env']!r}."
            raise BadInput(faults.COMMAND_LINE, message)
        return password
    return values.get(name)


def _from_descriptor(text: str) -> str:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        message = f"A descriptor must be a number; it is {text!r}."
        raise BadInput(faults.COMMAND_LINE, message)
    try:
        line = read_line(int(text))
    except OSError as cause:
        message = f"Descriptor {text} cannot be read: {cause.strerror}."
        raise BadInput(faults.COMMAND_LINE, message) from cause
    if line is None:
        message = f"Descriptor {text} holds no password."
        raise BadInput(faults.COMMAND_LINE, message)
    return line


def history_path(environment: Mapping[str, str]) -> Path:
    """Return where the history of commands is kept."""
    return Path(environment.get("HOME") or "/") / ".lunacm_history"
