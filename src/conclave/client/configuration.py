"""Chrystoki.conf: sections of `name = value;` lines, read and edited in place; crystoki.ini too.

Invariant: an edit changes the values it is asked to change and the lines it adds or removes;
every other byte of the file stays as it was, and the file is replaced whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from conclave import faults
from conclave.client.configuration_parts import Entry, Section, text_of
from conclave.client.ini_configuration import ini_insertion, ini_lines, parse_ini
from conclave.errors import BadInput

FILE_NAME: Final = "Chrystoki.conf"
INI_NAME: Final = "crystoki.ini"
DIRECTORY_VARIABLE: Final = "ChrystokiConfigurationPath"
DEFAULT_DIRECTORY: Final = Path("/etc")
SERVER_VARIABLE: Final = "CONCLAVE_SERVER"
SECTION: Final = "LunaSA Client"
ENVIRONMENT_ENTRIES: Final = {
    SERVER_VARIABLE: "LNHServer00",
    "CONCLAVE_CLIENT_CERT_FILE": "LNHServerClientCert00",
    "CONCLAVE_CLIENT_KEY_FILE": "LNHServerClientKey00",
    "CONCLAVE_CA_FILE": "LNHServerCAFile00",
    "CONCLAVE_SERVER_CN": "LNHServerCN00",
    "CONCLAVE_SERVER_SOCKET": "LNHServerSocket00",
    "CONCLAVE_RECEIVE_TIMEOUT": "ReceiveTimeout",
    "CONCLAVE_TCP_KEEPALIVE": "TCPKeepAlive",
    "CONCLAVE_LNH_DIRECT": "LNHDirect",
}
"""What a host without a place to write a file to says instead, as the PKCS#11 module reads it."""
LOCK_NAME: Final = ".Chrystoki.conf.lock"
LOCK_SECONDS: Final = 20.0
MAX_FILE_BYTES: Final = 1 << 20
_BLANK: Final = re.compile(rb"(?:[ \t\r\n]+|#[^\n]*)*")
_SECTION: Final = re.compile(rb"([^={};#\r\n]+?)[ \t]*=[ \t\r\n]*\{")
_ENTRY: Final = re.compile(rb"([^={};#\r\n]+?)[ \t]*=[ \t]*([^;{}\r\n]*?)[ \t]*;")
_NAME: Final = re.compile(r"[A-Za-z0-9_ .-]{1,64}")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file; `raw` is what it was parsed from."""

    raw: bytes
    sections: tuple[Section, ...]
    entries: tuple[Entry, ...]
    ini: bool = False
    """Whether its grammar is that of crystoki.ini."""

    def get(self, section: str, name: str) -> str | None:
        """Return an entry's value, or None; of several with one name the last counts."""
        found = self.find(section, name)
        return found[-1].value if found else None

    def find(self, section: str, name: str) -> tuple[Entry, ...]:
        """Return all entries of that section and name."""
        return tuple(e for e in self.entries if e.section == section and e.name == name)


def configuration_path(environment: Mapping[str, str]) -> Path:
    """Return where Chrystoki.conf is expected: ChrystokiConfigurationPath names its directory.

    If only crystoki.ini is there, it is that.
    """
    directory = Path(environment.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)
    path, ini = directory / FILE_NAME, directory / INI_NAME
    try:
        return ini if ini.is_file() and not path.exists() else path
    except OSError:
        # Who reads it will be told why it cannot be read.
        return path


def client_configuration(environment: Mapping[str, str]) -> Document:
    """Return what the client is configured with: by CONCLAVE_SERVER and its like, or by the file.

    Raises BadInput when the file cannot be read, or when a value does not fit.
    """
    if not environment.get(SERVER_VARIABLE):
        return read_document(configuration_path(environment))
    values = {
        entry: environment[variable].strip()
        for variable, entry in ENVIRONMENT_ENTRIES.items()
        if environment.get(variable)
    }
    return set_entries(parse(b""), SECTION, values)


def read_document(path: Path) -> Document:
    """Read and parse a file; raise BadInput when it cannot be read or breaks the grammar."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as cause:
        first = "; register this client first" if isinstance(cause, FileNotFoundError) else ""
        message = f"The client configuration {path} cannot be read: {cause.strerror}{first}."
        raise BadInput(faults.CLIENT_CONFIGURATION, message) from cause
    if len(raw) > MAX_FILE_BYTES:
        message = f"The client configuration {path} is larger than {MAX_FILE_BYTES} bytes."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    return parse(raw, ini=path.suffix == ".ini")


def parse(raw: bytes, *, ini: bool = False) -> Document:
    """Parse a file's bytes; raise BadInput naming the line that breaks the grammar."""
    if ini:
        return Document(raw, *parse_ini(raw), ini=True)
    sections: list[Section] = []
    entries: list[Entry] = []
    position = _skip_blank(raw, 0)
    while position < len(raw):
        opening = _SECTION.match(raw, position)
        if opening is None:
            _refuse(raw, position, "'Name = {' is expected")
        name = text_of(opening.group(1))
        position = _parse_body(raw, opening.end(), name, entries)
        sections.append(Section(name, opening.end(), position))
        position = _skip_blank(raw, position + 1)
    return Document(raw, tuple(sections), tuple(entries))


def set_entries(document: Document, section: str, values: Mapping[str, str]) -> Document:
    """Return the document with these entries set: in place where they stand, else at the end.

    A missing section is added at the end of the file. Raises BadInput for a value that the
    grammar cannot hold, and for an entry that stands twice.
    """
    edits: list[tuple[int, int, bytes]] = []
    missing: dict[str, str] = {}
    for name, value in values.items():
        _check_words(name, value)
        found = document.find(section, name)
        if len(found) > 1:
            message = (
                f"Entry {name} stands {len(found)} times in section {section}; remove all but one."
            )
            raise BadInput(faults.CLIENT_CONFIGURATION, message)
        if found:
            edits.append((found[0].value_start, found[0].value_end, value.encode()))
        else:
            missing[name] = value
    if missing:
        edits.append(_insertion(document, section, missing))
    return parse(_apply(document.raw, edits), ini=document.ini)


def remove_entries(document: Document, section: str, names: Sequence[str]) -> Document:
    """Return the document without these entries; a line that held nothing else goes with it."""
    edits = []
    for name in names:
        for entry in document.find(section, name):
            start, end = _whole_line(document.raw, entry.start, entry.end)
            edits.append((start, end, b""))
    return parse(_apply(document.raw, edits), ini=document.ini)


def write_document(document: Document, path: Path) -> None:
    """Replace the file atomically, keeping its mode and owner; a new file gets mode 0644."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(document.raw)
            stream.flush()
            _copy_rights(target, stream.fileno())
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, *, patience_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Keep other runs, of the script too, from editing a file; raise OSError or BadInput.

    The lock is a directory beside the file, which the script can make as well.
    """
    lock = path.resolve().with_name(LOCK_NAME)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            if time.monotonic() >= deadline:
                message = f"{lock} stands for another run; if there is none, remove it."
                raise BadInput(faults.COMMAND_LINE, message) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.rmdir()


def _copy_rights(target: Path, descriptor: int) -> None:
    try:
        present = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)
        return
    if (present.st_uid, present.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, present.st_uid, present.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(present.st_mode))


def _parse_body(raw: bytes, position: int, section: str, entries: list[Entry]) -> int:
    """Collect a section's entries and return where its closing brace stands."""
    while True:
        position = _skip_blank(raw, position)
        if position >= len(raw):
            _refuse(raw, position, f"section {section} is not closed with '}}'")
        if raw[position : position + 1] == b"}":
            return position
        found = _ENTRY.match(raw, position)
        if found is None:
            _refuse(raw, position, "'name = value;' is expected")
        value_start, value_end = found.span(2)
        name, value = text_of(found.group(1)), text_of(found.group(2))
        start, position = found.span()
        entries.append(Entry(section, name, value, start, value_start, value_end, position))


def _insertion(
    document: Document, section: str, values: Mapping[str, str]
) -> tuple[int, int, bytes]:
    raw = document.raw
    newline = b"\r\n" if b"\r\n" in raw else b"\n"
    own = next((s for s in document.sections if s.name == section), None)
    if document.ini:
        last = next((e for e in reversed(document.entries) if e.section == section), None)
        lines = ini_lines(values, newline)
        at, text = ini_insertion(raw, own, last, section, lines)
        return at, at, text
    if own is None:
        lines = _lines(values, b"    ", newline)
        head = newline if raw and not raw.endswith(b"\n") else b""
        text = head + section.encode() + b" = {" + newline + lines + b"}" + newline
        return len(raw), len(raw), text
    siblings = [e for e in document.entries if own.body_start <= e.start < own.body_end]
    after = siblings[-1].end if siblings else own.body_start
    indent = _indent(raw, siblings[-1].start) if siblings else b"    "
    end_of_line = _BLANK_TO_NEWLINE.match(raw, after)
    if end_of_line is not None:
        return end_of_line.end(), end_of_line.end(), _lines(values, indent, newline)
    return after, after, newline + _lines(values, indent, newline)


_BLANK_TO_NEWLINE: Final = re.compile(rb"[ \t]*(?:#[^\n]*)?\r?\n")


def _lines(values: Mapping[str, str], indent: bytes, newline: bytes) -> bytes:
    return b"".join(
        indent + name.encode() + b" = " + value.encode() + b";" + newline
        for name, value in values.items()
    )


def _indent(raw: bytes, start: int) -> bytes:
    line_start = raw.rfind(b"\n", 0, start) + 1
    lead = raw[line_start:start]
    return lead if not lead.strip() else b"    "


def _whole_line(raw: bytes, start: int, end: int) -> tuple[int, int]:
    line_start = raw.rfind(b"\n", 0, start) + 1
    rest = re.compile(rb"[ \t]*\r?\n").match(raw, end)
    if rest is not None and not raw[line_start:start].strip():
        return line_start, rest.end()
    return start, end


def _apply(raw: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for start, end, text in sorted(edits, key=lambda edit: edit[0], reverse=True):
        raw = raw[:start] + text + raw[end:]
    return raw


def _skip_blank(raw: bytes, position: int) -> int:
    found = _BLANK.match(raw, position)
    return found.end() if found else position


def _check_words(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        message = f"Entry name {name!r} must be 1 to 64 letters, digits, blanks and _.- signs."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    if re.search(r"[;{}\r\n\0]", value) or value != value.strip(" \t"):
        message = f"Entry {name} cannot hold ; {{ }} line ends or outer blanks: {value!r}."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)


def _refuse(raw: bytes, position: int, rule: str) -> NoReturn:
    line = raw.count(b"\n", 0, position) + 1
    message = f"The client configuration breaks the grammar in line {line}: {rule}."
    raise BadInput(faults.CLIENT_CONFIGURATION, message)
