"""Split a shell's line into words; LunaSH and LunaCM quote alike."""

from __future__ import annotations

from dataclasses import dataclass

from conclave import faults
from conclave.errors import BadInput


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a line; a quoted one is never an option's name."""

    text: str
    quoted: bool = False

    def __repr__(self) -> str:
        return f"Word(quoted={self.quoted})"


def split_words(line: str) -> list[Word]:
    """Return a line's words; double quotes hold blanks together. Raises BadInput."""
    words: list[Word] = []
    characters: list[str] = []
    begun = was_quoted = quoted = False
    for character in line:
        if character == '"':
            quoted = not quoted
            begun = was_quoted = True
        elif character in " \t\r\n" and not quoted:
            if begun:
                words.append(Word("".join(characters), was_quoted))
            characters, begun, was_quoted = [], False, False
        else:
            characters.append(character)
            begun = True
    if quoted:
        raise BadInput(faults.COMMAND_LINE, "A double quote is not closed.")
    return [*words, Word("".join(characters), was_quoted)] if begun else words
