"""Enrolment tokens: what an administrator hands out in place of a password.

Invariants: of a token's secret the cluster keeps a hash; a token certifies one key once, in one
transaction of the primary, until its end in cluster time; whoever cannot prove a secret learns
nothing of the token, not even whether it is there.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from conclave import faults
from conclave.cluster.ca import ClientRequest, read_client_request
from conclave.cluster.client_admin import ClientAdmin, Registration, check_text, key_taken
from conclave.cluster.context import Authorized, Context, exact_id, parse_uuid
from conclave.errors import BadInput, Conflict, NotAllowed, NotFound
from conclave.ids import EnrolmentTokenId
from conclave.service.channel import Handler
from conclave.service.client_messages import (
    CheckEnrolment,
    CreateEnrolmentToken,
    Customer,
    EnrolClient,
    EnrolmentTokenList,
    EnrolmentTokenSummary,
    NamedEnrolmentToken,
    NamedUser,
    RegisteredClient,
)
from conclave.service.quiet import Nothing
from conclave.store.enrolment_tokens import (
    all_tokens,
    find_token,
    forget_tokens,
    insert_token,
    is_monitor_user,
    revoke_token,
    spend_token,
    token_count,
)
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import EnrolmentTokenRow

MAX_TOKENS: Final = 1000
"""Tokens that are listed at a time."""
KEPT_MS: Final = 30 * 24 * 3600 * 1000
"""How long a token is listed after its time is over; longer if it alone names a monitor user."""
SECRET_BYTES: Final = 32
_HASH_PREFIX: Final = b"conclave enrolment token"


def secret_sha256(secret: bytes) -> bytes:
    """Return what the cluster keeps of a secret; 32 random bytes need no slow hash."""
    return hashlib.sha256(_HASH_PREFIX + secret).digest()


@dataclass(slots=True)
class EnrolmentAdmin:
    """Handlers of the methods about enrolment tokens."""

    context: Context
    clients: ClientAdmin

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by their methods."""
        return {
            "create_enrolment_token": self.create,
            "list_enrolment_tokens": self.list_tokens,
            "revoke_enrolment_token": self.revoke,
            "is_customer": self.is_customer,
            "check_enrolment": self.check,
            "enrol_client": self.enrol_client,
        }

    async def create(self, params: CreateEnrolmentToken, _role: str) -> EnrolmentTokenSummary:
        """List a new token; raise Conflict when there are MAX_TOKENS of them."""
        self.context.require_authorized()
        for name in ("common_name", "label", "monitor_user"):
            check_text(name.replace("_", " "), getattr(params, name))
        now_ms = self.context.cluster_time_ms()
        row = EnrolmentTokenRow(
            token_id=EnrolmentTokenId(exact_id(params.token_id, "token id")),
            secret_sha256=params.secret_sha256,
            common_name=params.common_name,
            label=params.label,
            monitor_user=params.monitor_user,
            created_by=params.created_by,
            created_ms=now_ms,
            expires_ms=now_ms + params.life_ms,
            revoked=False,
            client_id=None,
            used_ms=0,
        )
        await self.context.write(lambda writer: add_token(writer, row))
        return _summary(row, now_ms)

    async def list_tokens(self, _params: Nothing, _role: str) -> EnrolmentTokenList:
        """Return the tokens in the order in which they were made."""
        rows = await self.context.read(all_tokens)
        now_ms = self.context.cluster_time_ms()
        return EnrolmentTokenList(tokens=[_summary(row, now_ms) for row in rows])

    async def revoke(self, params: NamedEnrolmentToken, _role: str) -> Nothing:
        """Revoke a token; raise NotFound, or Conflict when a client has used it."""
        identity = parse_uuid(params.token_id)
        token_id = EnrolmentTokenId(identity.bytes if identity else b"")
        await self.context.write(lambda writer: _revoke(writer, token_id, params.token_id))
        return Nothing()

    async def is_customer(self, params: NamedUser, _role: str) -> Customer:
        """Tell whether a client or a token names a user, whatever became of either."""
        return Customer(
            named=await self.context.read(lambda reader: is_monitor_user(reader, params.user_id))
        )

    async def check(self, params: CheckEnrolment, _role: str) -> Nothing:
        """Refuse a secret of no token before anybody is troubled with it; raise NotAllowed."""
        self.context.require_authorized()
        await self.context.read(lambda reader: _proven(reader, params.token_id, params.secret))
        return Nothing()

    async def enrol_client(self, params: EnrolClient, _role: str) -> RegisteredClient:
        """Certify a client's key and spend the token.

        The same key with the same token gives the client again, so that a registration whose answer
        was lost can be repeated.  Raises NotAllowed for a token that is not valid for the client,
        and Conflict for a key that is listed already, which leaves the token as it was.
        """
        authorized = self.context.require_authorized()
        request = read_client_request(params.request_pem)
        check_text("label", params.label)
        made = await self.context.write(
            lambda writer: self._enrol(writer, authorized, request, params)
        )
        return await self.clients.registered(made)

    def _enrol(
        self,
        writer: ClusterWriter,
        authorized: Authorized,
        request: ClientRequest,
        params: EnrolClient,
    ) -> Registration:
        token = _proven(writer, params.token_id, params.secret)
        now_ms = self.context.cluster_time_ms()
        present = writer.client_by_key(request.key_sha256)
        again = present is not None and present.client_id == token.client_id
        if not again:
            _require_open(token, request, now_ms)
            if present is not None:
                # It gets nothing of what the token is bound to, so it must not spend it.
                raise key_taken(present)
        made = self.clients.register(
            writer,
            authorized,
            request,
            label=token.label or params.label,
            monitor_user=token.monitor_user,
        )
        if not again and not spend_token(writer, token.token_id, made.row.client_id, now_ms):
            raise _refused("was used by another client meanwhile")
        return made


def _proven(reader: ClusterReader, token_id: bytes, secret: bytes) -> EnrolmentTokenRow:
    """Return the token whose secret this is; raise NotAllowed."""
    row = find_token(reader, EnrolmentTokenId(token_id))
    expected = row.secret_sha256 if row is not None else bytes(32)
    same = hmac.compare_digest(expected, secret_sha256(secret))
    if row is None or not same:
        raise _refused("is unknown to this cluster")
    return row


def _require_open(token: EnrolmentTokenRow, request: ClientRequest, now_ms: int) -> None:
    """Refuse a token that is spent, or that is bound to another client; raise NotAllowed."""
    state = _state(token, now_ms)
    if state != "open":
        raise _refused("has expired" if state == "expired" else f"was {state} already")
    if token.common_name not in ("", request.common_name):
        raise _refused(f"is for common name {token.common_name!r}, not {request.common_name!r}")


def _refused(why: str) -> NotAllowed:
    message = f"The enrolment token {why}; ask the administrator for a new one."
    return NotAllowed(faults.ENROLMENT_REFUSED, message)


def add_token(writer: ClusterWriter, row: EnrolmentTokenRow) -> None:
    """List a token, and forget those of long ago; raise Conflict beyond MAX_TOKENS."""
    if row.expires_ms <= row.created_ms:
        raise BadInput(faults.BAD_REQUEST, "An enrolment token lives for at least one millisecond.")
    forget_tokens(writer, row.created_ms - KEPT_MS)
    if token_count(writer) >= MAX_TOKENS:
        message = (
            f"There are {MAX_TOKENS} enrolment tokens already; each is listed for 30 days after"
            " its time is over, and longer if nothing else names its monitor user."
        )
        raise Conflict(faults.ENROLMENT_LIMIT, message)
    insert_token(writer, row)


def _revoke(writer: ClusterWriter, token_id: EnrolmentTokenId, name: str) -> None:
    if revoke_token(writer, token_id):
        return
    row = find_token(writer, token_id)
    if row is None:
        raise NotFound(faults.ENROLMENT_NOT_FOUND, f"There is no enrolment token {name[:64]!r}.")
    message = (
        f"Enrolment token {name} was used: revoke client {UUID(bytes=bytes(row.client_id or b''))}"
        " instead."
    )
    raise Conflict(faults.ENROLMENT_USED, message)


def _state(row: EnrolmentTokenRow, now_ms: int) -> str:
    if row.client_id is not None:
        return "used"
    if row.revoked:
        return "revoked"
    return "expired" if row.expires_ms <= now_ms else "open"


def _summary(row: EnrolmentTokenRow, now_ms: int) -> EnrolmentTokenSummary:
    return EnrolmentTokenSummary(
        token_id=str(UUID(bytes=bytes(row.token_id))),
        common_name=row.common_name,
        label=row.label,
        monitor_user=row.monitor_user,
        created_by=row.created_by,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        state=_state(row, now_ms),
        client_id=str(UUID(bytes=bytes(row.client_id))) if row.client_id else "",
        used_ms=row.used_ms,
    )
