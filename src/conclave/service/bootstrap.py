"""How a process of the appliance begins: hardened, told everything over a pipe, tied to its parent.

Invariant: secrets reach a child in one frame on its standard input, read after the process can no
longer be traced or dump core; they never stand in its arguments, its environment or a file.
End-of-file on standard input means that the daemon is gone, and ends the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec

from conclave import __version__, faults
from conclave.crypto.password_hash import Argon2Cost
from conclave.errors import InternalFault
from conclave.service.frames import HEADER_BYTES, frame
from conclave.service.quiet import Quiet
from conclave.settings import ClusterTimes, Limits, PostgresqlSettings

MAX_BOOTSTRAP_BYTES: Final = 4 << 20
PARENT_GONE_STATUS: Final = 70
SERVES: Final = b"serves\n"
"""What a child says on its standard output when it serves."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4


class LoginBootstrap(Quiet, frozen=True, kw_only=True):
    """All that the login process needs."""

    socket_path: str
    secrets: dict[str, bytes]
    """Role (`daemon` or `worker`) to the secret that proves it; the cluster process is `daemon`."""
    cost: Argon2Cost
    low_cost_for_tests: bool = False
    max_queued: int = 64
    deadline_seconds: float = 10.0
    log_path: str | None = None
    log_level: str = "INFO"


class ClusterBootstrap(Quiet, frozen=True, kw_only=True):
    """All that the cluster process needs; `smk` only while the member is authorized (rule C7)."""

    database_path: str
    socket_path: str
    secrets: dict[str, bytes]
    """Role (`daemon`, `worker`) to the secret that proves it."""
    login_socket_path: str
    login_secret: bytes
    page_fd: int
    limits: Limits
    cost: Argon2Cost
    low_cost_for_tests: bool = False
    dual_identity: bool = False
    server_common_name: str
    host_name: str
    addresses: list[str]
    admin_port: int
    crypto_port: int
    clock_offset_ms: int = 0
    """Appliance clock minus host clock."""
    cluster_id: str | None = None
    member_id: str | None = None
    member_key_spki_der: bytes = b""
    member_key_pem: bytes = b""
    """The member's private key, unencrypted PKCS#8, for the member link."""
    domain: bytes = b""
    """The partition's cloning domain; only with the SMK."""
    core_address: str = ""
    state_dir: str = ""
    """The appliance's state directory, absolute."""
    package_version: str = __version__
    """Of the package that brought this release, which other members are told."""
    cluster_settings: ClusterTimes = ClusterTimes()
    postgresql: PostgresqlSettings = PostgresqlSettings()
    smk: bytes | None = None
    skip_certificate_check: bool = False
    """Start outside the certificates' validity: a forced start, or a respawn after a crash."""
    log_path: str | None = None
    log_level: str = "INFO"


class WorkerBootstrap(Quiet, frozen=True, kw_only=True):
    """All that a crypto worker needs; its keys come from the cluster process."""

    worker_index: int
    worker_count: int
    listen_fds: list[int]
    """The bound and listening sockets of the crypto port, and of former ones."""
    page_fd: int
    meters_fd: int
    """Where the worker counts what it did."""
    database_path: str
    cluster_socket_path: str
    cluster_secret: bytes
    certificate_pem: bytes
    """The member's certificate, then intermediates if any."""
    key_pem: bytes
    """The member's private key, unencrypted PKCS#8: it never meets a disk here."""
    ca_pem: bytes
    """Certificates of the cluster CA that clients' certificates chain to."""
    member_id: str
    limits: Limits
    read_only_limit_seconds: int = 0
    """For how long a member that is cut off uses private keys; 0: no limit."""
    cache_bytes: int = 64 << 20
    """Bound of the decrypted objects of all keyrings."""
    cache_idle_seconds: float = 900.0
    log_path: str | None = None
    log_level: str = "INFO"


_T = TypeVar("_T", bound=msgspec.Struct)


def harden_process() -> None:
    """Forbid tracing and core dumps, and die with the parent; to be called before any secret."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, int(value), 0, 0, 0) != 0:
            message = f"prctl({option}) failed: {os.strerror(ctypes.get_errno())}."
            raise InternalFault(faults.INTERNAL, message)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def announce_service() -> None:
    """Tell whoever started this process, on the standard output, that it serves from now on."""
    with contextlib.suppress(OSError):  # nobody waits for it
        os.write(sys.stdout.fileno(), SERVES)


def give_memory_back() -> None:
    """Return to the kernel what the start of this process needed and nothing uses any more."""
    gc.collect()
    # glibc's; other C libraries return it by themselves or not at all.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def encode_bootstrap(bootstrap: msgspec.Struct) -> bytes:
    """Return the frame that a daemon writes to a child's standard input."""
    return frame(msgspec.msgpack.encode(bootstrap))


def read_bootstrap(stream: IO[bytes], kind: type[_T]) -> _T:
    """Read one frame; raise InternalFault when it is missing, cut short or of another shape."""
    header = _read_exactly(stream, HEADER_BYTES)
    length = int.from_bytes(header, "big")
    if not 0 < length <= MAX_BOOTSTRAP_BYTES:
        message = f"The bootstrap frame has {length} bytes; 1 to {MAX_BOOTSTRAP_BYTES} are allowed."
        raise InternalFault(faults.INTERNAL, message)
    try:
        return msgspec.msgpack.decode(_read_exactly(stream, length), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"The bootstrap frame is no {kind.__name__}: {error}."
        raise InternalFault(faults.INTERNAL, message) from None


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    # Unbuffered, so that nothing after the frame is taken from whoever watches the stream.
    chunks = io.BytesIO()
    while (missing := length - chunks.tell()) > 0:
        chunk = os.read(stream.fileno(), missing)
        if not chunk:
            raise InternalFault(faults.INTERNAL, "Standard input ended within the bootstrap frame.")
        chunks.write(chunk)
    return chunks.getvalue()


def _leave() -> None:
    # Not sys.exit: the parent is dead, and nothing here is worth waiting for.
    os._exit(PARENT_GONE_STATUS)


def watch_parent(stream: IO[bytes], *, on_gone: Callable[[], None] = _leave) -> threading.Thread:
    """Call `on_gone` (default: end the process) when `stream` ends; watched by a daemon thread."""

    def watch() -> None:
        while os.read(stream.fileno(), 4096):
            pass
        on_gone()

    thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
    thread.start()
    return thread


class _JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, process, message, trace if any."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Undeterred(logging.StreamHandler[Any]):
    """A handler that goes on without the lines that a full or failing disk did not take."""

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and how many were lost once lines are taken again."""
        lost = self._lost
        try:
            super().emit(record)
        except OSError:
            # A file that was turned over and cannot be opened anew.
            self._lost += 1
        if lost and self._lost == lost:
            self._lost = 0
            message = f"{lost} lines could not be logged: the disk was full or failed"
            super().emit(logging.makeLogRecord({"levelname": "WARNING", "msg": message}))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Count what the disk did not take; a mistake of ours is still shown."""
        if isinstance(sys.exc_info()[1], OSError):
            self._lost += 1
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the handler; what the disk does not take is lost."""
        with contextlib.suppress(OSError):
            super().close()


class _LogFile(_Undeterred, WatchedFileHandler):
    """Lines in a file, which the daemon turns over by giving it another name."""


def configure_logging(path: Path | str | None, *, level: str = "INFO") -> None:
    """Log JSON lines to a file of mode 0600, or to standard error when `path` is None.

    Logging stops nobody: where the file cannot be opened lines go to standard error, and lines that
    a full disk does not take are lost and counted.
    """
    handler, failure = _open_log(path)
    handler.setFormatter(_JsonFormatter())
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    if failure is not None:
        root.error("log file %s cannot be opened, standard error is used: %s", path, failure)


def _open_log(path: Path | str | None) -> tuple[logging.Handler, OSError | None]:
    if path is None:
        return _Undeterred(sys.stderr), None
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return _LogFile(path, encoding="utf-8"), None
    except OSError as failure:
        return _Undeterred(sys.stderr), failure
