"""A real cluster store with its threads inside the test's process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from conclave.cluster.context import Context
from conclave.cluster.process import open_context
from conclave.crypto.password_hash import LOW_COST_FOR_TESTS
from conclave.service.bootstrap import ClusterBootstrap
from conclave.service.page import SharedPage
from conclave.settings import Limits
from conclave.store.location import StoreLocation, open_reader, open_writer_engine
from conclave.store.migrations import migrate


@asynccontextmanager
async def store_context(directory: Path) -> AsyncIterator[Context]:
    """Yield the context of handlers on a new store in `directory`."""
    page = SharedPage.create()
    bootstrap = ClusterBootstrap(
        database_path=str(directory / "cluster.db"),
        socket_path=str(directory / "cluster.sock"),
        secrets={"daemon": os.urandom(32)},
        login_socket_path=str(directory / "login.sock"),
        login_secret=os.urandom(32),
        page_fd=page.fd,
        limits=Limits(),
        cost=LOW_COST_FOR_TESTS,
        server_common_name="lnh.test",
        host_name="member-a",
        addresses=["127.0.0.1"],
        admin_port=50070,
        crypto_port=50052,
    )
    context = open_context(bootstrap, page)
    location = StoreLocation(directory)
    engine = open_writer_engine(location)
    migrate(engine)
    context.store.use(lambda: open_reader(location), engine)
    try:
        yield context
    finally:
        await asyncio.to_thread(context.store.close)
        page.close()
