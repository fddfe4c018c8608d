"""All of a cluster process: the store, the handlers, and the member once there is one.

Invariant: there is a member exactly while its durable state says that this appliance is in a
cluster; while there is none, the store is the local one and whoever called is alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from cryptography import x509

from conclave import faults
from conclave.cluster.assignments import AssignmentAdmin
from conclave.cluster.attempts import AttemptGate
from conclave.cluster.ca import check_validity
from conclave.cluster.certificates import Certificates
from conclave.cluster.client_admin import ClientAdmin
from conclave.cluster.cluster_operations import ClusterOperations
from conclave.cluster.configuration import MemberState, Standing
from conclave.cluster.context import Context
from conclave.cluster.context_logins import ContextLogins
from conclave.cluster.credentials import Credentials
from conclave.cluster.engine_choice import EngineChoice
from conclave.cluster.enrolment import EnrolmentAdmin
from conclave.cluster.forwarding import Forwarding, make_local_logins
from conclave.cluster.joining import Joining
from conclave.cluster.keyring_admin import KeyringAdmin
from conclave.cluster.local_failures import FILE_NAME as FAILURES
from conclave.cluster.local_failures import FailureFile
from conclave.cluster.member import Member, Outside, first_state
from conclave.cluster.member_base import Home
from conclave.cluster.member_state import FILE_NAME, MemberStateFile
from conclave.cluster.membership import Membership
from conclave.cluster.notices import Notices
from conclave.cluster.object_writes import ObjectWrites
from conclave.cluster.passwords import PasswordDesk
from conclave.cluster.runtime_joins import RuntimeJoins
from conclave.cluster.session_tickets import DeniedLogins, TicketOffice
from conclave.cluster.take_in import TakeIn
from conclave.cluster.user_mirror import UserMirror
from conclave.errors import ConclaveError, Conflict
from conclave.service.channel import ChannelClient, Handler
from conclave.service.messages import (
    UserRecords,
    UsersVersion,
)
from conclave.service.page import NO_LEASE_END
from conclave.store.engine import open_writer_engine as open_sqlite_writer
from conclave.store.location import ENGINE_FILE, open_reader
from conclave.store.migrations import migrate
from conclave.store.postgresql import account as accounts
from conclave.store.repository import ClusterReader, Touched

FORWARD_SECONDS: Final = 32.0
FORWARD_CONNECT_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


class Runtime(RuntimeJoins):
    """The parts of one cluster process."""

    def __init__(self, context: Context, home: Home, login: ChannelClient) -> None:
        self.context = context
        self.home = home
        self.notices = Notices()
        self.member: Member | None = None
        self.login = login
        self._publish = context.store.publish
        context.store.publish = self.publish
        context.store.acknowledge = self.acknowledge
        self._file = MemberStateFile(home.places.location.directory / FILE_NAME)
        self._background: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.handlers: dict[str, Handler] = {}
        self._local: dict[str, Handler] = {}
        self.certificates = Certificates(context, lambda: self.member, self.notices)
        self.membership = Membership(
            context,
            lambda: self.member,
            self.certificates,
            self._first_authorized,
            EngineChoice(home.places.location, home.postgresql, self.move_store),
        )
        self._build()

    # ------------------------------------------------------------------ handlers

    def _build(self) -> None:
        context = self.context
        gate = AttemptGate(context.limits)
        desk = PasswordDesk(context, self.login, gate)
        self._office = TicketOffice(context, DeniedLogins(context.page), self.certificates.reload)
        directory = self.home.places.location.directory
        failures = FailureFile(directory / FAILURES)
        self._logins = make_local_logins(
            context, lambda: self.member, self._office, self.login, failures
        )
        keyrings = KeyringAdmin(context, desk, gate)
        self._credentials = Credentials(context, desk, self._office)
        objects = ObjectWrites(context, self._office)
        contexts = ContextLogins(
            context, self._office, lambda: self.member, lambda: self.handlers["login"]
        )
        users = UserMirror(context)

        async def put_users(params: UserRecords, role: str) -> UsersVersion:
            result = await users.put_users(params, role)
            if self.member is not None:
                self.member.note_users(result.version)
            return result

        self._local = (
            self._cluster_handlers()
            | self._client_handlers()
            | contexts.handlers()
            | {
                "create_keyrings": keyrings.create_keyrings,
                "list_keyrings": keyrings.list_keyrings,
                "show_keyring": keyrings.show_keyring,
                "delete_keyring": keyrings.delete_keyring,
                "unlock_keyring": keyrings.unlock_keyring,
                "put_users": put_users,
                "list_users": users.list_users,
                "login": self._credentials.login,
                "logout": self._credentials.logout,
                "change_password": self._credentials.change_password,
                "initialize_krco": self._credentials.initialize_krco,
                "initialize_token": self._credentials.initialize_token,
                "write_objects": objects.write_objects,
                "lookup_write": objects.lookup_write,
            }
        )
        forwarding = Forwarding(
            context, lambda: self.member, self._credentials, self._office, self._logins, self.run
        )
        self.handlers = forwarding.doors(self._local)

    def _client_handlers(self) -> dict[str, Handler]:
        """Return the handlers of the methods about clients."""
        clients = ClientAdmin(self.context, self.certificates.until_shown)
        return {
            "register_client": clients.register_client,
            "list_clients": clients.list_clients,
            "revoke_client": clients.revoke_client,
            "check_renewal": clients.check_renewal,
            "renew_client": clients.renew_client,
            **EnrolmentAdmin(self.context, clients).handlers(),
            **AssignmentAdmin(self.context).handlers(),
        }

    def _cluster_handlers(self) -> dict[str, Handler]:
        """Return the handlers of the methods about the cluster and its members."""
        operations = ClusterOperations(self.context, lambda: self.member, self.end)
        joining = Joining(
            context=self.context,
            key_pem=self.home.key_pem,
            core_port=self.home.times.core_port,
            postgresql_major=self.postgresql_major,
            require_alone=self.require_alone,
            begin=self.begin,
            complete=self.complete_join,
            abandon=self.end,
            is_listed=self.is_listed,
        )
        membership = self.membership
        return {
            "status": membership.status,
            "create_cluster": membership.create_cluster,
            "list_clusters": membership.list_clusters,
            "list_members": operations.list_members,
            "authorize": membership.authorize,
            "join_prepare": joining.prepare,
            "join_commit": joining.commit,
            "join_abort": joining.abort,
            "join_progress": joining.progress,
            "promote": operations.promote,
            "set_group": operations.set_group,
            "list_groups": operations.list_groups,
            "leave": operations.leave,
            "delete_member": operations.delete_member,
            "report": operations.report,
            "watch": self.notices.watch,
            "worker_keys": membership.worker_keys,
            "members_state": membership.members_state,
        }

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the store, as a member or without a cluster."""
        location, state = self.home.places.location, self._file.load()
        if state is None:
            location.require_engine("sqlite", FILE_NAME, "the cluster's store is in PostgreSQL")
            await self._open_alone()
            row = await self.context.read(lambda reader: reader.cluster_state())
            if row is None or not row.ca_certificate_der:
                return
            await self._first_authorized()
            return
        if state.standing is Standing.MEMBER and state.others():
            location.require_engine("postgresql", ENGINE_FILE, "the cluster has other members")
        if state.standing is Standing.MEMBER and not await self._store_has_cluster():
            logger.warning("The store has no cluster any more: what was known of it is forgotten.")
            self._file.remove()
            return
        await self._start_member(state)

    async def _store_has_cluster(self) -> bool:
        """Tell whether the store of a member still holds its cluster; SQLite's may be replaced."""
        if self.home.places.location.choice().engine != "sqlite":
            return True
        await self._open_alone()
        row = await self.context.read(lambda reader: reader.cluster_state())
        if row is not None:
            self.context.store.close()
        return row is not None

    def check_certificates(self) -> None:
        """Refuse to serve outside the validity of the member's certificates (rule T2)."""
        if self.member is None:
            return
        now, state = self.context.clock.now(), self.member.state
        authority = x509.load_der_x509_certificate(state.certificate_authorities[0])
        check_validity(authority, now, "cluster CA's")
        check_validity(x509.load_der_x509_certificate(state.certificate), now, "member's")

    async def _open_alone(self) -> None:
        location = self.home.places.location
        engine = open_sqlite_writer(self.home.places.sqlite)
        await asyncio.to_thread(migrate, engine)
        self.context.store.use(lambda: open_reader(location), engine)
        self.context.page.set_lease_end(NO_LEASE_END)

    async def _start_member(self, state: MemberState, *, completes_join: bool = True) -> None:
        take_in = TakeIn(
            self.context,
            self.state,
            self.server_certificate,
            self.verify_admin,
            self.postgresql_major,
            self.probe,
            self.list_member,
            self.notices.refused_join,
        )
        member = Member(
            self.context,
            self.home,
            self._file,
            state,
            self.notices,
            outside=Outside(
                self._local,
                self.authorize_from_live,
                self.publish,
                take_in.serve,
                on_left=lambda: self.run(self.end()),
                tend_certificates=self.certificates.tend,
            ),
            completes_join=completes_join,
        )
        self.member = member
        self._logins.start()
        await member.start()

    async def close(self) -> None:
        """End the member, saying goodbye, and close the store."""
        await self._logins.stop()
        member, self.member = self.member, None
        if member is not None:
            await member.close(goodbye=True)
        self.context.store.close()

    async def end(self) -> None:
        """Forget the cluster: this appliance is in none, and may create or join one (rule B2)."""
        async with self._ending:
            member, self.member = self.member, None
            if member is not None:
                await self._forget(member)

    async def _forget(self, member: Member) -> None:
        """Remove what there is of the cluster; its state last, so that this can be repeated."""
        await member.close(goodbye=False)
        await asyncio.to_thread(self.context.store.close)
        self.context.authorized = None
        page = self.context.page
        page.set_authorized(False)
        await self._logins.stop()
        self._logins.file.remove()
        await asyncio.to_thread(self._remove_stores)
        self._file.remove()
        await self._open_alone()
        page.bump_clients()
        page.bump_global()
        await self.notices.change(
            smk=b"", domain=b"", member_certificate_pem="", ca_certificate_pem="", removed="left"
        )

    def _remove_stores(self) -> None:
        # The file of SQLite first: it is of the time before the cluster had other members.
        places = self.home.places
        for path in places.sqlite.parent.glob(places.sqlite.name + "*"):
            path.unlink()
        accounts.remove(self.home.state_dir, accounts.find(self.home.postgresql.account))
        places.location.choose_sqlite()

    async def begin(self, state: MemberState) -> None:
        """Start as a joiner."""
        await self._file.save(state)
        self.context.store.close()
        await self.notices.change(removed="")
        await self._start_member(state, completes_join=False)

    async def _first_authorized(self) -> None:
        """Become a member in the durable sense: the first one of a cluster has its certificate."""
        row, own = await self.context.read(_own_rows)
        state = first_state(row, own, self.home.times.core_port)
        await self._file.save(state)
        self.context.store.close()
        await self._start_member(state)

    # ------------------------------------------------------------------ caches

    def publish(self, touched: Touched) -> None:
        """Bump the page; what concerns the cluster's keys is read again."""
        self._publish(touched)
        if touched.everything:
            self._loop.call_soon_threadsafe(self.run, self.certificates.reload())

    def run(self, work: Any) -> None:
        """Run a coroutine beside the others; an error of the cluster is logged."""

        async def guarded() -> None:
            try:
                await work
            except ConclaveError as error:
                logger.info("Something beside the calls failed: %s", error.message)
            except Exception:  # the boundary of a task that nobody waits for
                logger.exception("Something beside the calls failed by an error of ours.")

        task = self._loop.create_task(guarded())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def acknowledge(self, touched: Touched) -> None:
        """Tell the other members of a commit; see `Primary.acknowledge`."""
        if self.member is not None:
            await self.member.primary.acknowledge(touched)


def _own_rows(reader: ClusterReader) -> tuple[Any, Any]:
    row = reader.cluster_state()
    if row is None:
        raise Conflict(faults.CLUSTER_NOT_FOUND, "There is no cluster on this appliance.")
    own = next(member for member in reader.members() if member.member_id == row.primary)
    return row, own
