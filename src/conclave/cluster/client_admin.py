"""Register, list and revoke clients (rules C3 and L1).

Invariant: a connection is accepted by the hash of a public key that stands here and is not
revoked; the certificate only tells which row that is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from cryptography import x509

from conclave import faults
from conclave.cluster.ca import (
    RENEW_BEFORE_END,
    CertificateAuthority,
    ClientRequest,
    der,
    pem,
    read_client_request,
    unproven_client_request,
)
from conclave.cluster.context import Authorized, Context, parse_uuid
from conclave.cluster.rotation import newest_authority
from conclave.errors import BadInput, Conflict, NotFound
from conclave.ids import ClientId
from conclave.service.client_messages import (
    ClientList,
    ClientMember,
    ClientSummary,
    NamedClient,
    RegisterClient,
    RegisteredClient,
    RenewClient,
)
from conclave.service.quiet import Nothing
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import ClientRow, MemberRow

MAX_TEXT_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Registration:
    """A client as it is listed, and the CA that certified it."""

    row: ClientRow
    authority: CertificateAuthority
    changed: bool
    """Whether it was listed, or certified again, just now."""


@dataclass(slots=True)
class ClientAdmin:
    """Handlers of the methods about clients."""

    context: Context
    until_shown: Callable[[], Awaitable[None]]
    """Waits until members show certificates of the newest CA."""

    async def register_client(self, params: RegisterClient, _role: str) -> RegisteredClient:
        """Certify a client's key.

        The same key with the same name gives the client that it is registered as, so that a
        registration whose answer was lost can be repeated, and gets a certificate of the newest CA;
        raises Conflict otherwise, and for another monitor user than it has.
        """
        authorized = self.context.require_authorized()
        request = read_client_request(params.request_pem)
        check_text("label", params.label)
        check_text("monitor user", params.monitor_user)
        made = await self.context.write(
            lambda writer: self.register(
                writer, authorized, request, label=params.label, monitor_user=params.monitor_user
            )
        )
        return await self.registered(made)

    async def registered(self, made: Registration) -> RegisteredClient:
        """Return what a client needs to connect, once the members present what it knows."""
        await self.until_shown()
        return RegisteredClient(
            client=_summary(made.row),
            certificate_pem=pem(made.row.certificate_der),
            ca_certificate_pem=pem(der(made.authority.certificate)),
            server_common_name=self.context.settings.server_common_name,
            crypto_port=self.context.settings.crypto_port,
            members=_listed(await self.context.read(lambda reader: reader.members())),
            changed=made.changed,
        )

    def register(
        self,
        writer: ClusterWriter,
        authorized: Authorized,
        request: ClientRequest,
        *,
        label: str,
        monitor_user: str,
    ) -> Registration:
        """List a client inside a transaction, or certify one of that key again if it is due."""
        authority, now = newest_authority(writer, authorized), self.context.clock.now()
        existing = writer.client_by_key(request.key_sha256)
        if existing is not None:
            row = _same_client(existing, request)
            _require_monitor(row, monitor_user)
            due = _is_due(row, authority, now)
            if due:
                renewed = authority.certify_client(request, row.client_id, now)
                row = replace(row, certificate_der=der(renewed))
                writer.renew_client(row.client_id, row.certificate_der)
            return Registration(row, authority, changed=due)
        client_id = ClientId(uuid4().bytes)
        row = ClientRow(
            client_id=client_id,
            common_name=request.common_name,
            label=label or request.common_name,
            monitor_user=monitor_user,
            key_sha256=request.key_sha256,
            certificate_der=der(authority.certify_client(request, client_id, now)),
            revoked=False,
            created_ms=self.context.clock.now_ms(),
        )
        writer.insert_client(row)
        return Registration(row, authority, changed=True)

    async def check_renewal(self, params: RenewClient, _role: str) -> Nothing:
        """Refuse a request of a key that is not listed, before anybody is troubled with it."""
        self.context.require_authorized()
        await self._own_request(params)
        return Nothing()

    async def _own_request(self, params: RenewClient) -> ClientRequest:
        """Return a request of a listed key; nothing is verified for strangers."""
        unproven = unproven_client_request(params.request_pem)
        await self.context.read(lambda reader: _listed_key(reader, unproven.client))
        request = unproven.proven()
        await self.context.read(lambda reader: _require_listed(reader, request))
        return request

    async def renew_client(self, params: RenewClient, _role: str) -> RegisteredClient:
        """Certify a listed key again if its certificate ends within a year or is of an older CA.

        The request proves the key, and a certificate is of use to nobody else: no password is
        needed.  Raises NotFound for a key that is not listed, Conflict for a revoked client.
        """
        authorized = self.context.require_authorized()
        request = await self._own_request(params)

        def as_it_is(reader: ClusterReader) -> Registration:
            row, authority = _require_listed(reader, request), newest_authority(reader, authorized)
            return Registration(row, authority, changed=False)

        found = await self.context.read(as_it_is)
        if not _is_due(found.row, found.authority, self.context.clock.now()):
            return await self.registered(found)

        def work(writer: ClusterWriter) -> Registration:
            row = _require_listed(writer, request)
            return self.register(
                writer, authorized, request, label=row.label, monitor_user=row.monitor_user
            )

        return await self.registered(await self.context.write(work))

    async def list_clients(self, _params: Nothing, _role: str) -> ClientList:
        """Return the clients in the order of their registration."""
        rows = await self.context.read(lambda reader: reader.clients())
        return ClientList(clients=[_summary(row) for row in rows])

    async def revoke_client(self, params: NamedClient, _role: str) -> Nothing:
        """Revoke a client for good; its connections end at their next request."""
        client_id = client_id_of(params.client_id)
        await self.context.write(lambda writer: writer.revoke_client(client_id))
        return Nothing()


def client_id_of(name: str) -> ClientId:
    """Return the id that a UUID names; raise NotFound for what is none."""
    identity = parse_uuid(name)
    if identity is None:
        raise NotFound(faults.CLIENT_NOT_FOUND, f"There is no client {name[:64]!r}.")
    return ClientId(identity.bytes)


def _require_listed(reader: ClusterReader, request: ClientRequest) -> ClientRow:
    """Return the client of a request's key; raise NotFound, or Conflict when it was revoked."""
    return _same_client(_listed_key(reader, request), request)


def _listed_key(reader: ClusterReader, request: ClientRequest) -> ClientRow:
    """Return who has a request's key; raise NotFound."""
    row = reader.client_by_key(request.key_sha256)
    if row is None:
        message = "The key of this request is not registered: register the client."
        raise NotFound(faults.CLIENT_NOT_FOUND, message)
    return row


def _is_due(row: ClientRow, authority: CertificateAuthority, now: datetime) -> bool:
    """Tell whether a client should have a newer certificate."""
    certificate = x509.load_der_x509_certificate(row.certificate_der)
    ends_soon = certificate.not_valid_after_utc - now < RENEW_BEFORE_END
    return ends_soon or not authority.issued(certificate)


def _same_client(existing: ClientRow, request: ClientRequest) -> ClientRow:
    if existing.revoked or existing.common_name != request.common_name:
        raise key_taken(existing)
    return existing


def _require_monitor(row: ClientRow, wanted: str) -> None:
    """Refuse a monitor user that a listed client does not have: it would not be given to him."""
    if wanted not in ("", row.monitor_user):
        message = (
            f"The key belongs to client {UUID(bytes=bytes(row.client_id))}, whose monitor user is"
            f" {row.monitor_user or 'nobody'}, not {wanted}: make a new key."
        )
        raise Conflict(faults.CLIENT_EXISTS, message)


def key_taken(existing: ClientRow) -> Conflict:
    """Return the error for a key that cannot be registered, since it belongs to a client."""
    what = "which was revoked" if existing.revoked else f"registered as {existing.common_name!r}"
    name = UUID(bytes=bytes(existing.client_id))
    message = f"The key belongs to client {name}, {what}: make a new key."
    return Conflict(faults.CLIENT_EXISTS, message)


def _listed(rows: Iterable[MemberRow]) -> list[ClientMember]:
    return [
        ClientMember(
            member_id=row.member_id,
            address=row.address,
            crypto_port=row.crypto_port,
            group=row.group,
        )
        for row in rows
    ]


def check_text(field: str, text: str) -> None:
    """Refuse a text that is too long, or that no line can show; raise BadInput."""
    if len(text) > MAX_TEXT_CHARACTERS or not text.isprintable():
        message = f"A client's {field} has at most {MAX_TEXT_CHARACTERS} printable characters."
        raise BadInput(faults.BAD_REQUEST, message)


def _summary(row: ClientRow) -> ClientSummary:
    return ClientSummary(
        client_id=str(UUID(bytes=bytes(row.client_id))),
        common_name=row.common_name,
        label=row.label,
        monitor_user=row.monitor_user,
        revoked=row.revoked,
        created_ms=row.created_ms,
    )
