"""What the shells read alike: a line's words, and which known word an unknown one was to be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.errors import BadInput

_NEAR: Final = 0.6
"""How alike two words must be (`difflib`) for the one to be offered in place of the other."""
_A_SLIP: Final = 0.75
"""How alike they must be for the unknown one to be shown, which else may be a password."""


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


def nearest(word: str, known: Sequence[str]) -> tuple[str, str] | None:
    """Return the known word that is most like a word, and that word if it may be shown.

    None when none is near.
    """
    by_lower = {each.lower(): each for each in known}
    lower = word[:64].lower()
    near = difflib.get_close_matches(lower, by_lower, n=1, cutoff=_NEAR)
    if not near:
        return None
    alike = difflib.SequenceMatcher(None, lower, near[0]).ratio()
    is_a_slip = alike >= _A_SLIP and all(each in "-?" or each.isalpha() for each in lower)
    return by_lower[near[0]], word[:64] if is_a_slip else ""
