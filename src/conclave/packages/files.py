"""The files inside a package: from a directory into a tar, and out of it again.

Invariant: unpacking writes regular files below one fresh directory and nothing else, whatever the
archive says: no link, no device, no absolute or climbing path, no more files and bytes than the
manifest counts.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final

from conclave import faults
from conclave.errors import BadInput
from conclave.packages.manifest import Manifest

_PATH_PART: Final = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,127}")
_DEEPEST: Final = 16
_LEFT_OUT: Final = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class Packed:
    """A gzipped tar of a tree, with its counts."""

    archive: bytes
    file_count: int
    unpacked_bytes: int


def pack(tree: Path, top: str) -> Packed:
    """Pack the files below `tree` as `top/...`; the same files give the same bytes."""
    target = io.BytesIO()
    count = total = 0
    with (
        gzip.GzipFile(fileobj=target, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files_of(tree):
            content = path.read_bytes()
            entry = tarfile.TarInfo(str(PurePosixPath(top) / path.relative_to(tree).as_posix()))
            entry.size = len(content)
            entry.mode = 0o600
            archive.addfile(entry, io.BytesIO(content))
            count += 1
            total += len(content)
    return Packed(target.getvalue(), count, total)


def unpack(payload: BinaryIO, manifest: Manifest, directory: Path) -> None:
    """Unpack below a fresh `directory`; raise BadInput at the first entry that breaks a rule."""
    count = total = 0
    try:
        # Not tarfile's own reader of gzip, which fails at some damaged heads with AttributeError.
        with (
            gzip.GzipFile(fileobj=payload, mode="rb") as zipped,
            tarfile.open(fileobj=zipped, mode="r|") as archive,
        ):
            for entry in archive:
                target = directory / _safe_path(entry)
                count += 1
                total += entry.size
                _check_counts(count, total, manifest)
                content = archive.extractfile(entry)
                assert content is not None  # noqa: S101 - it is a regular file
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(target, content)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as cause:
        message = f"The package's files cannot be unpacked: {cause}."
        raise BadInput(faults.PACKAGE_DAMAGED, message) from None
    except (FileExistsError, NotADirectoryError):
        # The directory is fresh: what is there came out of the same package.
        message = "The package holds two files of one path, or one below the path of another."
        raise BadInput(faults.PACKAGE_DAMAGED, message) from None
    if (count, total) != (manifest.file_count, manifest.unpacked_bytes):
        message = (
            f"The package holds {count} files of {total} bytes; its manifest counts"
            f" {manifest.file_count} of {manifest.unpacked_bytes}."
        )
        raise BadInput(faults.PACKAGE_DAMAGED, message)


def _files_of(tree: Path) -> Iterator[Path]:
    for path in sorted(tree.rglob("*")):
        parts = path.relative_to(tree).parts
        if _LEFT_OUT.isdisjoint(parts) and path.is_file() and not path.is_symlink():
            yield path


def _safe_path(entry: tarfile.TarInfo) -> Path:
    parts = PurePosixPath(entry.name).parts
    legal = 1 <= len(parts) <= _DEEPEST and all(_PATH_PART.fullmatch(part) for part in parts)
    if not legal or not entry.isreg():
        message = f"The package holds what is no plain file of a plain name: {entry.name[:80]!r}."
        raise BadInput(faults.PACKAGE_DAMAGED, message)
    return Path(*parts)


def _check_counts(count: int, total: int, manifest: Manifest) -> None:
    if count > manifest.file_count or total > manifest.unpacked_bytes:
        message = (
            f"The package holds more than the {manifest.file_count} files and"
            f" {manifest.unpacked_bytes} bytes that its manifest counts."
        )
        raise BadInput(faults.PACKAGE_DAMAGED, message)


def _write(target: Path, content: IO[bytes]) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
