"""Logins and changes of passwords: C_Login, C_Logout, C_SetPIN, C_InitPIN and C_InitToken.

Invariant: whatever changes a credential gives the keyring a new authorization version in the same
transaction, and changes it only if it still is the one that was proven (rules C4 and C20).
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from conclave import faults
from conclave.cluster import idempotency
from conclave.cluster.context import Context, exact_id, require_keyring, require_user_of
from conclave.cluster.idempotency import Request
from conclave.cluster.passwords import (
    Attempted,
    PasswordDesk,
    Verified,
    client_source,
    credential_of,
    credential_role,
    with_credential,
)
from conclave.cluster.session_tickets import TicketOffice, new_login_id, prove_login
from conclave.errors import BadInput, Conflict, CredentialRefused
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    IdempotencyKey,
    KeyGeneration,
    KeyringId,
)
from conclave.keyring.keys import (
    WrapName,
    WrongPassword,
    make_check_value,
    new_keyring_key,
    prove_key,
    unwrap_key,
    wrap_key,
)
from conclave.keyring.labels import check_label
from conclave.keyring.limits import check_differs, check_new_password, password_characters
from conclave.keyring.roles import never_locks
from conclave.service.messages import (
    ChangePassword,
    ClientLogin,
    ClientLogout,
    InitializeKrco,
    InitializeToken,
    TicketResult,
)
from conclave.service.quiet import Nothing
from conclave.service.tickets import Ticket, login_id_of, prove
from conclave.service.wire import Role
from conclave.store.repository import ClusterWriter
from conclave.store.rows import CredentialRow, IdempotencyRow, KeyringRow, KeyringState

VERSION_BYTES: Final = 16
Change = Callable[[ClusterWriter, KeyringRow], KeyringRow]


def new_authorization_version() -> AuthorizationVersion:
    """Return a new random authorization version: all earlier tickets are void."""
    return AuthorizationVersion(os.urandom(VERSION_BYTES))


@dataclass(slots=True)
class Credentials:
    """Handlers of the methods that prove or change a keyring's password."""

    context: Context
    desk: PasswordDesk
    office: TicketOffice

    # ------------------------------------------------------------------ login and logout

    async def login(self, params: ClientLogin, _role: str) -> TicketResult:
        """Check a password and return a ticket."""
        self.context.require_authorized()
        role = _role_of(params.role)
        attempted = Attempted(
            client_id=ClientId(exact_id(params.client_id, "client id")),
            source=params.source,
            keyring_id=KeyringId(exact_id(params.keyring_id, "keyring id")),
            role=role,
            password=params.password,
            attempt_id=exact_id(params.attempt_id, "attempt id"),
        )
        verified = await self.desk.verify(attempted)
        ticket = self.office.issue(
            verified.row, role, verified.key, attempted.client_id, new_login_id()
        )
        return TicketResult(ticket=ticket)

    async def logout(self, params: ClientLogout, _role: str) -> Nothing:
        """Deny a ticket's login id; a ticket that does not open has nothing to deny."""
        client_id = ClientId(exact_id(params.client_id, "client id"))
        try:
            ticket = await self.office.open_any(params.ticket, client_id)
        except CredentialRefused:
            return Nothing()
        login_id = login_id_of(ticket)
        if login_id not in self.office.denied:
            # Once only: a ring of so many places must not be emptied with one ticket.
            self.context.page.deny_login(login_id)
        return Nothing()

    # ------------------------------------------------------------------ C_SetPIN

    async def change_password(self, params: ChangePassword, _role: str) -> TicketResult:
        """Change a role's password; the first change makes the keyring's key (rule C1)."""
        self.context.require_authorized()
        role = _role_of(params.role)
        request = _request(
            params, params.role, params.keyring_id, params.old_password, params.new_password
        )
        record = await idempotency.repeated(self.context, request)
        if record is not None:
            return await self._answer_again(params, request, record)
        idempotency.check_deadline(request, self.context.cluster_time_ms())
        check_new_password(params.new_password, self.context.limits)
        attempted = _attempted(params, request, role, params.old_password)
        ticket = await self._live_ticket(params.ticket, request.client_id, attempted.keyring_id)
        try:
            verified = await self.desk.verify(attempted)
        except WrongPassword:
            # An earlier attempt of this very request may have changed it while this one waited.
            record = await idempotency.repeated(self.context, request)
            if record is None:
                raise
            return await self._answer_again(params, request, record)
        if verified.row.state is KeyringState.INITIAL:
            check_differs(params.old_password, params.new_password)
        source = client_source(request.client_id, params.source)
        change, key = await self._rewrap(verified, role, params.new_password, source)
        stored = await self._commit(request, verified.row, change)
        return self._ticket_result(ticket, stored, key)

    async def _rewrap(
        self, verified: Verified, role: Role, password: bytes, source: str
    ) -> tuple[Change, bytes]:
        """Return what puts a keyring under a new password of `role`, and its key."""
        key = verified.key or new_keyring_key()
        proven = verified.row if verified.key else _with_new_key(verified.row, key)
        owner = credential_role(proven, role)
        credential = await self._wrap(proven, owner, key, password, source)

        def change(_writer: ClusterWriter, row: KeyringRow) -> KeyringRow:
            lineage = replace(
                row,
                state=proven.state,
                key_generation=proven.key_generation,
                check_value=proven.check_value,
            )
            return with_credential(lineage, owner, credential)

        return change, key

    async def _wrap(
        self, row: KeyringRow, owner: Role, key: bytes, password: bytes, source: str
    ) -> CredentialRow:
        """Return a credential of `owner` that opens the keyring's key with a new password."""
        salt, kek = await self.desk.hash_new(password, source)
        name = WrapName(row.keyring_id, owner, row.key_generation)
        outer = self.context.require_authorized().master.outer
        long_enough = never_locks(password_characters(password), self.context.limits)
        return CredentialRow(salt, wrap_key(outer, kek, key, name), long_enough, failures=0)

    async def _answer_again(
        self, params: ChangePassword, request: Request, record: IdempotencyRow
    ) -> TicketResult:
        """Answer a repeated C_SetPIN: a ticket only if nothing was changed since."""
        keyring_id = KeyringId(params.keyring_id)
        row = await self.context.read(lambda reader: require_keyring(reader, keyring_id))
        before, after = _versions(record)
        if params.ticket is None or row.authorization_version != after:
            return TicketResult(ticket=b"")
        ticket = await self.office.open(params.ticket, request.client_id, keyring_id)
        if not hmac.compare_digest(ticket.authorization_version, before):
            return TicketResult(ticket=b"")
        role = Role(params.role)
        credential = credential_of(row, role)
        source = client_source(request.client_id, params.source)
        kek = await self.desk.hash(params.new_password, credential.salt, source)
        name = WrapName(keyring_id, credential_role(row, role), row.key_generation)
        outer = self.context.require_authorized().master.outer
        key = unwrap_key(outer, kek, credential.sealed_outer, name)
        return self._ticket_result(ticket, row, key)

    # ------------------------------------------------------------------ C_InitPIN

    async def initialize_krco(self, params: InitializeKrco, _role: str) -> TicketResult:
        """Initialise the KRCO under the KRSO's ticket (rules C2 and K1)."""
        dual = self.context.require_authorized().dual_identity
        request = _request(params, params.keyring_id, params.new_password)
        keyring_id = KeyringId(exact_id(params.keyring_id, "keyring id"))
        ticket = await self.office.open(params.ticket, request.client_id, keyring_id)
        record = await idempotency.repeated(self.context, request)
        row = await self.context.read(lambda reader: require_keyring(reader, keyring_id))
        if record is not None:
            return self._reissue(ticket, row, record)
        idempotency.check_deadline(request, self.context.cluster_time_ms())
        prove_login(ticket, row, Role.KRSO)
        check_new_password(params.new_password, self.context.limits)
        krco = None
        if dual:
            source = client_source(request.client_id, params.source)
            krco = await self._wrap(row, Role.KRCO, ticket.key, params.new_password, source)
        else:
            await self._prove_shared_password(params, request)
        stored = await self._commit(
            request,
            row,
            lambda _writer, stored: replace(stored, krco=krco, state=KeyringState.READY),
        )
        return self._ticket_result(ticket, stored, ticket.key)

    async def _prove_shared_password(self, params: InitializeKrco, request: Request) -> None:
        """Refuse another password than the KRSO's (rule K1); it counts as a wrong attempt."""
        attempted = _attempted(params, request, Role.KRSO, params.new_password)
        try:
            await self.desk.verify(attempted)
        except WrongPassword as error:
            message = "With a single identity the KRCO's password must be the KRSO's."
            raise BadInput(faults.KEYRING_PASSWORD_RULE, message) from error

    def _reissue(self, ticket: Ticket, row: KeyringRow, record: IdempotencyRow) -> TicketResult:
        before, after = _versions(record)
        current = row.authorization_version == after
        if not current or not hmac.compare_digest(ticket.authorization_version, before):
            return TicketResult(ticket=b"")
        prove_key(ticket.key, row.check_value, row.keyring_id, row.key_generation)
        return self._ticket_result(ticket, row, ticket.key)

    # ------------------------------------------------------------------ C_InitToken

    async def initialize_token(self, params: InitializeToken, _role: str) -> Nothing:
        """Destroy a keyring's objects, make a new key, rename it, and forget its KRCO."""
        self.context.require_authorized()
        request = _request(params, params.keyring_id, params.password, params.label)
        if await idempotency.repeated(self.context, request) is not None:
            return Nothing()
        idempotency.check_deadline(request, self.context.cluster_time_ms())
        check_label(params.label)
        attempted = _attempted(params, request, Role.KRSO, params.password)
        verified = await self.desk.verify(attempted)
        if verified.row.state is KeyringState.INITIAL:
            message = "The first password of this keyring must be changed before C_InitToken."
            raise CredentialRefused(faults.PIN_EXPIRED, message)
        key = new_keyring_key()
        renewed = _with_new_key(verified.row, key)
        source = client_source(request.client_id, params.source)
        krso = await self._wrap(renewed, Role.KRSO, key, params.password, source)

        def start_anew(writer: ClusterWriter, row: KeyringRow) -> KeyringRow:
            if params.label != row.label and writer.keyring_by_label(params.label) is not None:
                message = f"There is a keyring {params.label!r} already."
                raise Conflict(faults.KEYRING_EXISTS, message)
            writer.delete_objects(row.keyring_id)
            return replace(renewed, label=params.label, krso=krso, krco=None)

        await self._commit(request, verified.row, start_anew)
        return Nothing()

    # ------------------------------------------------------------------ shared

    async def _commit(self, request: Request, proven: KeyringRow, change: Change) -> KeyringRow:
        """Store a changed keyring and the record of its request in one transaction."""
        now_ms = self.context.cluster_time_ms()

        def work(writer: ClusterWriter) -> KeyringRow:
            earlier = idempotency.find_and_touch(writer, request)
            row = require_keyring(writer, proven.keyring_id)
            if earlier is not None:
                return row
            idempotency.check_deadline(request, self.context.cluster_time_ms())
            require_user_of(writer, request.client_id, row.keyring_id)
            if row.authorization_version != proven.authorization_version:
                message = "The password was changed by somebody else meanwhile."
                raise CredentialRefused(faults.PIN_INCORRECT, message)
            changed = replace(
                change(writer, row),
                revision=row.revision,
                authorization_version=new_authorization_version(),
            )
            stored = writer.update_keyring(changed)
            versions = row.authorization_version + stored.authorization_version
            idempotency.record(writer, request, row.keyring_id, versions, now_ms)
            return stored

        return await self.context.write(work)

    async def _live_ticket(
        self, blob: bytes | None, client_id: ClientId, keyring_id: KeyringId
    ) -> Ticket | None:
        """Return the caller's ticket if it has one; raise CredentialRefused when it is void."""
        if blob is None:
            return None
        ticket = await self.office.open(blob, client_id, keyring_id)
        prove(ticket, await self.context.read(lambda reader: require_keyring(reader, keyring_id)))
        return ticket

    def _ticket_result(self, ticket: Ticket | None, row: KeyringRow, key: bytes) -> TicketResult:
        """Return a ticket for the login that the caller's ticket stands for, if it had one."""
        if ticket is None:
            return TicketResult(ticket=b"")
        client_id, login_id = ClientId(ticket.client_id), login_id_of(ticket)
        blob = self.office.issue(row, Role(ticket.role), key, client_id, login_id)
        return TicketResult(ticket=blob)


def _with_new_key(row: KeyringRow, key: bytes) -> KeyringRow:
    generation = KeyGeneration(row.key_generation + 1)
    return replace(
        row,
        state=KeyringState.KRSO_READY,
        key_generation=generation,
        check_value=make_check_value(key, row.keyring_id, generation),
    )


def _versions(record: IdempotencyRow) -> tuple[bytes, bytes]:
    return record.result[:VERSION_BYTES], record.result[VERSION_BYTES:]


def _role_of(number: int) -> Role:
    try:
        return Role(number)
    except ValueError:
        message = f"A keyring has the roles 0 (KRSO) and 1 (KRCO), not {number}."
        raise BadInput(faults.ROLE_UNKNOWN, message) from None


def _request(params: ChangePassword | InitializeKrco | InitializeToken, *body: object) -> Request:
    key = exact_id(params.idempotency_key, "idempotency key")
    return Request(
        client_id=ClientId(exact_id(params.client_id, "client id")),
        key=IdempotencyKey(key),
        mac=idempotency.request_mac(key, type(params).__name__, *body),
        deadline_ms=params.deadline_ms,
    )


def _attempted(
    params: ChangePassword | InitializeKrco | InitializeToken,
    request: Request,
    role: Role,
    password: bytes,
) -> Attempted:
    return Attempted(
        client_id=request.client_id,
        source=params.source,
        keyring_id=KeyringId(exact_id(params.keyring_id, "keyring id")),
        role=role,
        password=password,
        attempt_id=request.key,
    )
