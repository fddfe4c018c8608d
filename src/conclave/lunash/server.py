"""LunaSH's SSH listener: who may log in, and what a connection may be used for.

Invariant: a connection reaches the shell of LunaSH and the user's own files, nothing else: no port,
agent, X11 or environment, no subsystem but sftp, and never a shell or a program of the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Final

import asyncssh
from asyncssh import SSHKey, SSHServerConnection, SSHServerProcess
from asyncssh.channel import SSHChannel

from conclave import faults
from conclave.appliance.appliance import Appliance
from conclave.appliance.connections import BoundedListener, ConnectionBudget
from conclave.appliance.system_log import LUSH_LOGGER
from conclave.appliance.users import Login
from conclave.errors import ConclaveError, Unavailable
from conclave.lunash.catalogue import COMMANDS, OPERATIONS_BY_NAME, Offered, offered_by
from conclave.lunash.connection import Shared, serve_process
from conclave.lunash.execution import DOOR, House
from conclave.lunash.file_records import FileRecords
from conclave.lunash.files import ConfinedFiles
from conclave.lunash.host_key import load_host_key
from conclave.operations.task_table import TaskTable

KEEPALIVE_SECONDS: Final = 5
KEEPALIVES_MISSED: Final = 3
"""A dead peer is dropped after 15 s."""
SFTP_VERSION: Final = 3
MAX_ATTEMPTS: Final = 6
MAX_KEYS: Final = 128
"""Of one connection: a key is asked for, then proven."""
MAX_SESSIONS: Final = 10
"""Of one connection, as OpenSSH has it."""
BUSY_PAUSE_SECONDS: Final = 0.2
KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
)
CIPHERS: Final = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
)
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256")

_lush = logging.getLogger(LUSH_LOGGER)


class LunaShDoor:
    """The SSH listener of one appliance."""

    def __init__(
        self, appliance: Appliance, tasks: TaskTable, *, offered: Offered | None = None
    ) -> None:
        self._appliance = appliance
        self._shared = Shared(
            house=House(appliance=appliance, operations=OPERATIONS_BY_NAME, tasks=tasks),
            commands=COMMANDS,
            offered=offered or offered_by(appliance),
        )
        self._listeners: list[asyncssh.SSHAcceptor] = []
        self._connections: set[SSHServerConnection] = set()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen and serve until `stop`."""
        # Its own log repeats command lines, which may hold passwords.
        asyncssh.set_log_level(logging.WARNING)
        settings = self._appliance.config.ssh
        budget = ConnectionBudget(settings.max_connections)
        key = load_host_key(self._appliance.paths.ssh)
        for each in sockets:
            listener = await asyncssh.listen(
                sock=BoundedListener.take_over(each, budget),
                server_factory=lambda: _Connection(self._shared, self._connections),
                server_host_keys=[key],
                server_version="Conclave",
                kex_algs=KEX,
                encryption_algs=CIPHERS,
                mac_algs=MACS,
                compression_algs=["none"],
                gss_host=None,
                agent_forwarding=False,
                x11_forwarding=False,
                allow_scp=True,
                line_editor=False,
                login_timeout=settings.login_seconds,
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=KEEPALIVES_MISSED,
                encoding="utf-8",
                errors="replace",
            )
            self._listeners.append(listener)

    async def stop(self, *, deadline_seconds: float) -> None:
        """End the sessions and close the sockets."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.close()
        ends = [connection.wait_closed() for connection in tuple(self._connections)]
        ends += [listener.wait_closed() for listener in listeners]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_seconds):
                await asyncio.gather(*ends, return_exceptions=True)


class _Connection(asyncssh.SSHServer):
    """One connection, from its login on."""

    def __init__(self, shared: Shared, connections: set[SSHServerConnection]) -> None:
        self._shared = shared
        self._users = shared.house.appliance.users
        self._connections = connections
        self._connection: SSHServerConnection | None = None
        self._source = "unknown"
        self._port = 0
        self._login: Login | None = None
        self._first_password: str | None = None
        self._by_key = False
        self._let_in = False
        self._refused_key_of: str | None = None
        """Whose key was refused, or not proven, until somebody is let in."""
        self._named = False
        self._key_waits = False
        """A key was offered inside a delay."""
        self._keys = 0
        self._attempts = 0
        self._sessions = 0

    def connection_made(self, conn: SSHServerConnection) -> None:
        """Note where the connection comes from."""
        self._connection = conn
        self._connections.add(conn)
        self._source, self._port = conn.get_extra_info("peername")[:2]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget the connection."""
        if self._connection is not None:
            self._connections.discard(self._connection)
        if self._refused_key_of is not None:
            self._note_refused_key(self._refused_key_of)
        if self._login is not None and self._let_in:
            _lush.info("0 : Lush user logout : %s : %s", self._login.user_id, self.origin)

    @property
    def origin(self) -> str:
        """Return address and port, as logs have them."""
        return f"{self._source}/{self._port}"

    def begin_auth(self, username: str) -> bool:
        """Ask everybody for a proof; a connection has one user's name, as OpenSSH has it.

        Else keys could be tried in others' names beside one's own login, unseen and uncounted.
        """
        if self._named:
            self._log_failure(username, "another name")
            raise asyncssh.PermissionDenied("The user's name must not change.")
        self._named = True
        return True

    def password_auth_supported(self) -> bool:
        """Take passwords."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Take keys that users added."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Check a password as REST does, with the same delays after wrong ones."""
        self._count_attempt(username)
        while True:
            try:
                login = await self._users.authenticate(
                    username, password, source=self._source, door=DOOR, opens=True
                )
            except Unavailable as error:
                if error.fault is faults.BUSY:
                    # The login window bounds this.
                    await asyncio.sleep(BUSY_PAUSE_SECONDS)
                    continue
                return self._refuse(username, error)
            except ConclaveError as error:
                return self._refuse(username, error)
            self._login, self._by_key = login, False
            user = self._users.current(login)
            self._first_password = password if user is not None and user.must_change else None
            return True

    def validate_public_key(self, username: str, key: SSHKey) -> bool:
        """Tell whether a user added that key; that it is held, asyncssh checks."""
        # Recorded at the end of the connection unless a proof follows: clients offer all they have.
        self._refused_key_of = username
        self._keys += 1
        delays, name = self._users.key_delays, self._known(username)
        self._key_waits = self._key_waits or delays.waits(name, self._source)
        if self._key_waits or self._keys > MAX_KEYS:
            return False
        kind, data = key.export_public_key().decode().split()[:2]
        if not self._shared.house.appliance.public_keys.holds(username, kind, data):
            return False
        self._login = self._users.logged_in_by_key(username)
        self._first_password, self._by_key = None, True
        return self._login is not None

    def auth_completed(self) -> None:
        """Log the login."""
        self._let_in, self._refused_key_of = True, None
        if self._login is not None:
            if self._by_key:
                self._users.key_delays.succeeded(self._login.user_id, self._source)
                self._users.note_login_by_key(self._login, source=self._source, door=DOOR)
            _lush.info("0 : Lush user login : %s : %s", self._login.user_id, self.origin)

    def session_requested(self) -> SSHServerProcess[str]:
        """Open LunaSH, or the user's files."""
        self._sessions += 1
        if self._sessions > MAX_SESSIONS or self._login is None or self._connection is None:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "No more sessions on this connection."
            )
        if self._connection.get_extra_info("username") != self._login.user_id:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "The login is another user's."
            )
        return _Process(self)

    async def serve(self, process: SSHServerProcess[str]) -> None:
        """Carry one session out."""
        assert self._login is not None  # noqa: S101 - no session without a login
        renewed = await serve_process(
            self._shared, process, self._login, self._first_password, self._source
        )
        # Further sessions of the connection go on with the new password's login.
        if renewed.version != self._login.version:
            self._login, self._first_password = renewed, None

    @property
    def has_files(self) -> bool:
        """Tell whether the user may reach the own files: not before the first change."""
        user = None if self._login is None else self._users.current(self._login)
        return user is not None and not user.must_change

    def files(self, channel: SSHChannel[bytes], process: _Process) -> ConfinedFiles:
        """Return the user's files."""
        assert self._login is not None  # noqa: S101 - no session without a login
        appliance = self._shared.house.appliance
        records = FileRecords(
            appliance.audit,
            self._users,
            self._login,
            source=self._source,
            protocol=channel.get_subsystem() or "scp",
        )
        return ConfinedFiles(channel, appliance.files, records, lambda: process.ended)

    def _count_attempt(self, username: str) -> None:
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            self._log_failure(username, "too many attempts")
            raise asyncssh.PermissionDenied("Too many attempts.")

    def _note_refused_key(self, username: str) -> None:
        fault = faults.LOGIN_DELAYED if self._key_waits else faults.NOT_AUTHENTICATED
        if not self._key_waits:
            self._users.key_delays.failed(self._known(username), self._source)
        self._users.note_refused_login(username, source=self._source, door=DOOR, fault=fault)
        self._log_failure(username, fault.rest_id)

    def _refuse(self, username: str, error: ConclaveError) -> bool:
        self._log_failure(username, error.fault.rest_id)
        return False

    def _known(self, username: str) -> str:
        """Return a user's name, or "" for a name that nobody has."""
        return username if any(user.user_id == username for user in self._users.all()) else ""

    def _log_failure(self, username: str, why: str) -> None:
        # A name that nobody has may be a password, typed at the wrong prompt.
        shown = self._known(username) or "unknown"
        _lush.info("65535 : Lush user login : %s : %s : %s", shown, self.origin, why)


class _Process(SSHServerProcess[str]):
    """One session; it knows when the client has sent its last."""

    def __init__(self, connection: _Connection) -> None:
        factory = self._open_files if connection.has_files else None
        super().__init__(connection.serve, factory, SFTP_VERSION, allow_scp=True)
        self._connection = connection
        self.ended = False

    def _open_files(self, channel: SSHChannel[bytes]) -> ConfinedFiles:
        return self._connection.files(channel, self)

    def eof_received(self) -> bool:
        """Note that the client sends no more."""
        self.ended = True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client is gone."""
        self.ended = True
        super().connection_lost(exc)
