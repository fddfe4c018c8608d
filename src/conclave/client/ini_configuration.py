"""crystoki.ini: what Chrystoki.conf is on Windows, `[Section]` and `name=value` on a line each.

A line that begins with `;` or `#` is a comment; a value reaches to the end of its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from conclave import faults
from conclave.client.configuration_parts import Entry, Section, text_of
from conclave.errors import BadInput

_SECTION: Final = re.compile(rb"[ \t]*\[([^\]\r\n]+)\][ \t]*\r?\n?")
_ENTRY: Final = re.compile(rb"[ \t]*([^=;#\[\r\n][^=\r\n]*)=[ \t]*([^\r\n]*)")
_NOTHING: Final = re.compile(rb"[ \t]*(?:[;#][^\n]*)?\r?\n?")


def parse_ini(raw: bytes) -> tuple[tuple[Section, ...], tuple[Entry, ...]]:
    """Return sections and entries; raise BadInput naming the line that breaks the grammar."""
    sections: list[Section] = []
    entries: list[Entry] = []
    name, body_start, position = "", 0, 0
    while position < len(raw):
        end = _end_of_line(raw, position)
        line = raw[position:end]
        if heading := _SECTION.fullmatch(line):
            if name:
                sections.append(Section(name, body_start, position))
            name, body_start = text_of(heading.group(1).strip()), end
        elif not _NOTHING.fullmatch(line):
            found = _ENTRY.match(raw, position, end)
            if found is None or not name:
                _refuse(raw, position, "'name=value' below a '[Section]' is expected")
            entries.append(_entry(name, found))
        position = end
    if name:
        sections.append(Section(name, body_start, len(raw)))
    return tuple(sections), tuple(entries)


def ini_lines(values: Mapping[str, str], newline: bytes) -> bytes:
    """Return entries as lines."""
    return b"".join(f"{name}={value}".encode() + newline for name, value in values.items())


def ini_insertion(
    raw: bytes, own: Section | None, last: Entry | None, section: str, lines: bytes
) -> tuple[int, bytes]:
    """Return where to insert lines of a section, and what to insert there."""
    newline = b"\r\n" if b"\r\n" in raw else b"\n"
    if own is None:
        head = newline if raw and not raw.endswith(b"\n") else b""
        return len(raw), head + b"[" + section.encode() + b"]" + newline + lines
    at = own.body_start if last is None else _end_of_line(raw, last.start)
    return at, lines if raw[:at].endswith(b"\n") else newline + lines


def _entry(section: str, found: re.Match[bytes]) -> Entry:
    value_start = found.start(2)
    value_end = value_start + len(found.group(2).rstrip(b" \t"))
    name, value = text_of(found.group(1).strip()), text_of(found.group(2).rstrip(b" \t"))
    return Entry(section, name, value, found.start(1), value_start, value_end, value_end)


def _end_of_line(raw: bytes, position: int) -> int:
    found = raw.find(b"\n", position)
    return len(raw) if found < 0 else found + 1


def _refuse(raw: bytes, position: int, rule: str) -> NoReturn:
    line = raw.count(b"\n", 0, position) + 1
    message = f"The client configuration breaks the grammar in line {line}: {rule}."
    raise BadInput(faults.CLIENT_CONFIGURATION, message)
