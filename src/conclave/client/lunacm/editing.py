"""Line editing at the terminal: a history without passwords, and completion by the grammar."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory

from conclave.client.lunacm import grammar


class CarefulHistory(FileHistory):
    """A history file of mode 0600 that never takes a line with a password."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_string(self, string: str) -> None:
        """Keep a line, in memory as well, unless it may hold a password."""
        if not grammar.holds_secret(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Append a line to the file; a home that cannot be written loses only the history."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            super().store_string(string)
        except OSError:
            return


class GrammarCompleter(Completer):
    """Offer commands and options."""

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterator[Completion]:
        """Return what may stand at the cursor."""
        text = document.text_before_cursor
        words = text.split()
        begun = words.pop() if words and not text[-1:].isspace() else ""
        for candidate in grammar.completions(words, begun):
            yield Completion(candidate, start_position=-len(begun))
