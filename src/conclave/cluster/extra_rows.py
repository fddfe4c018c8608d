"""Rows that only this member has, kept in a file before its copy of the store is given up.

Invariant: a member that learns that a primary was replaced while it held changes which the new one
never received writes every keyring and object of them to a file of its own, durably, before that
copy is closed for good, rewound or copied anew (rule C18).  What is secret in a row is sealed in
the store already and stays so; the file is its owner's alone.

The changes of a store are numbered in their order, and a copy has them up to some number.  So what
the new primary lacks is what has a greater number than it had itself when it was chosen.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from conclave import faults
from conclave.cluster.context import require_cluster
from conclave.errors import InternalFault
from conclave.store.repository import ClusterReader
from conclave.store.rows import ClusterStateRow, KeyringRow, ObjectRow

DIRECTORY: Final = "cluster-export"
CHUNK: Final = 256
"""Objects that are read at a time."""

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


Line = Header | Keyring | Object


@dataclass(slots=True)
class _Found:
    state: ClusterStateRow
    keyrings: list[KeyringRow]
    objects: list[ObjectRow]


async def export(
    read: Callable[[Callable[[ClusterReader], _Found]], Awaitable[_Found]],
    directory: Path,
    member_id: str,
    above: int,
) -> Path | None:
    """Write the rows above a revision to a new file below `directory`; None when there are none.

    The file has one JSON value a line: Header, then Keyring and Object.  Raises what reading
    raises, and InternalFault (STORAGE_FAILED) when the disk refuses.
    """
    found = await read(lambda reader: _find(reader, above, 0))
    if not found.keyrings and not found.objects:
        return None
    state = found.state
    path = directory / f"epoch-{state.epoch_number}-above-{above}.jsonl"
    header = Header(state.cluster_id, member_id, state.epoch_number, state.epoch_member, above)
    lines: list[Line] = [header, *(Keyring(row) for row in found.keyrings)]
    await _on_disk(_write, _temporary(path), lines, os.O_TRUNC)
    count = 0
    while found.objects:
        objects: list[Line] = [Object(row) for row in found.objects]
        await _on_disk(_write, _temporary(path), objects, os.O_APPEND)
        count += len(objects)
        found = await read(partial(_find, above=above, skip=count))
    await _on_disk(_publish, path)
    logger.warning(
        "%d keyrings and %d objects that no other member has were exported to %s.",
        len(lines) - 1,
        count,
        path,
    )
    return path


def load(path: Path) -> list[Line]:
    """Return the lines of a file that `export` wrote; raise msgspec.DecodeError for another."""
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def _find(reader: ClusterReader, above: int, skip: int) -> _Found:
    state = require_cluster(reader)
    keyrings = reader.keyrings_above(above) if not skip else []
    return _Found(state, keyrings, reader.objects_above(above, skip, CHUNK))


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
