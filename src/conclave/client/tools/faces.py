"""How a tool shows what came of a command: as sentences, or as one line of JSON for scripts."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from conclave.client.refusals import ckr_name
from conclave.client.tools.statuses import Status, next_step, status_of
from conclave.errors import ConclaveError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command, for people and for programs."""

    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    status: Status = Status.SUCCEEDED
    complaints: tuple[str, ...] = ()
    """What did not stop the command but has to be told."""


class Face(Protocol):
    """Shows outcomes and errors."""

    def show(self, command: str, outcome: Outcome) -> None:
        """Show what came of a command."""

    def refuse(self, command: str, error: ConclaveError) -> None:
        """Show why a command failed; without a command's name it was not understood."""

    def cancelled(self, command: str, message: str) -> None:
        """Show that the user gave up, or that nobody was there to answer."""


class PlainFace:
    """Results go to standard output, complaints to standard error."""

    def show(self, _command: str, outcome: Outcome) -> None:
        """Print text and complaints."""
        if outcome.text:
            write(outcome.text + "\n")
        for line in outcome.complaints:
            complain(line)

    def refuse(self, _command: str, error: ConclaveError) -> None:
        """Print the sentence, the return value's name, and what to do next."""
        complain(complaint(error))

    def cancelled(self, _command: str, message: str) -> None:
        """Say so."""
        complain(f"Cancelled: {message}")


class JsonFace:
    """One line of JSON on standard output for each command, whatever came of it."""

    def show(self, command: str, outcome: Outcome) -> None:
        """Print the data."""
        document = {"command": command, **_ended(outcome.status), "result": dict(outcome.data)}
        if outcome.complaints:
            document["complaints"] = list(outcome.complaints)
        _print(document)

    def refuse(self, command: str, error: ConclaveError) -> None:
        """Print the error."""
        told = {
            "name": ckr_name(error.fault.ckr),
            "value": int(error.fault.ckr),
            "message": error.message,
            "next": next_step(error),
        }
        _print({"command": command, **_ended(status_of(error)), "error": told})

    def cancelled(self, command: str, message: str) -> None:
        """Print the status."""
        _print({"command": command, **_ended(Status.CANCELLED), "message": message})


def complaint(error: ConclaveError) -> str:
    """Return an error for people: the sentence, its name, and what to do next."""
    name, then = ckr_name(error.fault.ckr), next_step(error)
    named = "" if name in error.message else f" ({name})"
    return f"Error: {error.message}{named}" + (f"\n{then}" if then else "")


def printable(text: str) -> str:
    """Return another's text, as a label is, without signs that move a cursor or begin a line."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def write(text: str) -> None:
    """Print text at once, so that it stands in order with what the terminal shows."""
    sys.stdout.write(text)
    sys.stdout.flush()


def complain(line: str) -> None:
    """Print a line to standard error; if it is lost, the status tells enough."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _ended(status: Status) -> dict[str, Any]:
    return {"status": int(status), "statusName": status.name}


def _print(document: Mapping[str, Any]) -> None:
    # In ASCII, which every terminal has, and which tells even of bytes that are no text.
    write(json.dumps(document, separators=(",", ":")) + "\n")
