"""The cluster process: the only writer of the cluster store.

Invariant: before it serves, everything that workers cached under an earlier cluster process is
made void (rule C15), and the page says whether the member is authorized now.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import uvloop
from sqlalchemy.exc import DBAPIError

from conclave.clock import ApplianceClock, boot_time_ms
from conclave.cluster.attempts import AttemptGate
from conclave.cluster.client_admin import ClientAdmin
from conclave.cluster.context import Context, Settings, publish_to
from conclave.cluster.credentials import Credentials
from conclave.cluster.keyring_admin import KeyringAdmin
from conclave.cluster.membership import Membership, check_certificates
from conclave.cluster.object_writes import ObjectWrites
from conclave.cluster.passwords import PasswordDesk
from conclave.cluster.session_tickets import DeniedLogins, TicketOffice
from conclave.cluster.store_threads import ReaderThread, WriterThread
from conclave.cluster.user_mirror import UserMirror
from conclave.errors import ConclaveError
from conclave.service.bootstrap import (
    ClusterBootstrap,
    configure_logging,
    harden_process,
    read_bootstrap,
    watch_parent,
)
from conclave.service.channel import ChannelClient, ChannelServer, Handler
from conclave.service.messages import Authorize
from conclave.service.page import SharedPage
from conclave.store.engine import open_writer_engine
from conclave.store.migrations import migrate
from conclave.store.repository import open_reader

REFUSED_STATUS: Final = 78
"""Exit status of a start that was refused for a reason in the log (EX_CONFIG)."""

STORE_STATUS: Final = 74
"""Exit status of a start whose store cannot be read or written now (EX_IOERR)."""

UNSET_BELOW_MS: Final = 1000
"""A cluster time that is not further from boot time was never set."""

logger = logging.getLogger("conclave.cluster.process")


@dataclass(frozen=True, slots=True)
class Service:
    """A cluster service's parts: what it knows, and its handlers by method name."""

    context: Context
    membership: Membership
    handlers: dict[str, Handler]


def build_handlers(context: Context, login: ChannelClient) -> Service:
    """Return one handler for each method of the cluster process."""
    gate = AttemptGate(context.limits)
    desk = PasswordDesk(context, login, gate)
    office = TicketOffice(context, DeniedLogins(context.page))
    membership = Membership(context)
    keyrings = KeyringAdmin(context, desk, gate)
    clients = ClientAdmin(context)
    credentials = Credentials(context, desk, office)
    objects = ObjectWrites(context, office)
    users = UserMirror(context)
    handlers: dict[str, Handler] = {
        "status": membership.status,
        "create_cluster": membership.create_cluster,
        "list_clusters": membership.list_clusters,
        "list_members": membership.list_members,
        "authorize": membership.authorize,
        "create_keyrings": keyrings.create_keyrings,
        "list_keyrings": keyrings.list_keyrings,
        "show_keyring": keyrings.show_keyring,
        "delete_keyring": keyrings.delete_keyring,
        "unlock_keyring": keyrings.unlock_keyring,
        "register_client": clients.register_client,
        "list_clients": clients.list_clients,
        "revoke_client": clients.revoke_client,
        "put_users": users.put_users,
        "list_users": users.list_users,
        "worker_keys": membership.worker_keys,
        "members_state": membership.members_state,
        "login": credentials.login,
        "logout": credentials.logout,
        "change_password": credentials.change_password,
        "initialize_krco": credentials.initialize_krco,
        "initialize_token": credentials.initialize_token,
        "write_objects": objects.write_objects,
        "lookup_write": objects.lookup_write,
    }
    return Service(context, membership, handlers)


def open_context(bootstrap: ClusterBootstrap, page: SharedPage) -> Context:
    """Open and migrate the store, and start its threads; to be called in the event loop."""
    path = Path(bootstrap.database_path)
    engine = open_writer_engine(path)
    migrate(engine)
    settings = Settings(
        limits=bootstrap.limits,
        cost=bootstrap.cost,
        server_common_name=bootstrap.server_common_name,
        other_names=(bootstrap.host_name, *bootstrap.addresses),
        admin_port=bootstrap.admin_port,
        crypto_port=bootstrap.crypto_port,
    )
    return Context(
        settings=settings,
        page=page,
        clock=ApplianceClock(page.appliance_offset_ms),
        writer=WriterThread(engine, publish_to(page)),
        reader=ReaderThread(lambda: open_reader(path)),
    )


async def prepare_page(context: Context, bootstrap: ClusterBootstrap) -> None:
    """Make the page true for this process, and void what was cached under another one."""
    page = context.page
    if bootstrap.smk is None:
        # Else a predecessor crashed, which is not a stop: workers go on with the keys they have.
        page.set_authorized(False)
    page.set_appliance_offset(bootstrap.clock_offset_ms)
    if page.cluster_time_ms() - boot_time_ms() < UNSET_BELOW_MS:
        # A cluster of one: its only member is the primary, whose appliance clock decides.
        page.set_cluster_time_offset(context.clock.now_ms() - boot_time_ms())
    state, revision = await context.read(lambda reader: (reader.cluster_state(), reader.revision()))
    page.set_log_position(revision)
    if state is not None:
        page.set_epoch(state.epoch_number, state.epoch_member)
    # A cluster of one sees itself.
    page.set_visible(state is not None)
    page.bump_members()
    page.bump_clients()
    page.bump_global()


async def serve(stream: IO[bytes]) -> None:
    """Open the store, authorize again after a crash, and answer until the parent ends us."""
    bootstrap = read_bootstrap(stream, ClusterBootstrap)
    configure_logging(bootstrap.log_path, level=bootstrap.log_level)
    watch_parent(stream)
    page = SharedPage.attach(bootstrap.page_fd, writable=True)
    context = open_context(bootstrap, page)
    await prepare_page(context, bootstrap)
    if not bootstrap.skip_certificate_check:
        await context.read(lambda reader: check_certificates(reader, context.clock.now()))
    login = ChannelClient(bootstrap.login_socket_path, bootstrap.login_secret)
    service = build_handlers(context, login)
    await authorize_again(service, bootstrap)
    server = ChannelServer(bootstrap.socket_path, bootstrap.secrets, service.handlers)
    # The SMK is in there, and nothing needs it any more.
    del bootstrap
    await server.start()
    logger.info("The cluster process is ready.")
    await asyncio.get_running_loop().create_future()


async def authorize_again(service: Service, bootstrap: ClusterBootstrap) -> None:
    """Take the SMK that the daemon kept over a crash (rule C7), if there is one."""
    if bootstrap.smk is not None:
        again = Authorize(smk=bootstrap.smk, member_key_spki_der=bootstrap.member_key_spki_der)
        await service.membership.authorize(again, "daemon")


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
