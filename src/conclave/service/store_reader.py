"""A worker's view of the cluster store: one thread that reads, coalesced and tagged.

Invariant: the generations are taken before the store is read, and travel with what was read (rule
C15).  A load that somebody joins had not taken its generations when he asked, so what he gets is
at least as new as his question.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from conclave import faults
from conclave.errors import Unavailable
from conclave.ids import ClientId, KeyringId, MemberId, ObjectId, RowRevision
from conclave.service.page import SharedPage
from conclave.store.assignments import usable_by
from conclave.store.location import StoreLocation, open_reader
from conclave.store.repository import ClusterReader
from conclave.store.rows import ClientRow, KeyringRow, MemberRow, ObjectRow

OBJECTS_PER_QUERY: Final = 500
PATIENCE_SECONDS: Final = 3.0
"""How long a store may be away, after a restart or a change of engine, before askers are told."""
PAUSE_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")


def open_serving(database: Path) -> ClusterReader:
    """Open whatever store serves in the directory of the SQLite store `database`."""
    return open_reader(StoreLocation(database.parent))


@dataclass(frozen=True, slots=True)
class LoadedKeyring:
    """A keyring as the store had it, or without a row if it had none."""

    keyring_id: KeyringId
    generation: int
    global_generation: int
    row: KeyringRow | None
    revisions: Mapping[ObjectId, RowRevision]
    changed: list[ObjectRow]
    """The objects whose revision the asker did not have."""


@dataclass(frozen=True, slots=True)
class LoadedToken:
    """A keyring and how many objects it has, without them; no row if it does not exist."""

    row: KeyringRow | None
    object_count: int


@dataclass(frozen=True, slots=True)
class LoadedTokens:
    """All keyrings in the order of their slots; fresh while the log position is `log_position`."""

    log_position: int
    global_generation: int
    rows: list[KeyringRow]


@dataclass(frozen=True, slots=True)
class LoadedClient:
    """A client as the store had it, or no row if its key is not listed."""

    client_generation: int
    row: ClientRow | None
    keyrings: frozenset[KeyringId] | None
    """What the client may use; None means all."""


@dataclass(frozen=True, slots=True)
class LoadedMembers:
    """The members as the store had them; fresh while the page has this version and generation."""

    version: int
    global_generation: int
    rows: list[MemberRow]
    visible: tuple[MemberId, ...]
    """Those whom the primary saw last."""


@dataclass(slots=True)
class _Load:
    """A load of one thing; it may be joined until it has started."""

    task: asyncio.Task[Any] = field(init=False)
    started: bool = False


class StoreReader:
    """Read the cluster store in one dedicated thread.

    A connection lives within one global generation: when that moves, the store may be another one
    now (converted, or restarted).  A read whose connection is lost is tried again on a new one,
    until `patience_seconds` have passed; meanwhile the others are served from what is cached.
    """

    def __init__(
        self,
        database: Path,
        page: SharedPage,
        *,
        opener: Callable[[Path], ClusterReader] = open_serving,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._patience_seconds = patience_seconds
        self._database = database
        self._page = page
        self._opener = opener
        self._reader: ClusterReader | None = None
        self._opened_at = -1
        """The global generation under which the reader was opened."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._loads: dict[object, _Load] = {}

    def close(self) -> None:
        """End the thread after the load under way."""
        self._thread.submit(self._forget_reader)
        self._thread.shutdown(wait=True)

    async def keyring(
        self,
        keyring_id: KeyringId,
        known: Mapping[ObjectId, RowRevision],
        apply: Callable[[LoadedKeyring], T],
    ) -> T:
        """Read a keyring and those of its objects that `known` has not in the same revision.

        Return what `apply` makes of it, in the event loop, once for all who wait for this load:
        `known` belongs to the one who started it.
        """

        def read() -> LoadedKeyring:
            return _read_keyring(self._open(), self._page, keyring_id, known)

        return await self._load(keyring_id, read, apply)

    async def token(self, keyring_id: KeyringId) -> LoadedToken:
        """Read one keyring and count its objects, without reading them."""

        def read() -> LoadedToken:
            reader = self._open()
            return LoadedToken(reader.keyring(keyring_id), reader.object_count(keyring_id))

        return await self._load(("token", keyring_id), read, _unchanged)

    async def tokens(self) -> LoadedTokens:
        """Read the list of keyrings."""
        return await self._load(
            "tokens", lambda: _read_tokens(self._open(), self._page), _unchanged
        )

    async def client(self, key_sha256: bytes) -> LoadedClient:
        """Read the client that registered a key."""
        return await self._load(
            (key_sha256,), lambda: _read_client(self._open(), self._page, key_sha256), _unchanged
        )

    async def client_of_id(self, client_id: ClientId) -> LoadedClient:
        """Read the client of that id."""

        def read() -> LoadedClient:
            generation, reader = self._page.client_generation(), self._open()
            return _loaded_client(reader, generation, reader.client(client_id))

        return await self._load(("client", client_id), read, _unchanged)

    async def members(self) -> LoadedMembers:
        """Read the list of members."""
        return await self._load(
            "members", lambda: _read_members(self._open(), self._page), _unchanged
        )

    async def cluster_id(self) -> str:
        """Return the id of the cluster, empty before it was created."""

        def read() -> str:
            state = self._open().cluster_state()
            return state.cluster_id if state else ""

        return await self._load("cluster", read, _unchanged)

    # ------------------------------------------------------------------ the thread

    async def _load(self, name: object, read: Callable[[], S], apply: Callable[[S], T]) -> T:
        load = self._loads.get(name)
        if load is None or load.started:
            load = _Load()
            self._loads[name] = load
            load.task = asyncio.create_task(self._run(load, read, apply))
            load.task.add_done_callback(lambda task: self._done(name, load, task))
        # Shielded: who waits may go away, the others must not suffer from it.
        return cast(T, await asyncio.shield(load.task))

    async def _run(self, load: _Load, read: Callable[[], S], apply: Callable[[S], T]) -> T:
        loop = asyncio.get_running_loop()
        patience = loop.time() + self._patience_seconds
        while True:
            try:
                found = await loop.run_in_executor(self._thread, self._attempt, load, read)
                break
            except SQLAlchemyError as error:
                if not _is_lost(error) or loop.time() >= patience:
                    _log.error("The cluster store cannot be read.", exc_info=error)
                    message = "The cluster store cannot be read; the log has the cause."
                    raise Unavailable(faults.BUSY, message) from error
            await asyncio.sleep(PAUSE_SECONDS)
        return apply(found)

    def _attempt(self, load: _Load, read: Callable[[], S]) -> S:
        load.started = True
        try:
            return read()
        except SQLAlchemyError:
            self._forget_reader()
            raise

    def _done(self, name: object, load: _Load, task: asyncio.Task[Any]) -> None:
        if self._loads.get(name) is load:
            del self._loads[name]
        if not task.cancelled():
            task.exception()  # an asker that went away must not cause a warning

    def _open(self) -> ClusterReader:
        generation = self._page.global_generation()
        if generation != self._opened_at:
            self._forget_reader()
        if self._reader is None:
            self._opened_at = generation
            self._reader = self._opener(self._database)
        return self._reader

    def _forget_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            # A connection that is lost cannot say goodbye.
            with contextlib.suppress(SQLAlchemyError):
                reader.close()


def _is_lost(error: SQLAlchemyError) -> bool:
    """Tell whether the connection, not the question, was at fault."""
    if isinstance(error, OperationalError | InterfaceError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _unchanged(value: T) -> T:
    return value


def _read_keyring(
    reader: ClusterReader,
    page: SharedPage,
    keyring_id: KeyringId,
    known: Mapping[ObjectId, RowRevision],
) -> LoadedKeyring:
    generation = page.keyring_generation(keyring_id)
    global_generation = page.global_generation()
    row = reader.keyring(keyring_id)
    revisions = dict(reader.object_revisions(keyring_id)) if row else {}
    wanted = [name for name, revision in revisions.items() if known.get(name) != revision]
    changed: list[ObjectRow] = []
    for start in range(0, len(wanted), OBJECTS_PER_QUERY):
        changed += reader.objects(keyring_id, wanted[start : start + OBJECTS_PER_QUERY])
    return LoadedKeyring(keyring_id, generation, global_generation, row, revisions, changed)


def _read_tokens(reader: ClusterReader, page: SharedPage) -> LoadedTokens:
    position, generation = page.log_position(), page.global_generation()
    return LoadedTokens(position, generation, reader.keyrings())


def _read_client(reader: ClusterReader, page: SharedPage, key_sha256: bytes) -> LoadedClient:
    generation = page.client_generation()
    return _loaded_client(reader, generation, reader.client_by_key(key_sha256))


def _loaded_client(reader: ClusterReader, generation: int, row: ClientRow | None) -> LoadedClient:
    keyrings = usable_by(reader, row.client_id) if row is not None else None
    return LoadedClient(generation, row, keyrings)


def _read_members(reader: ClusterReader, page: SharedPage) -> LoadedMembers:
    version, generation = page.members_version(), page.global_generation()
    state = reader.cluster_state()
    return LoadedMembers(version, generation, reader.members(), state.visible if state else ())
