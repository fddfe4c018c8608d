"""Data that a copy replaces: kept whole, or left where they are."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import InternalFault
from conclave.store.postgresql import replacing


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return data that a copy replaces."""
    path = tmp_path / "postgresql"
    (path / "base").mkdir(parents=True)
    (path / "base" / "table").write_text("rows")
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Return a whole copy."""
    path = tmp_path / "postgresql.new"
    path.mkdir()
    (path / "copied").touch()
    return path


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Yield a directory on another disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name) / "cluster-export"


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def keep(data: Path, fresh: Path, kept: Path) -> InternalFault:
    """Return what is told when the data cannot be kept."""
    with pytest.raises(InternalFault, match="nothing was changed") as caught:
        replacing.take_over(data, fresh, kept)
    assert caught.value.fault is faults.STORAGE_FAILED
    return caught.value


def test_data_are_kept_on_another_disk_and_what_a_killed_attempt_left_there_goes(
    data: Path, fresh: Path, elsewhere: Path
) -> None:
    left = elsewhere / "postgresql-1.part"
    left.mkdir(parents=True)
    kept = elsewhere / "postgresql-2"
    replacing.prepare_to_keep(data, kept)
    assert not left.exists()
    replacing.take_over(data, fresh, kept)
    assert (kept / "base" / "table").read_text() == "rows"
    assert names(elsewhere) == [kept.name]
    assert names(data) == ["copied"]


def test_what_has_no_room_on_another_disk_is_refused_before_anything_is_copied(
    data: Path, elsewhere: Path
) -> None:
    kept = elsewhere / "postgresql-1"
    replacing.prepare_to_keep(data, kept)
    os.truncate(data / "base" / "table", shutil.disk_usage(elsewhere).free + (1 << 30))
    with pytest.raises(InternalFault, match="room") as caught:
        replacing.prepare_to_keep(data, kept)
    assert caught.value.fault is faults.STORAGE_FAILED
    # A rename needs none.
    replacing.prepare_to_keep(data, data.with_name("cluster-export") / "postgresql-1")


def test_what_cannot_be_kept_anywhere_is_refused_before_anything_is_copied(data: Path) -> None:
    data.with_name("cluster-export").touch()
    with pytest.raises(InternalFault) as caught:
        replacing.prepare_to_keep(data, data.with_name("cluster-export") / "postgresql-1")
    assert caught.value.fault is faults.STORAGE_FAILED


def test_what_was_kept_in_part_only_is_removed(data: Path, fresh: Path, elsewhere: Path) -> None:
    os.mkfifo(data / "base" / "unreadable")
    keep(data, fresh, elsewhere / "postgresql-1")
    assert names(elsewhere) == []
    assert (data / "base" / "table").read_text() == "rows"
    assert fresh.exists()


@pytest.mark.parametrize("renamed", [True, False])
def test_when_the_disk_does_not_confirm_what_was_kept_the_data_are_where_they_were(
    data: Path, fresh: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, *, renamed: bool
) -> None:
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    place = data.with_name("cluster-export") if renamed else elsewhere
    keep(data, fresh, place / "postgresql-1")
    assert names(place) == []
    assert (data / "base" / "table").read_text() == "rows"
    assert fresh.exists()
