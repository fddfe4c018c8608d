"""How a worker fetches keys: each answer knows of all that was heard before it was asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conclave.service.channel import ChannelClient, ChannelServer
from conclave.service.key_fetcher import KeyFetcher
from conclave.service.messages import FetchKeys, TicketKey, WorkerKeys
from conclave.service.quiet import Quiet

SECRET = bytes(32)


class ClusterProcess:
    """Answers with a newer key each time, when it may."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.sent = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def worker_keys(self, params: FetchKeys, _role: str) -> Quiet:
        self.asked.append(params.anew)
        version = len(self.asked)
        self.sent.set()
        await self.may_answer.wait()
        return WorkerKeys(True, [TicketKey(version, bytes(32))], bytes(32), "c" * 36, "m" * 36)


def test_nobody_shares_an_answer_that_was_asked_for_before_he_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        process, taken = ClusterProcess(), list[int]()
        path = tmp_path / "socket"
        server = ChannelServer(path, {"worker": SECRET}, {"worker_keys": process.worker_keys})
        await server.start()
        channel = ChannelClient(path, SECRET)
        fetcher = KeyFetcher(channel, lambda given: taken.append(given.ticket_keys[0].version))
        first = fetcher.fetch()
        assert fetcher.fetch() is first
        await process.sent.wait()
        second = fetcher.fetch()
        assert second is not first
        assert fetcher.fetch() is second
        anew = fetcher.fetch(anew=True)
        process.may_answer.set()
        await asyncio.gather(first, second, anew)
        assert (taken, process.asked) == ([1, 2, 3], [False, False, True])
        await channel.close()
        await server.close(grace_seconds=0.1)

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())
