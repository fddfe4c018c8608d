"""The chain and its files: whatever is changed, cut or put in is found."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from conclave.audit.chain import verify
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.files import AuditFiles, Bounds
from conclave.cli import main
from conclave.errors import Conflict

MOMENT = datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
WIDE = Bounds(file_bytes=1 << 20, files=10)


def event(name: str) -> AuditEvent:
    return AuditEvent(kind=EventKind.OPERATION, outcome=Outcome.DONE, user="admin", operation=name)


def write(files: AuditFiles, *names: str) -> None:
    files.append([(MOMENT, event(name)) for name in names])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a log of five records in two files."""
    files = AuditFiles(tmp_path, WIDE)
    write(files, "user.create", "user.delete", "hsm.login")
    files.rotate()
    write(files, "hsm.logout", "time.set")
    files.close()
    return tmp_path


def exported(directory: Path) -> list[bytes]:
    files = AuditFiles(directory, WIDE)
    assert files.damage == ""
    lines = b"".join(files.export()).splitlines(keepends=True)
    files.close()
    return lines


def test_an_export_is_whole_and_signed(directory: Path) -> None:
    lines = exported(directory)
    verdict = verify(lines)
    assert (verdict.records, verdict.first, verdict.head.sequence) == (5, 1, 5)
    assert verify(lines, trusted_key=verdict.signed_by) == verdict
    assert b'"time":"2026-11-26T12:00:00.123Z"' in lines[0]


@pytest.mark.parametrize("number", range(5))
def test_no_byte_can_be_changed(directory: Path, number: int) -> None:
    lines = exported(directory)
    for place in range(0, len(lines[number]) - 1, 7):
        changed = bytearray(lines[number])
        changed[place] ^= 1
        with pytest.raises(Conflict) as refusal:
            verify([*lines[:number], bytes(changed), *lines[number + 1 :]])
        assert refusal.value.fault.rest_id == "SERVERPLUGIN_AUDIT_LOG_BROKEN"


@pytest.mark.parametrize("number", range(1, 5))
def test_no_record_can_be_taken_out_put_in_or_moved(directory: Path, number: int) -> None:
    lines = exported(directory)
    without = lines[:number] + lines[number + 1 :]
    for broken in (
        without,
        [*lines[:number], lines[number - 1], *lines[number:]],
        [*lines[: number - 1], lines[number], lines[number - 1], *lines[number + 1 :]],
    ):
        with pytest.raises(Conflict):
            verify(broken)


def test_a_cut_end_is_noticed_by_whoever_asks_for_the_signature(directory: Path) -> None:
    lines = exported(directory)
    key = verify(lines).signed_by
    with pytest.raises(Conflict, match="cut off"):
        verify(lines[:3], trusted_key=key)
    with pytest.raises(Conflict, match="ends with record 3"):
        verify([*lines[:3], lines[-1]])
    assert verify(lines[:3]).signed_by == ""


def test_a_chain_forged_with_another_key_is_refused(directory: Path, tmp_path: Path) -> None:
    key = verify(exported(directory)).signed_by
    other = tmp_path / "other"
    other.mkdir()
    forged = AuditFiles(other, WIDE)
    write(forged, "user.create")
    lines = list(forged.export())
    forged.close()
    assert verify(b"".join(lines).splitlines(keepends=True)).records == 1
    with pytest.raises(Conflict, match="signed with the key"):
        verify(b"".join(lines).splitlines(keepends=True), trusted_key=key)


def test_the_chain_goes_on_after_a_restart(directory: Path) -> None:
    files = AuditFiles(directory, WIDE)
    write(files, "service.act")
    assert verify(files.lines()).head.sequence == 6
    files.close()


def test_an_unfinished_line_is_taken_away(directory: Path) -> None:
    newest = sorted(directory.glob("*.jsonl"))[-1]
    with newest.open("ab") as stream:
        stream.write(b'{"sequence":6,"time":"2026')
    files = AuditFiles(directory, WIDE)
    assert files.damage == ""
    write(files, "service.act")
    assert verify(files.lines()).records == 6
    files.close()


def test_a_log_that_was_cut_is_noticed_when_it_is_opened(directory: Path) -> None:
    newest = sorted(directory.glob("*.jsonl"))[-1]
    newest.write_bytes(newest.read_bytes().splitlines(keepends=True)[0])
    files = AuditFiles(directory, WIDE)
    assert "records 5 to 5 are missing" in files.damage
    write(files, "service.act")
    with pytest.raises(Conflict, match="record 6"):
        verify(files.lines())
    files.close()


def test_a_log_that_was_removed_is_noticed_when_it_is_opened(directory: Path) -> None:
    for path in directory.glob("*.jsonl"):
        path.unlink()
    files = AuditFiles(directory, WIDE)
    assert "records 1 to 5 are missing" in files.damage
    files.close()


def test_a_changed_newest_file_is_noticed_when_it_is_opened(directory: Path) -> None:
    newest = sorted(directory.glob("*.jsonl"))[-1]
    newest.write_bytes(newest.read_bytes().replace(b"hsm.logout", b"hsm.l0gout"))
    files = AuditFiles(directory, WIDE)
    assert "was changed" in files.damage
    files.close()


def test_files_are_bounded_in_size_and_number(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path, Bounds(file_bytes=1000, files=3))
    for _ in range(40):
        write(files, "user.create")
    paths = files.paths()
    assert len(paths) == 3
    assert all(path.stat().st_size < 2000 for path in paths)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    verdict = verify(files.lines())
    assert verdict.head.sequence == 40
    assert verdict.first == 41 - verdict.records > 1
    files.close()


def test_pages_begin_with_the_newest(directory: Path) -> None:
    files = AuditFiles(directory, WIDE)
    lines, total = files.page(1, 2)
    assert total == 5
    assert [b"hsm.logout" in lines[0], b"hsm.login" in lines[1]] == [True, True]
    assert files.page(5, 10) == ([], 5)
    whole, _ = files.page(0, 10)
    assert whole == list(reversed(list(files.lines())))
    for offset in range(6):
        for limit in range(1, 7):
            assert files.page(offset, limit) == (whole[offset : offset + limit], 5)
    files.close()


def test_what_a_failed_write_left_is_taken_back(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path, WIDE)
    write(files, "user.create")
    before = files.paths()[0].read_bytes()
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, files._current)  # what is written there fails
    with pytest.raises(OSError, match="Broken pipe"):
        write(files, "user.delete")
    assert files.head.sequence == 1
    assert files.paths()[0].read_bytes() == before
    files.close()
    os.close(writer)


def test_the_command_says_whole_or_where_it_breaks(directory: Path, tmp_path: Path) -> None:
    lines = exported(directory)
    key = verify(lines).signed_by
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"".join(lines))
    bad.write_bytes(b"".join(lines).replace(b"user.delete", b"user.create"))
    run = CliRunner().invoke
    whole = run(main, ["audit", "verify", str(good), "--key", key])
    assert (whole.exit_code, whole.output[:18]) == (0, "whole: 5 records, ")
    assert "as asked for" in whole.output
    broken = run(main, ["audit", "verify", str(bad)])
    assert broken.exit_code == 1
    assert "Line 2" in broken.output
    parts = [str(path) for path in sorted(directory.glob("*.jsonl"))]
    assert "not signed" in run(main, ["audit", "verify", *parts]).output
