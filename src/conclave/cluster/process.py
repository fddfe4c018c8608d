"""The cluster process: the only writer of the cluster store.

Invariant: before it serves, everything that workers cached under an earlier cluster process is
made void (rule C15), and the page says whether the member is authorized now.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import IO, Final

import uvloop
from sqlalchemy.exc import DBAPIError

from conclave.clock import ApplianceClock, boot_time_ms
from conclave.cluster.context import Context, Settings, publish_to
from conclave.cluster.member_base import Home
from conclave.cluster.replication_base import Places
from conclave.cluster.runtime import Runtime
from conclave.cluster.store_handle import StoreHandle
from conclave.errors import ConclaveError, Unavailable
from conclave.service.bootstrap import (
    ClusterBootstrap,
    configure_logging,
    give_memory_back,
    harden_process,
    read_bootstrap,
    watch_parent,
)
from conclave.service.channel import ChannelClient, ChannelServer
from conclave.service.messages import Authorize
from conclave.service.page import SharedPage
from conclave.store.location import StoreLocation
from conclave.store.postgresql import account as accounts

REFUSED_STATUS: Final = 78
"""Exit status of a start that was refused for a reason in the log (EX_CONFIG)."""

STORE_STATUS: Final = 74
"""Exit status of a start whose store cannot be read or written now (EX_IOERR)."""

AUTHORIZE_SECONDS: Final = 0.5

UNSET_BELOW_MS: Final = 1000
"""A cluster time that is not further from boot time was never set."""

logger = logging.getLogger("conclave.cluster.process")


def open_context(bootstrap: ClusterBootstrap, page: SharedPage) -> Context:
    """Return what all handlers share; the store is opened by the runtime."""
    settings = Settings(
        limits=bootstrap.limits,
        cost=bootstrap.cost,
        server_common_name=bootstrap.server_common_name,
        other_names=(bootstrap.host_name, *bootstrap.addresses),
        admin_port=bootstrap.admin_port,
        crypto_port=bootstrap.crypto_port,
        package_version=bootstrap.package_version,
    )
    return Context(
        settings=settings,
        page=page,
        clock=ApplianceClock(page.appliance_offset_ms),
        store=StoreHandle(publish_to(page)),
    )


def home_of(bootstrap: ClusterBootstrap) -> Home:
    """Return where this member lives."""
    sqlite = Path(bootstrap.database_path)
    state_dir = Path(bootstrap.state_dir) if bootstrap.state_dir else sqlite.parent
    account = accounts.find(bootstrap.postgresql.account)
    places = Places(StoreLocation(sqlite.parent), sqlite, accounts.directories(state_dir, account))
    return Home(
        state_dir=state_dir,
        places=places,
        key_pem=bootstrap.member_key_pem,
        times=bootstrap.cluster_settings,
        postgresql=bootstrap.postgresql,
        admin_port=bootstrap.admin_port,
        crypto_port=bootstrap.crypto_port,
    )


def prepare_page(page: SharedPage, bootstrap: ClusterBootstrap, now_ms: int) -> None:
    """Make the page true for this process before it opens its store."""
    if bootstrap.smk is None:
        # Else a predecessor crashed, which is not a stop: workers go on with the keys they have.
        page.set_authorized(False)
    page.set_appliance_offset(bootstrap.clock_offset_ms)
    if page.cluster_time_ms() - boot_time_ms() < UNSET_BELOW_MS:
        # Until a primary tells another: the appliance clock decides.
        page.set_cluster_time_offset(now_ms - boot_time_ms())


async def void_caches(context: Context) -> None:
    """Void what was cached under another process (rule C15), and tell where the store is."""
    page = context.page
    try:
        state, revision = await context.read(
            lambda reader: (reader.cluster_state(), reader.revision())
        )
    except Unavailable as error:
        # A member that has to wait for others opens its store later, and tells the page then.
        logger.warning("The store is not open yet: %s", error.message)
    else:
        page.set_log_position(revision)
        if state is not None:
            page.set_epoch(state.epoch_number, state.epoch_member)
    page.bump_clients()
    page.bump_members()
    page.bump_global()


async def serve(stream: IO[bytes]) -> None:
    """Open the store, authorize again after a crash, and answer until the parent ends us."""
    bootstrap = read_bootstrap(stream, ClusterBootstrap)
    configure_logging(bootstrap.log_path, level=bootstrap.log_level)
    watch_parent(stream)
    page = SharedPage.attach(bootstrap.page_fd, writable=True)
    login = ChannelClient(bootstrap.login_socket_path, bootstrap.login_secret)
    context = open_context(bootstrap, page)
    prepare_page(page, bootstrap, context.clock.now_ms())
    runtime = Runtime(context, home_of(bootstrap), login)
    await runtime.start()
    await void_caches(context)
    if not bootstrap.skip_certificate_check:
        runtime.check_certificates()
    await authorize_again(runtime, bootstrap)
    server = ChannelServer(bootstrap.socket_path, bootstrap.secrets, runtime.handlers)
    # The SMK is in there, and nothing needs it any more.
    del bootstrap
    await server.start()
    give_memory_back()
    logger.info("The cluster process is ready.")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await runtime.notices.end()
    await server.close()
    await runtime.close()


async def authorize_again(runtime: Runtime, bootstrap: ClusterBootstrap) -> None:
    """Take the SMK that the daemon kept over a crash (rule C7), if there is one."""
    if bootstrap.smk is None:
        return
    again = Authorize(
        smk=bootstrap.smk,
        member_key_spki_der=bootstrap.member_key_spki_der,
        domain=bootstrap.domain,
    )
    try:
        await runtime.membership.authorize(again, "daemon")
    except Unavailable as error:
        # A member that has to wait for others is authorized when its store is open.
        logger.warning("The member is not authorized yet: %s", error.message)
        runtime.run(_authorize_later(runtime, again))


async def _authorize_later(runtime: Runtime, again: Authorize) -> None:
    """Authorize once the store is open, unless another member has done so before."""
    while runtime.context.authorized is None:
        await asyncio.sleep(AUTHORIZE_SECONDS)
        with contextlib.suppress(Unavailable):
            await runtime.membership.authorize(again, "daemon")


def main() -> None:
    """Run the cluster process: bootstrap frame on standard input, then until its end of file."""
    harden_process()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(sys.stdin.buffer))
    except ConclaveError as error:
        logger.error("The cluster process cannot start: %s", error.message)
        sys.exit(REFUSED_STATUS)
    except DBAPIError as error:
        logger.error("The cluster process cannot open its store: %s.", error.orig)
        sys.exit(STORE_STATUS)


if __name__ == "__main__":
    main()
