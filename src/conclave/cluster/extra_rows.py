"""Rows that only this member has, kept in a file before its copy of the store is given up.

Invariant: a member that learns that a primary was replaced while it held changes which the new one
never received writes every keyring and object of them to a file of its own, durably, before that
copy is closed for good, rewound or copied anew (rule C18).  What is secret in a row is sealed in
the store already and stays so; the file is its owner's alone.

The changes of a store are numbered in their order, and a copy has them up to some number.  So what
the new primary lacks is what has a greater number than it had itself when it was chosen.  Three
things carry no such number.  Of what was deleted here no row is left: the file names all that is
present, and what others have of an earlier number and is not named was deleted here
(`deleted_here`).  Clients and users are listed as they are, to be held against the cluster's; of a
user's password nothing is, since it is not sealed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.cluster.context import require_cluster
from conclave.errors import Conflict, InternalFault
from conclave.ids import KeyringId, ObjectId
from conclave.store.postgresql import replacing
from conclave.store.repository import ClusterReader
from conclave.store.rows import ClientRow, ClusterStateRow, KeyringRow, ObjectRow, UserRow

DIRECTORY: Final = "cluster-export"
CHUNK: Final = 256
"""Objects that are read at a time."""
KEYRINGS_AT_ONCE: Final = 64
KEPT_COPIES: Final = 4
"""Whole copies of the store that are kept, because their rows could not be read."""

logger = logging.getLogger(__name__)


class Header(msgspec.Struct, frozen=True, tag="header"):
    """The first line of a file: of which store the rows are, and above which revision."""

    cluster_id: str
    member_id: str
    epoch_number: int
    epoch_promoter: str
    above_revision: int


class Keyring(msgspec.Struct, frozen=True, tag="keyring"):
    """A keyring, as the store has it."""

    row: KeyringRow


class Object(msgspec.Struct, frozen=True, tag="object"):
    """An object, as the store has it: a sealed blob."""

    row: ObjectRow


class Present(msgspec.Struct, frozen=True, tag="present"):
    """A keyring that is there, changed or not, and which objects it has."""

    keyring_id: KeyringId
    object_ids: list[ObjectId]


class Client(msgspec.Struct, frozen=True, tag="client"):
    """A registered client, revoked or not."""

    row: ClientRow


class User(msgspec.Struct, frozen=True, tag="user"):
    """A user, without anything of the password."""

    user_id: str
    role: str
    full_name: str
    email: str
    enabled: bool
    revision: int


Line = Header | Keyring | Object | Present | Client | User


@dataclass(frozen=True, slots=True)
class Held:
    """A row that the cluster has: a keyring, or an object when `object_id` is given."""

    keyring_id: KeyringId
    object_id: ObjectId | None
    revision: int


@dataclass(slots=True)
class _Found:
    state: ClusterStateRow
    revision: int
    keyrings: list[KeyringRow]
    objects: list[ObjectRow]
    present: list[KeyringRow]
    clients: list[ClientRow]
    users: list[UserRow]


async def export(
    read: Callable[[Callable[[ClusterReader], Any]], Awaitable[Any]],
    directory: Path,
    member_id: str,
    above: int,
) -> Path | None:
    """Write what was done above a revision to a new file below `directory`; None when nothing was.

    The file has one JSON value a line: Header, then Keyring, Client, User, Object and Present.
    Raises what reading raises, and InternalFault (STORAGE_FAILED) when the disk refuses.
    """
    found: _Found = await read(partial(_find, above=above))
    if found.revision <= above and not found.keyrings and not found.objects:
        return None
    state = found.state
    path = directory / f"epoch-{state.epoch_number}-above-{above}.jsonl"
    header = Header(state.cluster_id, member_id, state.epoch_number, state.epoch_member, above)
    lines: list[Line] = [header, *(Keyring(row) for row in found.keyrings)]
    lines += [Client(row) for row in found.clients]
    lines += [_user(row) for row in found.users]
    await _on_disk(_write, _temporary(path), lines, os.O_TRUNC)
    count, objects = 0, found.objects
    while objects:
        await _on_disk(_write, _temporary(path), [Object(row) for row in objects], os.O_APPEND)
        count += len(objects)
        objects = await read(partial(_objects, above=above, skip=count))
    for first in range(0, len(found.present), KEYRINGS_AT_ONCE):
        some = found.present[first : first + KEYRINGS_AT_ONCE]
        present = await read(partial(_present, keyrings=some))
        await _on_disk(_write, _temporary(path), present, os.O_APPEND)
    await _on_disk(_publish, path)
    logger.warning(
        "%d keyrings and %d objects that no other member has, and what was deleted, registered or"
        " changed here beside them, were exported to %s.",
        len(found.keyrings),
        count,
        path,
    )
    return path


def place_for_copy(directory: Path) -> Path:
    """Return where a whole copy of the store is kept, named after the time in UTC.

    Raises Conflict (STORE_DIVERGED) when KEPT_COPIES are there, since none of them may be deleted.
    """
    found = directory.glob("postgresql-*")
    kept = [path for path in found if path.suffix != replacing.PART]
    if len(kept) >= KEPT_COPIES:
        message = (
            f"{directory} has {len(kept)} copies of the store whose rows could not be read, and the"
            " present one cannot be read either: move them elsewhere, so that it can be replaced."
        )
        raise Conflict(faults.STORE_DIVERGED, message)
    return directory / time.strftime("postgresql-%Y%m%dT%H%M%SZ", time.gmtime())


def deleted_here(lines: Iterable[Line], held: Iterable[Held]) -> list[Held]:
    """Return those rows of the cluster that the member of a file had had, and had deleted.

    A row that was made or changed after the two parted is no such row, whoever has it.
    """
    above, present = 0, set[tuple[KeyringId, ObjectId | None]]()
    for line in lines:
        if isinstance(line, Header):
            above = line.above_revision
        elif isinstance(line, Present):
            present.add((line.keyring_id, None))
            present.update((line.keyring_id, object_id) for object_id in line.object_ids)
    return [
        row
        for row in held
        if row.revision <= above and (row.keyring_id, row.object_id) not in present
    ]


def load(path: Path) -> list[Line]:
    """Return the lines of a file that `export` wrote; raise msgspec.DecodeError for another."""
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def _find(reader: ClusterReader, above: int) -> _Found:
    return _Found(
        state=require_cluster(reader),
        revision=reader.revision(),
        keyrings=reader.keyrings_above(above),
        objects=_objects(reader, above, 0),
        present=reader.keyrings(),
        clients=reader.clients(),
        users=reader.users(),
    )


def _objects(reader: ClusterReader, above: int, skip: int) -> list[ObjectRow]:
    return reader.objects_above(above, skip, CHUNK)


def _present(reader: ClusterReader, keyrings: Sequence[KeyringRow]) -> list[Line]:
    ids = [row.keyring_id for row in keyrings]
    return [Present(id_, [found for found, _ in reader.object_revisions(id_)]) for id_ in ids]


def _user(row: UserRow) -> User:
    return User(row.user_id, row.role, row.full_name, row.email, row.enabled, row.revision)


def _temporary(path: Path) -> Path:
    return path.with_suffix(".new")


async def _on_disk(work: Callable[..., None], *arguments: object) -> None:
    try:
        await asyncio.to_thread(work, *arguments)
    except OSError as error:
        message = f"The rows that only this member has cannot be exported: {error}."
        raise InternalFault(faults.STORAGE_FAILED, message) from error


def _write(path: Path, lines: Sequence[Line], how: int) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(path: Path) -> None:
    _temporary(path).replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
