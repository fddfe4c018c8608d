"""Where an appliance keeps what: one directory, everything in it private to its owner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from conclave import faults
from conclave.errors import BadInput
from conclave.settings import CONFIG_FILE_NAME

_LONGEST_SOCKET_PATH = 107
"""sun_path has 108 bytes with its final zero (unix(7))."""


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The layout of a state directory."""

    root: Path

    @property
    def config(self) -> Path:
        """The settings."""
        return self.root / CONFIG_FILE_NAME

    @property
    def store(self) -> Path:
        """The appliance store."""
        return self.root / "appliance.db"

    @property
    def hsm(self) -> Path:
        """The HSM's directory: master key and sealed state."""
        return self.root / "hsm"

    @property
    def webserver(self) -> Path:
        """The webserver's certificate and key."""
        return self.root / "webserver"

    @property
    def ssh(self) -> Path:
        """The host key of LunaSH."""
        return self.root / "ssh"

    @property
    def cluster(self) -> Path:
        """The cluster's directory."""
        return self.root / "cluster"

    @property
    def cluster_store(self) -> Path:
        """The cluster store."""
        return self.cluster / "cluster.db"

    @property
    def packages(self) -> Path:
        """The installed secure packages."""
        return self.root / "packages"

    @property
    def files(self) -> Path:
        """The users' files, one directory for each."""
        return self.root / "files"

    @property
    def release_keys(self) -> Path:
        """Public keys whose packages may be installed."""
        return self.root / "release_keys"

    @property
    def run(self) -> Path:
        """Sockets and the lock of a running daemon."""
        return self.root / "run"

    @property
    def login_socket(self) -> Path:
        """The login process's socket."""
        return self.run / "login.sock"

    @property
    def cluster_socket(self) -> Path:
        """The cluster process's socket."""
        return self.run / "cluster.sock"

    @property
    def lock(self) -> Path:
        """Locked as long as a daemon runs here."""
        return self.run / "daemon.lock"

    @property
    def ready(self) -> Path:
        """Written when the daemon serves, removed when it ends."""
        return self.run / "ready.json"

    @property
    def audit(self) -> Path:
        """The audit log: files of records, the head, the signing key."""
        return self.root / "audit"

    @property
    def logs(self) -> Path:
        """JSON lines, one file for each process."""
        return self.root / "log"

    def log(self, process: str) -> Path:
        """Return the log of one process."""
        return self.logs / f"{process}.log"

    def make(self) -> None:
        """Make the directories, of mode 0700; refuse a path too long for its sockets."""
        longest = os.fsencode(self.cluster_socket.absolute())
        if len(longest) > _LONGEST_SOCKET_PATH:
            message = (
                f"The state directory's path is too long by {len(longest) - _LONGEST_SOCKET_PATH}"
                f" bytes for a Unix socket in it: {self.root}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
        for directory in self._directories():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _directories(self) -> tuple[Path, ...]:
        return (
            self.root,
            self.hsm,
            self.webserver,
            self.ssh,
            self.files,
            self.cluster,
            self.run,
            self.logs,
            self.audit,
            self.files,
        )
