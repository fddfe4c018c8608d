"""What the handlers of one worker share: page, keys, caches, ways to the other processes.

Invariant: nothing is answered from a cache whose generation is not the page's, save to a request
that arrived before the read that filled it (rule C15); nothing that needs a keyring is answered
while the member is not authorized; a ticket opens objects only after its KK was proven (C10).

Handlers are plain functions.  One that lacks something raises `Later`: the connection waits for
it beside all other requests and runs the handler again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from conclave import faults
from conclave.crypto.mechanisms import MECHANISMS, Rows
from conclave.crypto.policy import MechanismPolicy, governed
from conclave.crypto.refusals import restricted_types
from conclave.crypto.seal import derive
from conclave.errors import CredentialRefused, NotAllowed, NotFound
from conclave.ids import ClientId, ClusterId, KeyringId, LoginId, MemberId
from conclave.keyring.templates import ObjectPolicy
from conclave.service import page as page_words
from conclave.service.asserted_clients import AssertedClients
from conclave.service.cache import KeyringView, Session, ViewCache
from conclave.service.channel import ChannelClient
from conclave.service.key_fetcher import KeyFetcher
from conclave.service.member_directory import MemberDirectory
from conclave.service.messages import WorkerKeys
from conclave.service.meters import Meters
from conclave.service.object_seal import PublicSeal
from conclave.service.page import SharedPage
from conclave.service.page_watch import PageWatch
from conclave.service.profile_table import ProfileTable
from conclave.service.quiet import Quiet
from conclave.service.requests import Later, Pins, WrongRole, deadline_passed
from conclave.service.session_objects import Holder, private_session_seal
from conclave.service.store_reader import LoadedKeyring, LoadedTokens, StoreReader
from conclave.service.tickets import (
    Bearer,
    Ticket,
    issue,
    key_version_of,
    open_ticket,
    prove,
    refused,
    renewed,
)
from conclave.service.wire import Role
from conclave.settings import Limits

if TYPE_CHECKING:
    from conclave.service.spreader import Spreader

KEYRING_ID_BYTES: Final = 16
CHANNEL_CONNECT_SECONDS: Final = 3.0
MAX_WRITE_SECONDS: Final = 30.0
KEY_GENERATION_THREADS: Final = 2
MAX_KEY_GENERATIONS: Final = 64
MAX_DENIED: Final = 8192
_RENEW_AGAIN_MS: Final = 60_000


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What the cluster process gave to this worker, and what is derived from it."""

    cluster_id: ClusterId
    tickets: dict[int, bytes]
    newest: int
    public_key: bytes
    public_seal: PublicSeal
    request_mac_key: bytes

    @classmethod
    def of(cls, given: WorkerKeys) -> Keys:
        """Derive the keys for public objects and for request MACs."""
        return cls(
            cluster_id=ClusterId(given.cluster_id),
            tickets={row.version: row.key for row in given.ticket_keys},
            newest=max(row.version for row in given.ticket_keys),
            public_key=given.public_key,
            public_seal=PublicSeal.of(given.public_key),
            request_mac_key=derive(given.public_key, "request mac"),
        )


def _left_by_policy(limits: Limits) -> tuple[Rows, frozenset[int], ProfileTable]:
    """Return the rows that are left, the key types for which they are not all, and the profiles."""
    policy = MechanismPolicy(
        fips=limits.fips_mechanisms,
        sha1_signatures=limits.sha1_signatures,
        min_rsa_bits=limits.min_rsa_bits,
        min_curve_bits=limits.min_curve_bits,
        legacy=limits.legacy_mechanisms,
    )
    rows = governed(MECHANISMS, policy)
    return rows, restricted_types(rows), ProfileTable(rows)


def _object_policy(limits: Limits) -> ObjectPolicy:
    """Return what objects may be here."""
    return ObjectPolicy(
        clear_token_keys=limits.clear_token_keys, extractable_keys=limits.extractable_keys
    )


class Core:
    """One worker's shared state; everything runs in its event loop."""

    def __init__(
        self,
        *,
        page: SharedPage,
        reader: StoreReader,
        channel: ChannelClient,
        views: ViewCache,
        limits: Limits,
        member_id: str,
        read_only_limit_seconds: int = 0,
    ) -> None:
        self.page = page
        self.watch = PageWatch(page, read_only_limit_seconds=read_only_limit_seconds)
        self.reader = reader
        self.limits = limits
        self.rows, self.restricted, self.profiles = _left_by_policy(limits)
        self.object_policy = _object_policy(limits)
        self.views = views
        self.keys: Keys | None = None
        self.tokens: LoadedTokens | None = None
        self.members = MemberDirectory(page, reader, channel, MemberId(member_id))
        self.asserted = AssertedClients(page, reader)
        self.meters: Meters  # given by the worker, as the next
        self.spreader: Spreader
        self.now_ms = 0  # cluster time of the batch under way
        self.serving = False
        """True while the member is authorized and this worker has its keys."""
        self.pinned: Pins = {}
        self.fresh_ticket: bytes | None = None
        """Ticket that the answer of the running handler shall carry."""
        self.key_generation_pool = ThreadPoolExecutor(KEY_GENERATION_THREADS, "key-generation")
        self.key_generations = 0
        self._channel = channel
        self._words = page.words
        self.global_generation = -1  # of the page, as the batch under way found it
        self._denied_head = 0
        self._cut_off = False
        self._denied: OrderedDict[LoginId, None] = OrderedDict()
        self._fetcher = KeyFetcher(channel, self._take_keys)

    # ------------------------------------------------------------------ per batch

    def begin_batch(self) -> None:
        """Look at the page once for all requests that have arrived together."""
        watch = self.watch
        if watch.look():
            words = self._words
            if words[page_words.GLOBAL_GENERATION] != self.global_generation:
                self._begin_anew()
            if words[page_words.DENIED_HEAD] != self._denied_head:
                self._take_denials()
        self.now_ms = watch.now_ms
        self.serving = self.keys is not None and watch.authorized
        if watch.cut_off is not self._cut_off:
            self._cut_off = watch.cut_off
            self.views.forget_ready()

    def _begin_anew(self) -> None:
        """Forget everything: the epoch, the cluster process or the member's state has changed."""
        self.global_generation = self._words[page_words.GLOBAL_GENERATION]
        self.views.clear()
        self.tokens = None
        if self._words[page_words.AUTHORIZED] == 1:
            self.refresh_keys()
        else:
            self.keys = None

    def _take_denials(self) -> None:
        self._denied_head, ended = self.page.denied_since(self._denied_head)
        for login_id in ended:
            self.deny(login_id)

    def require_live(self, login_id: LoginId) -> None:
        """Refuse what a login that has ended meanwhile may not finish."""
        if login_id in self._denied:
            raise refused("its login has ended")

    def deny(self, login_id: LoginId) -> None:
        """Refuse every ticket of a login from now on; the list is bounded, best effort (C13)."""
        self._denied[login_id] = None
        if len(self._denied) > MAX_DENIED:
            self._denied.popitem(last=False)
        self.views.end_login(login_id)

    # ------------------------------------------------------------------ keys

    def refresh_keys(self) -> asyncio.Task[None]:
        """Fetch the keys from the cluster process; the old ones serve until then."""
        return self._fetcher.fetch()

    def _take_keys(self, given: WorkerKeys) -> None:
        if not given.authorized or not given.ticket_keys:
            self.keys = None
            return
        keys = Keys.of(given)
        if self.keys is not None and keys.public_key != self.keys.public_key:
            self.views.clear()
        self.keys = keys

    async def _wait_for_keys(self, _pins: Pins) -> None:
        await asyncio.shield(self.refresh_keys())
        self.begin_batch()
        if not self.serving:
            raise _not_authorized()

    def require_serving(self) -> Keys:
        """Return the keys; raise MEMBER_NOT_AUTHORIZED, or Later while they are on their way."""
        if self.keys is None and self._words[page_words.AUTHORIZED] == 1:
            raise Later(self._wait_for_keys)
        if self.keys is None or not self.serving:
            raise _not_authorized()
        return self.keys

    def require_writable(self) -> None:
        """Raise MEMBER_READ_ONLY when the lease is over: the others may have gone on (rule C16)."""
        if not self.page.lease_valid():
            message = "This member has lost the others and is Read-Only; nothing was changed."
            raise NotAllowed(faults.MEMBER_READ_ONLY, message)

    # ------------------------------------------------------------------ keyrings

    def view(self, keyring_id: bytes) -> KeyringView:
        """Return a keyring as fresh as the page; raise Later when it must be read first."""
        view = self.views.views.get(keyring_id)  # type: ignore[call-overload]
        if self.serving and view is not None and view.generation == self._words[view.word]:
            view.used_ms = self.now_ms
            return view  # type: ignore[no-any-return]
        self.require_serving()
        pinned: KeyringView | None = self.pinned.get(keyring_id)
        if pinned is not None:
            return pinned
        if len(keyring_id) != KEYRING_ID_BYTES:
            raise keyring_not_found(keyring_id)
        raise Later(lambda pins: self.load_view(KeyringId(keyring_id), pins))

    def lenient_view(self, keyring_id: bytes, ticket: bytes | None) -> KeyringView:
        """Return a keyring, perhaps behind the page: the primary checks all again (C20)."""
        view = self.views.views.get(KeyringId(keyring_id))
        if self.serving and view is not None and ticket in view.sessions:
            view.used_ms = self.now_ms
            return view
        return self.view(keyring_id)

    async def load_view(self, keyring_id: KeyringId, pins: Pins) -> None:
        """Read a keyring now, whatever is cached, into `pins`."""
        keys = self.require_serving()
        view = self.views.views.get(keyring_id) or KeyringView(keyring_id, keys.public_seal)
        pins[keyring_id] = await self.reader.keyring(
            keyring_id, view.revisions(), lambda loaded: self._take_view(view, loaded)
        )

    def _take_view(self, view: KeyringView, loaded: LoadedKeyring) -> KeyringView:
        if loaded.row is None:
            self.views.views.pop(view.keyring_id, None)
            raise keyring_not_found(view.keyring_id)
        view.refresh(loaded, loaded.row)
        view.used_ms = self.now_ms
        if loaded.global_generation >= self.global_generation:
            self.views.put(view)
        return view

    # ------------------------------------------------------------------ tickets

    def session(
        self, view: KeyringView, ticket: bytes | None, client_id: ClientId
    ) -> Session | None:
        """Return what a ticket allows, None without one; raise when the ticket is void."""
        if ticket is None:
            return None
        session = view.sessions.get(ticket)
        if session is None:
            session = self._open_session(view, ticket, client_id)
        if session.client_id != client_id:
            raise refused("it was issued to another client")
        if self.now_ms >= session.renew_ms:
            self._renew(session)
        return session

    def krco(self, view: KeyringView, ticket: bytes | None, client_id: ClientId) -> Session:
        """Return the session of a logged-in KRCO, who alone uses keys and changes objects."""
        session = self.role(view, ticket, client_id)
        if not session.is_krco:
            raise WrongRole("The KRSO is logged in; this needs the KRCO.")
        return session

    def role(self, view: KeyringView, ticket: bytes | None, client_id: ClientId) -> Session:
        """Return the session of a logged-in role whose password is not a first one."""
        session = self.session(view, ticket, client_id)
        if session is None:
            raise CredentialRefused(faults.NOT_LOGGED_IN, "Nobody is logged in.")
        if session.unlocked is None:
            raise first_password()
        return session

    def _open_session(self, view: KeyringView, blob: bytes, client_id: ClientId) -> Session:
        keys = self.require_keys_of(blob)
        ticket = open_ticket(
            blob, keys.tickets, Bearer(keys.cluster_id, client_id, self.page.cluster_time_ms())
        )
        if ticket.keyring_id != view.keyring_id:
            raise refused("it belongs to another keyring")
        self.require_live(LoginId(ticket.login_id))
        prove(ticket, view.row)
        session = self._make_session(view, ticket, key_version_of(blob))
        view.add_session(blob, session)
        return session

    def require_keys_of(self, blob: bytes) -> Keys:
        """Return the keys; raise Later to read them again for what a newer one has sealed."""
        keys = self.require_serving()
        if key_version_of(blob) > keys.newest and "keys" not in self.pinned:
            raise Later(self._refetch_keys)
        return keys

    async def _refetch_keys(self, pins: Pins) -> None:
        """Fetch what the store has now; raise Unavailable when it cannot be read at present."""
        await asyncio.shield(self._fetcher.fetch(anew=True))
        pins["keys"] = True

    def _make_session(self, view: KeyringView, ticket: Ticket, key_version: int) -> Session:
        keys = self.require_serving()
        life = ticket.expires_ms - ticket.issued_ms
        is_krco = ticket.role == Role.KRCO
        holder = Holder(keys.cluster_id, view.keyring_id, ClientId(ticket.client_id))
        login_id = LoginId(ticket.login_id)
        return Session(
            ticket=ticket,
            client_id=ClientId(ticket.client_id),
            login_id=login_id,
            is_krco=is_krco and not ticket.is_first_password,
            renew_ms=0 if key_version != keys.newest else ticket.issued_ms + life // 16,
            expires_ms=ticket.expires_ms,
            unlocked=None if ticket.is_first_password else view.unlock(ticket.key),
            objects=private_session_seal(ticket.key, holder, login_id)
            if is_krco and not ticket.is_first_password
            else None,
        )

    def _renew(self, session: Session) -> None:
        """Refuse an expired ticket, or let the answer bring a new one."""
        if self.now_ms >= session.expires_ms:
            raise refused("it has expired")
        keys = self.require_serving()
        session.renew_ms = min(self.now_ms + _RENEW_AGAIN_MS, session.expires_ms)
        ticket = renewed(session.ticket, self.now_ms, idle_days=self.limits.ticket_idle_days)
        self.fresh_ticket = issue(ticket, keys.newest, keys.tickets[keys.newest])

    # ------------------------------------------------------------------ tokens

    def token_list(self) -> LoadedTokens:
        """Return all keyrings, as fresh as the log position; raise Later to read them first."""
        tokens = self.tokens
        if tokens is not None and tokens.log_position == self._words[page_words.LOG_POSITION]:
            return tokens
        pinned: LoadedTokens | None = self.pinned.get("tokens")
        if pinned is not None:
            return pinned
        raise Later(self._load_tokens)

    async def _load_tokens(self, pins: Pins) -> None:
        tokens = await self.reader.tokens()
        if tokens.global_generation >= self.global_generation:
            self.tokens = tokens
        pins["tokens"] = tokens

    # ------------------------------------------------------------------ the cluster process

    async def call(self, method: str, params: Quiet, *, deadline_ms: int | None = None) -> Any:
        """Call the cluster process; a request's deadline is in cluster time.

        Raises Unavailable with BUSY or OUTCOME_UNKNOWN when there was no answer: the caller
        repeats under the same key either way.
        """
        seconds = MAX_WRITE_SECONDS
        if deadline_ms is not None:
            seconds = min(seconds, (deadline_ms - self.page.cluster_time_ms()) / 1000)
        if seconds <= 0:
            raise deadline_passed()
        return await self._channel.call(
            method, params, timeout_seconds=seconds, connect_seconds=CHANNEL_CONNECT_SECONDS
        )

    # ------------------------------------------------------------------ life

    def tick(self) -> None:
        """Do what no request brings about; to be called about once a second."""
        self.begin_batch()
        if self.keys is None and self._words[page_words.AUTHORIZED] == 1:
            self.refresh_keys()
        self.views.sweep(self.now_ms)

    async def close(self) -> None:
        """Let go of the other processes and of the threads."""
        self._fetcher.cancel()
        await self._channel.close()
        self.key_generation_pool.shutdown(wait=False, cancel_futures=True)
        self.reader.close()


def _not_authorized() -> NotAllowed:
    message = "This member is not authorized; the same request works once it is."
    return NotAllowed(faults.MEMBER_NOT_AUTHORIZED, message)


def keyring_not_found(keyring_id: bytes) -> NotFound:
    """Return the error for a keyring that is not there."""
    message = f"There is no keyring {keyring_id[:KEYRING_ID_BYTES].hex()}."
    return NotFound(faults.KEYRING_NOT_FOUND, message)


def first_password() -> NotAllowed:
    """Return the error for everything but a change of a first password."""
    message = "The first password must be changed before anything else."
    return NotAllowed(faults.PIN_EXPIRED, message)
