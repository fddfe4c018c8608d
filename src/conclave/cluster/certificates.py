"""This member's certificate and the cluster's CA, kept in step with the store.

Invariant: a member shows a certificate of the newest CA, good for long enough, as soon as its
primary has made one; until then it shows the one that it has, which is accepted as before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from cryptography import x509

from conclave import faults
from conclave.cluster import rotation
from conclave.cluster.ca import CertificateAuthority, is_fresh, is_valid, key_sha256, pems
from conclave.cluster.context import Authorized, Context
from conclave.cluster.member import Member
from conclave.cluster.notices import Notices
from conclave.errors import NotFound, Unavailable
from conclave.ids import MemberId
from conclave.service.messages import AuthorizeResult
from conclave.store.repository import ClusterReader
from conclave.store.rows import ClusterStateRow, MemberRow

ASK_AGAIN_SECONDS: Final = 5.0
SHOWN_SECONDS: Final = 15.0
"""How long a registration waits for members to show certificates of the newest CA."""
POLL_SECONDS: Final = 0.1

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Certificates:
    """What an authorized member does for its certificate."""

    context: Context
    find_member: Callable[[], Member | None]
    notices: Notices
    _ask_after: float = field(default=0.0)
    """When the primary may be asked again, in the event loop's time."""

    async def reload(self) -> None:
        """Take over keys that the primary has made anew."""
        row = await self.context.read(lambda reader: reader.cluster_state())
        authorized = self.context.authorized
        if authorized is not None and row is not None:
            self._take_keys(authorized, row)

    def _take_keys(self, authorized: Authorized, row: ClusterStateRow) -> Authorized:
        keys, authority = rotation.open_authority(row, authorized)
        if keys != authorized.keys:
            authorized = replace(authorized, keys=keys, authority=authority)
            self.context.authorized = authorized
            self.context.page.bump_global()
        return authorized

    async def tend(self) -> None:
        """Make keys that are due, and let this member's certificate be renewed when it is due."""
        member = self.find_member()
        if member is None or self.context.authorized is None:
            return
        await self._rotate_if_due(member)
        own = await self._renew_if_due(member)
        authorized = self.context.authorized
        if authorized is None or own is None:
            return
        if await member.take_certificate(own, authorized):
            logger.info("The member shows a certificate that the cluster's CA made anew.")
            await self.tell_daemon(authorize_result(own, authorized))

    async def until_shown(self) -> None:
        """Return when no visible member shows clients a certificate of another CA than the newest.

        A client that registers knows the newest only, and would take such a member for a false
        one.  Raises Unavailable (BUSY) when that takes too long.
        """
        await self.reload()
        member, authorized = self.find_member(), self.context.authorized
        if member is None or authorized is None or not authorized.keys.former_authorities:
            return
        try:
            # Pings bring what members say, and what this one shows changes beside.
            async with asyncio.timeout(SHOWN_SECONDS):
                while self._behind(member):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            message = (
                f"Members {', '.join(self._behind(member))} do not show a certificate of the"
                " cluster's newest CA yet; the client is registered: repeat its registration."
            )
            raise Unavailable(faults.BUSY, message) from None

    def _behind(self, member: Member) -> tuple[MemberId, ...]:
        authorized = self.context.authorized
        if authorized is None:
            return ()
        issuers = {member.state.member_id: member.issuers}
        for member_id in member.primary.waited_for:
            report = member.neighbours.report(member_id)
            issuers[member_id] = None if report is None else report.issuers
        return rotation.behind(issuers, authorized.authority.key_identifier)

    async def _rotate_if_due(self, member: Member) -> None:
        """Do what the deletion of a member left undone, since nobody had the keys then."""
        authorized, configuration = self.context.authorized, member.state.configuration
        if authorized is None or not member.primary.active:
            return
        if rotation.is_due(authorized.keys, configuration):
            await self.context.write(
                lambda writer: rotation.rotate_keys(self.context, writer, configuration)
            )
            await self.reload()

    async def _renew_if_due(self, member: Member) -> MemberRow | None:
        """Return this member's row once its certificate is one to show, None before."""
        member_id, spki = member.state.member_id, member.key_spki_der
        row, own = await self.context.read(
            lambda reader: (reader.cluster_state(), own_member(reader, member_id))
        )
        authorized = self.context.authorized
        if row is None or authorized is None:
            return None
        authority = self._take_keys(authorized, row).authority
        if is_certified(own, spki, authority, self.context.clock.now()):
            return own
        loop = asyncio.get_running_loop()
        if loop.time() >= self._ask_after:
            self._ask_after = loop.time() + ASK_AGAIN_SECONDS
            if member.state.is_primary:
                await member.duties.certify(member_id, spki)
            else:
                await member.duties.ask_for_certificate(spki)
            # The row brings it, here by the replication.
        return None

    async def tell_daemon(self, result: AuthorizeResult) -> None:
        """Let the daemon keep what the authorization gave, whoever caused it."""
        authorized = self.context.authorized
        if authorized is None:
            return
        await self.notices.change(
            smk=authorized.smk,
            domain=authorized.domain,
            cluster_id=authorized.cluster_id,
            member_id=authorized.member_id,
            dual_identity=authorized.dual_identity,
            member_certificate_pem=result.member_certificate_pem,
            ca_certificate_pem=result.ca_certificate_pem,
        )


def authorize_result(own: MemberRow, authorized: Authorized) -> AuthorizeResult:
    """Return what listeners show, followed by the cross-certificates, and whom they trust."""
    return AuthorizeResult(
        member_certificate_pem=pems((own.certificate_der, *authorized.keys.cross_certificates)),
        ca_certificate_pem=pems(authorized.authorities),
    )


def own_member(reader: ClusterReader, member_id: MemberId) -> MemberRow:
    """Return a member's row; raise NotFound."""
    for row in reader.members():
        if row.member_id == member_id:
            return row
    message = f"Member {member_id} is not in the cluster's list."
    raise NotFound(faults.MEMBER_NOT_FOUND, message)


def is_certified(
    member: MemberRow, spki: bytes, authority: CertificateAuthority, now: datetime
) -> bool:
    """Tell whether the stored certificate is for this key, of this CA, and good for long enough.

    A member that was started by force outside the validity keeps what it has.
    """
    if not member.certificate_der or member.key_sha256 != key_sha256(spki):
        return False
    certificate = x509.load_der_x509_certificate(member.certificate_der)
    if not authority.issued(certificate):
        return False
    return is_fresh(certificate, now) or not is_valid(authority.certificate, now)
