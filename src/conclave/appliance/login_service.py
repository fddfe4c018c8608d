"""The daemon's side of the login process: always there, respawned, asked over its socket."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, cast

from conclave.appliance.paths import StatePaths
from conclave.appliance.supervisor import Child, ChildSpec
from conclave.service.bootstrap import LoginBootstrap, encode_bootstrap
from conclave.service.channel import ChannelClient
from conclave.service.messages import DerivedKey, HashPassword
from conclave.settings import ApplianceConfig

MODULE: Final = "conclave.service.login_process"
SECRET_BYTES: Final = 32
HASH_SECONDS: Final = 20.0


class LoginService:
    """Start, stop and ask the login process."""

    def __init__(self, config: ApplianceConfig, paths: StatePaths) -> None:
        self._config = config
        self._paths = paths
        self.secret: Final = os.urandom(SECRET_BYTES)
        """Proves the daemon, and the cluster process, to the login process."""
        self._client = ChannelClient(paths.login_socket, self.secret)
        self._child = Child(ChildSpec("login", MODULE, self._frame_maker()))

    @property
    def pid(self) -> int | None:
        """Return the process's id."""
        return self._child.pid

    async def start(self) -> None:
        """Start the process; calls wait until it answers."""
        await self._child.start()

    async def stop(self) -> None:
        """End the process."""
        await self._client.close()
        await self._child.stop()

    async def hash_password(self, password: bytes, salt: bytes, source: str) -> bytes:
        """Derive 32 bytes; raise Unavailable when the process is busy or away for too long."""
        request = HashPassword(password=password, salt=salt, source=source)
        answer = await self._client.call("hash_password", request, timeout_seconds=HASH_SECONDS)
        return cast(DerivedKey, answer).key

    def _frame_maker(self) -> Callable[[], bytes]:
        bootstrap = LoginBootstrap(
            socket_path=str(self._paths.login_socket),
            secrets={"daemon": self.secret},
            cost=self._config.password_cost,
            low_cost_for_tests=self._config.low_cost_for_tests,
            log_path=str(self._paths.log("login")),
        )
        return lambda: encode_bootstrap(bootstrap)
