"""The configuration that PostgreSQL starts with.

Invariants: it is written by us at every start, and nothing that came with a copy is believed: a
copied list of synchronous standbys would let the first write after a promotion wait for ever.  And
a standby is started closed to readers: see `admission`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from conclave.ids import MemberId
from conclave.store.postgresql.account import UPSTREAM, Account, Directories
from conclave.store.postgresql.status import member_name

OWNER: Final = "conclave"
READER: Final = "conclave_reader"
DATABASE: Final = "conclave"
MAIN_FILE: Final = "postgresql.conf"
LIST_FILE: Final = "synchronous.conf"
HBA_FILE: Final = "pg_hba.conf"
IDENT_FILE: Final = "pg_ident.conf"
STANDBY_SIGNAL: Final = "standby.signal"
NOBODY: Final = "m_nobody"

Role = Literal["primary", "standby"]

_FIXED: Final = """\
listen_addresses = ''
unix_socket_permissions = 0777
wal_level = replica
wal_log_hints = on
max_wal_senders = 12
max_replication_slots = 12
hot_standby = on
hot_standby_feedback = on
max_standby_streaming_delay = 500ms
max_standby_archive_delay = 500ms
synchronous_commit = remote_apply
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
max_slot_wal_keep_size = 2GB
wal_keep_size = 256MB
max_wal_size = 512MB
shared_buffers = 32MB
max_connections = 40
work_mem = 2MB
maintenance_work_mem = 16MB
max_worker_processes = 4
autovacuum_max_workers = 1
jit = off
huge_pages = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_destination = 'stderr'
logging_collector = off
log_line_prefix = ''
log_min_messages = warning
log_min_error_statement = panic
log_error_verbosity = terse
log_checkpoints = off
recovery_target_timeline = 'latest'
restart_after_crash = off
"""
# A copy that recovers by itself is read before it has replayed again what it had: only its keeper
# knows that it must not be.
# No log line carries a statement or a row: keys of unique columns would stand in its detail.

_HBA: Final = """\
local all all trust
local replication all trust
"""
_NO_READERS: Final = f"local all {READER} reject\n"
# The socket lies in a directory of mode 0700: who reaches it may do everything anyway.


def write_files(
    places: Directories,
    account: Account,
    role: Role,
    *,
    own_name: str,
    synchronous: str,
) -> None:
    """Write every file that PostgreSQL reads at a start in this role."""
    data, run = places.data, places.run
    lines = [_FIXED, f"unix_socket_directories = {quoted(str(run))}"]
    if own_name:
        lines += [
            f"primary_conninfo = {quoted(upstream_conninfo(run, own_name))}",
            f"primary_slot_name = {quoted(own_name)}",
        ]
    lines.append(f"include = '{LIST_FILE}'")
    write_owned(run / MAIN_FILE, "\n".join(lines) + "\n", account)
    write_list(run, account, synchronous)
    write_access(run, account, readers=role == "primary")
    write_owned(run / IDENT_FILE, "", account)
    write_owned(data / "postgresql.auto.conf", "", account)
    for name in (STANDBY_SIGNAL, "recovery.signal"):
        (data / name).unlink(missing_ok=True)
    if role == "standby":
        write_owned(data / STANDBY_SIGNAL, "", account)


def write_list(run: Path, account: Account, synchronous: str) -> None:
    """Write the list of synchronous standbys; a reload makes it hold."""
    text = f"synchronous_standby_names = {quoted(synchronous)}\n"
    write_owned(run / LIST_FILE, text, account)


def write_access(run: Path, account: Account, *, readers: bool) -> None:
    """Write who may connect: readers or not, and always the owner; a reload makes it hold."""
    write_owned(run / HBA_FILE, _HBA if readers else _NO_READERS + _HBA, account)


def synchronous_list(members: Sequence[MemberId], shift: int) -> str:
    """Return the setting that waits for all of these members, '' for none.

    `shift` names that nobody has stand before them, which changes every member's priority: by that
    it shows in the server's own view who has read the list.
    """
    if not members:
        return ""
    names = [f"{NOBODY}{number}" for number in range(shift)]
    names += [member_name(member) for member in members]
    return f"{len(members)} ({', '.join(names)})"


def upstream_conninfo(run: Path, application_name: str, database: str = "") -> str:
    """Return how the present primary is reached: always through the upstream directory."""
    words = [
        f"host={run / UPSTREAM}",
        f"user={OWNER}",
        f"application_name={application_name}",
        "connect_timeout=3",
        "sslmode=disable",
        "gssencmode=disable",
    ]
    if database:
        words.append(f"dbname={database}")
    return " ".join(words)


def arguments(data: Path, run: Path) -> list[str]:
    """Return the arguments of the program postgres."""
    return [
        "-D",
        str(data),
        "-c",
        f"config_file={run / MAIN_FILE}",
        "-c",
        f"hba_file={run / HBA_FILE}",
        "-c",
        f"ident_file={run / IDENT_FILE}",
    ]


def quoted(text: str) -> str:
    """Write a string as the configuration's syntax wants it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def write_owned(path: Path, text: str, account: Account) -> None:
    """Write a file of the account, mode 0600, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    # The directory is the account's: nothing that it may have put there is followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchown(stream.fileno(), account.uid, account.gid)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
