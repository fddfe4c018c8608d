"""Keyrings as a worker keeps them: rows, decrypted objects, loaded keys, and an index to find them.

Invariant: what is decrypted under a keyring's key KK is reachable only through an `Unlocked`, which
only a proven KK leads to (rule C10).  A decrypted object is kept over a refresh only while its id
and the AEAD tag of its blob are unchanged.  A public object reaches a logged-in role only after
its MAC under KK was checked (rule C6).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from conclave import faults
from conclave.crypto.ready_key import ReadyKey, load_key
from conclave.crypto.seal import SealBroken
from conclave.crypto.standard import Cka
from conclave.errors import InternalFault, NotFound
from conclave.ids import ClientId, KeyringId, LoginId, ObjectId, RowRevision
from conclave.keyring.attributes import Attributes, decode_attributes
from conclave.keyring.objects import matches
from conclave.service.object_seal import ObjectName, PrivateSeal, PublicSeal, tag_of
from conclave.service.page import keyring_word
from conclave.service.session_objects import SessionSeal
from conclave.service.store_reader import LoadedKeyring
from conclave.service.tickets import Ticket
from conclave.store.rows import KeyringRow, ObjectRow

MAX_SESSIONS: Final = 1024
INDEXED: Final = (Cka.LABEL, Cka.ID, Cka.CLASS)
_ENTRY_OVERHEAD_BYTES: Final = 2048
"""Rough cost of the Python objects around one cached object."""
_DECRYPTED_FACTOR: Final = 3
"""Blob, decoded attributes and loaded key together, in sizes of the blob."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, repr=False)
class ObjectEntry:
    """A decrypted object; `ready` is made when the key is first used."""

    object_id: ObjectId
    attributes: Attributes
    tag: bytes
    ready: ReadyKey | None = None

    def ready_key(self) -> ReadyKey:
        """Return the loaded key; raise KEY_HANDLE_INVALID when the object is none."""
        if self.ready is None:
            self.ready = load_key(self.attributes)
        return self.ready


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """A ticket that was proven against its keyring's row: who, as what, until when."""

    ticket: Ticket
    client_id: ClientId
    login_id: LoginId
    is_krco: bool
    expires_ms: int
    renew_ms: int
    """Cluster time from which an answer brings a new ticket."""
    unlocked: Unlocked | None
    """None for a first password's ticket, which opens nothing."""
    objects: SessionSeal | None
    """Seals a KRCO's private session objects."""
    ready: dict[bytes, ReadyKey] = field(default_factory=dict)
    """Keys by reference, as the last refresh of the view left them."""
    blobs: dict[bytes, ObjectEntry] = field(default_factory=dict)
    """Opened session objects by blob."""


class ObjectTable:
    """Decrypted objects by id, with an index by label, id and class."""

    __slots__ = ("_index", "entries")

    def __init__(self) -> None:
        self.entries: dict[ObjectId, ObjectEntry] = {}
        self._index: dict[tuple[int, bytes], set[ObjectId]] = {}

    def put(self, entry: ObjectEntry) -> None:
        """Insert an object that is not there."""
        self.entries[entry.object_id] = entry
        for number in INDEXED:
            value = entry.attributes.get(number)
            if value is not None:
                self._index.setdefault((number, value), set()).add(entry.object_id)

    def remove(self, object_id: ObjectId) -> None:
        """Forget an object, if it is there."""
        entry = self.entries.pop(object_id, None)
        if entry is None:
            return
        for number in INDEXED:
            value = entry.attributes.get(number)
            if value is not None:
                names = self._index[number, value]
                names.discard(object_id)
                if not names:
                    del self._index[number, value]

    def find(self, terms: Attributes) -> list[ObjectId]:
        """Return the ids of the objects that have every attribute of `terms`."""
        candidates: Iterable[ObjectId] = self.entries
        smallest = len(self.entries)
        for number in INDEXED:
            if number in terms:
                names = self._index.get((number, terms[number]), set())
                if len(names) <= smallest:
                    candidates, smallest = names, len(names)
        entries = self.entries
        return [name for name in candidates if matches(entries[name].attributes, terms)]


class Unlocked:
    """What one proven KK opens: private objects, and the MACs of public ones."""

    __slots__ = ("complete_at", "seal", "table", "verified")

    def __init__(self, keyring_key: bytes) -> None:
        self.seal = PrivateSeal.of(keyring_key)
        self.table = ObjectTable()
        self.verified: dict[ObjectId, bytes] = {}
        """Public objects whose MAC was right: id → AEAD tag."""
        self.complete_at: dict[bool, int] = {}
        """Generation at which all that the KRCO (True) or the KRSO may see was opened."""


class KeyringView:
    """One keyring in a worker; `generation` is the tag of rule C15."""

    __slots__ = (
        "_broken", "_public_complete_at", "_public_seal", "_unlocked", "generation", "held_bytes",
        "keyring_id", "public", "row", "rows", "sessions", "used_ms", "word",
    )  # fmt: skip

    def __init__(self, keyring_id: KeyringId, public_seal: PublicSeal) -> None:
        self.keyring_id = keyring_id
        self.word = keyring_word(keyring_id)
        self.generation = -1
        self.used_ms = 0
        self.held_bytes = 0
        """Estimate of the memory that this view takes."""
        self.row: KeyringRow
        self.sessions: dict[bytes, Session] = {}
        """Tickets that were proven against `row`."""
        self.rows: dict[ObjectId, ObjectRow] = {}
        self.public = ObjectTable()
        self._public_seal = public_seal
        self._public_complete_at = -1
        self._unlocked: dict[bytes, Unlocked] = {}
        self._broken: set[bytes] = set()

    def revisions(self) -> dict[ObjectId, RowRevision]:
        """Return what is held, for the next load."""
        return {name: row.revision for name, row in self.rows.items()}

    def refresh(self, loaded: LoadedKeyring, row: KeyringRow) -> None:
        """Take over what was read, keeping what did not change."""
        changed = {item.object_id: item for item in loaded.changed}
        rows: dict[ObjectId, ObjectRow] = {}
        for name in loaded.revisions:
            found = changed.get(name) or self.rows.get(name)
            if found is not None:  # else it was deleted while it was read
                rows[name] = found
        stale = [name for name in self.rows if rows.get(name) is not self.rows[name]]
        for name in stale:
            self._forget(name, rows.get(name))
        self._end_sessions(row)
        self.rows = rows
        self.row = row
        self.generation = loaded.generation
        blobs = sum(len(item.blob) for item in rows.values())
        self.held_bytes = blobs * _DECRYPTED_FACTOR + len(rows) * _ENTRY_OVERHEAD_BYTES

    def _end_sessions(self, new: KeyringRow) -> None:
        """Forget what sessions remember of objects, and all of them when their ground is gone."""
        for session in self.sessions.values():
            session.ready.clear()
        if self.sessions and (
            new.authorization_version != self.row.authorization_version
            or new.key_generation != self.row.key_generation
            or new.check_value != self.row.check_value
        ):
            self.sessions.clear()

    def _forget(self, name: ObjectId, new: ObjectRow | None) -> None:
        tag = tag_of(new.blob) if new is not None else b""
        for table in (self.public, *(unlocked.table for unlocked in self._unlocked.values())):
            entry = table.entries.get(name)
            if entry is not None and entry.tag != tag:
                table.remove(name)

    def unlock(self, keyring_key: bytes) -> Unlocked:
        """Return what a KK opens; the caller has proven it against this view's row."""
        name = hmac.digest(keyring_key, b"conclave cache", hashlib.sha256)
        unlocked = self._unlocked.get(name)
        if unlocked is None:
            # One KK at a time: another one means that the keyring was made anew.
            self._unlocked = {name: (unlocked := Unlocked(keyring_key))}
        return unlocked

    def add_session(self, ticket: bytes, session: Session) -> None:
        """Keep a proven ticket, forgetting the oldest beyond a bound."""
        if len(self.sessions) >= MAX_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        self.sessions[ticket] = session

    def end_login(self, login_id: LoginId) -> None:
        """Forget every ticket of a login."""
        ended = [name for name, item in self.sessions.items() if item.login_id == login_id]
        for name in ended:
            del self.sessions[name]

    # ------------------------------------------------------------------ objects

    def entry(self, object_id: ObjectId, session: Session | None) -> ObjectEntry:
        """Return an object that the caller may see; raise NotFound for every other."""
        row = self.rows.get(object_id)
        if row is None:
            raise object_not_found(object_id)
        unlocked = session.unlocked if session is not None else None
        if not row.private:
            if unlocked is not None:
                self._verify(row, unlocked)
            return self.public.entries.get(object_id) or self._open_public(row)
        if session is None or unlocked is None or not session.is_krco:
            raise object_not_found(object_id)
        return unlocked.table.entries.get(object_id) or self._open_private(row, unlocked)

    def find(self, terms: Attributes, session: Session | None) -> list[ObjectId]:
        """Return the ids of the matching objects that the caller may see, oldest change first."""
        self._open_all(session)
        found = self.public.find(terms)
        if session is not None and session.unlocked is not None:
            verified = session.unlocked.verified
            found = [name for name in found if name in verified]
            if session.is_krco:
                found += session.unlocked.table.find(terms)
        rows = self.rows
        found.sort(key=lambda name: rows[name].revision)
        return found

    def _open_all(self, session: Session | None) -> None:
        if self._public_complete_at != self.generation:
            self._open_each(None)
            self._public_complete_at = self.generation
        if session is None or session.unlocked is None:
            return
        complete_at = session.unlocked.complete_at
        if complete_at.get(session.is_krco) != self.generation:
            self._open_each(session)
            complete_at[session.is_krco] = self.generation

    def _open_each(self, session: Session | None) -> None:
        for row in self.rows.values():
            try:
                self.entry(row.object_id, session)
            except (InternalFault, NotFound):
                continue  # bad, and in the log since it was first met; or not the caller's

    def _name(self, row: ObjectRow) -> ObjectName:
        return ObjectName(self.keyring_id, row.object_id, row.version)

    def _open_public(self, row: ObjectRow) -> ObjectEntry:
        try:
            plain = self._public_seal.unseal(self._name(row), row.blob)
        except SealBroken:
            raise self._broken_object(row, "its seal does not open") from None
        entry = ObjectEntry(row.object_id, decode_attributes(plain), tag_of(row.blob))
        self.public.put(entry)
        return entry

    def _open_private(self, row: ObjectRow, unlocked: Unlocked) -> ObjectEntry:
        try:
            plain = unlocked.seal.unseal(self._name(row), row.blob)
        except SealBroken:
            raise self._broken_object(row, "its seal does not open") from None
        entry = ObjectEntry(row.object_id, decode_attributes(plain), tag_of(row.blob))
        unlocked.table.put(entry)
        return entry

    def _verify(self, row: ObjectRow, unlocked: Unlocked) -> None:
        tag = tag_of(row.blob)
        if unlocked.verified.get(row.object_id) == tag:
            return
        unlocked.verified.pop(row.object_id, None)
        try:
            unlocked.seal.check_mac(self._name(row), row.blob, row.mac)
        except SealBroken:
            raise self._broken_object(row, "no holder of the keyring's key made it") from None
        unlocked.verified[row.object_id] = tag

    def _broken_object(self, row: ObjectRow, reason: str) -> InternalFault:
        message = f"Object {row.object_id.hex()} of keyring {self.row.label!r} is bad: {reason}."
        if row.object_id not in self._broken:
            self._broken.add(row.object_id)
            _log.error(message)
        return InternalFault(faults.SEAL_BROKEN, message)


def object_not_found(object_id: bytes) -> NotFound:
    """Return the error for an object that is not there or not the caller's to see."""
    message = f"There is no object {object_id[:16].hex()} here."
    return NotFound(faults.OBJECT_NOT_FOUND, message)


class ViewCache:
    """The views of a worker, bounded by bytes and by idle time (rule C13)."""

    def __init__(self, *, max_bytes: int, idle_ms: int) -> None:
        self.views: dict[KeyringId, KeyringView] = {}
        self._max_bytes = max_bytes
        self._idle_ms = idle_ms

    def clear(self) -> None:
        """Forget everything."""
        self.views.clear()

    def put(self, view: KeyringView) -> None:
        """Keep a view, dropping those unused for longest when the bound is passed."""
        self.views[view.keyring_id] = view
        total = sum(item.held_bytes for item in self.views.values())
        for item in sorted(self.views.values(), key=lambda item: item.used_ms):
            if total <= self._max_bytes:
                break
            if item is not view:
                total -= item.held_bytes
                del self.views[item.keyring_id]

    def forget_ready(self) -> None:
        """Let every key pass the tests once more before it is used again."""
        for view in self.views.values():
            for session in view.sessions.values():
                session.ready.clear()

    def end_login(self, login_id: LoginId) -> None:
        """Forget every ticket of a login."""
        for view in self.views.values():
            view.end_login(login_id)

    def sweep(self, now_ms: int) -> None:
        """Drop what was not used for the idle time."""
        for view in list(self.views.values()):
            if now_ms - view.used_ms > self._idle_ms:
                del self.views[view.keyring_id]
