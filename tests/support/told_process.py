"""A cluster process of which a test decides what each method answers, on a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from conclave.service.channel import ChannelClient, ChannelServer, Handler
from conclave.service.messages import Notice
from conclave.service.quiet import Quiet

SECRET = bytes(32)
Answer = Callable[[Any], Awaitable[Quiet]]


NO_NEWS = Notice(
    number=0,
    smk=b"",
    domain=b"",
    cluster_id="",
    member_id="",
    dual_identity=False,
    member_certificate_pem="",
    ca_certificate_pem="",
    users_version=0,
    removed="",
)


def notice(number: int, **fields: object) -> Notice:
    """Return a notice that says nothing but these."""
    return msgspec.structs.replace(NO_NEWS, number=number, **fields)


class ToldProcesses:
    """What the daemon's side of a cluster process is asked, and holds."""

    def __init__(self, path: Path, answers: dict[str, Answer]) -> None:
        self._path = path
        self._client = ChannelClient(path, SECRET)
        self._answers = answers
        self._server: ChannelServer | None = None
        self.cluster_pid: int | None = 1
        self.on_worker_start: Callable[[], None] = lambda: None
        self.asked: list[tuple[str, Quiet]] = []
        self.held: list[tuple[bytes, bytes] | None] = []

    def methods(self) -> list[str]:
        """Return the methods that were called, in their order, progress apart."""
        return [name for name, _ in self.asked if name != "join_progress"]

    async def start(self) -> None:
        """Serve; a process that was respawned comes without the connections of the former."""
        handlers = {name: self._handler(name, answer) for name, answer in self._answers.items()}
        self._server = ChannelServer(self._path, {"daemon": SECRET}, handlers)
        await self._server.start()

    async def stop(self) -> None:
        """End it as a kill would."""
        assert self._server is not None
        await self._server.close(grace_seconds=0)

    async def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Quiet:
        answer: Quiet = await self._client.call(method, params, timeout_seconds=timeout_seconds)
        return answer

    def keep_smk(self, smk: bytes, domain: bytes) -> None:
        self.held.append((smk, domain))

    def forget_smk(self) -> None:
        self.held.append(None)

    async def close(self) -> None:
        await self._client.close()
        await self.stop()

    def _handler(self, name: str, answer: Answer) -> Handler:
        async def handle(params: Any, _role: str) -> Quiet:
            self.asked.append((name, params))
            return await answer(params)

        return handle


@asynccontextmanager
async def told(directory: Path, answers: dict[str, Answer]) -> AsyncIterator[ToldProcesses]:
    """Serve these answers for a while."""
    processes = ToldProcesses(directory / "told.sock", answers)
    await processes.start()
    try:
        yield processes
    finally:
        await processes.close()
