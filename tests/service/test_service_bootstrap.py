"""How processes begin: bootstrap frames, hardening, the parent's death, logging."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.crypto.password_hash import LOW_COST_FOR_TESTS
from conclave.errors import InternalFault
from conclave.service.bootstrap import (
    LoginBootstrap,
    configure_logging,
    encode_bootstrap,
    read_bootstrap,
    watch_parent,
)

BOOTSTRAP = LoginBootstrap(
    socket_path="/run/login.sock", secrets={"daemon": bytes(32)}, cost=LOW_COST_FOR_TESTS
)


@pytest.fixture
def quiet_root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for handler in handlers:
        root.removeHandler(handler)
    yield root
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def piped(data: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_a_frame_is_read_exactly_and_what_follows_stays() -> None:
    with os.fdopen(piped(encode_bootstrap(BOOTSTRAP) + b"rest"), "rb") as stream:
        assert read_bootstrap(stream, LoginBootstrap) == BOOTSTRAP
        assert os.read(stream.fileno(), 100) == b"rest"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_bootstrap(BOOTSTRAP)[:-1],
        encode_bootstrap(BOOTSTRAP)[:3],
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x01\x90",
    ],
)
def test_a_broken_frame_is_refused_without_showing_it(data: bytes) -> None:
    with os.fdopen(piped(data), "rb") as stream, pytest.raises(InternalFault) as caught:
        read_bootstrap(stream, LoginBootstrap)
    assert "login.sock" not in caught.value.message


def test_reprs_show_no_secret() -> None:
    assert "daemon" not in repr(BOOTSTRAP)


def test_the_end_of_the_stream_is_noticed() -> None:
    reading, writing = os.pipe()
    gone = threading.Event()
    with os.fdopen(reading, "rb") as stream:
        watch_parent(stream, on_gone=gone.set)
        assert not gone.wait(0.05)
        os.close(writing)
        assert gone.wait(5)


HARDENED = """
    import ctypes, resource, sys
    from conclave.service.bootstrap import harden_process, watch_parent
    harden_process()
    death = ctypes.c_int()
    libc = ctypes.CDLL(None)
    libc.prctl(2, ctypes.byref(death))
    print(libc.prctl(3), death.value, resource.getrlimit(resource.RLIMIT_CORE), flush=True)
    watch_parent(sys.stdin.buffer).join()
"""


def test_a_hardened_process_gives_no_core_and_dies_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HARDENED)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "0 9 (0, 0)\n"
        process.stdin.close()
        assert process.wait(10) == 70


def test_log_lines_are_json_in_a_private_file(tmp_path: Path, quiet_root: logging.Logger) -> None:
    path = tmp_path / "process.log"
    configure_logging(path)
    logging.getLogger("a.module").warning('quotes " and\nlines')
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("a.module").exception("failed")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["message"] for line in lines] == ['quotes " and\nlines', "failed"]
    assert lines[0]["level"] == "warning"
    assert "ValueError: why" in lines[1]["trace"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


_LOGGING_TO_A_FULL_DISK = """
import logging, sys
from conclave.service.bootstrap import configure_logging

configure_logging(sys.argv[1])
for number in range(2000):
    logging.getLogger("a.module").warning("line %d", number)
try:
    raise RuntimeError("cause")
except RuntimeError:
    logging.getLogger("a.module").exception("failed")
print("goes on")
"""


def run_logging(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LOGGING_TO_A_FULL_DISK, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_logging_to_a_full_disk_prints_nothing_and_stops_nobody() -> None:
    done = run_logging("/dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


def test_a_log_file_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    done = run_logging(str(tmp_path / "missing" / "daemon.log"))
    assert (done.returncode, done.stdout) == (0, "goes on\n")
    first, *others = [json.loads(line) for line in done.stderr.splitlines()]
    assert "cannot be opened" in first["message"]
    assert len(others) == 2001


class FullDisk(io.StringIO):
    """What takes nothing."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_lines_that_were_lost_are_counted_once_there_is_room_again(
    tmp_path: Path, quiet_root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "daemon.log"
    configure_logging(path)
    (handler,) = quiet_root.handlers
    assert isinstance(handler, logging.FileHandler)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(handler, "stream", FullDisk())
        quiet_root.warning("lost")
        quiet_root.warning("lost as well")
    quiet_root.warning("kept")
    messages = [json.loads(line)["message"] for line in path.read_text().splitlines()]
    assert messages[0] == "kept"
    assert messages[1].startswith("2 lines could not be logged")
    assert len(messages) == 2


def test_a_mistake_in_a_log_call_is_still_shown(
    tmp_path: Path, quiet_root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(tmp_path / "daemon.log")
    quiet_root.warning("%d", "no number")
    assert "no number" in capsys.readouterr().err
