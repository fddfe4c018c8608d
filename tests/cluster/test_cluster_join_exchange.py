"""The exchange of a join, both sides over a wire in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave import faults
from conclave.cluster import ca
from conclave.cluster.join_exchange import (
    JoinerSide,
    JoiningMember,
    JoinOffer,
    JoinRequest,
    MemberChecks,
    MemberSide,
    OfferedPeer,
    Trust,
    parse_fingerprint,
    run_joiner,
    run_member,
)
from conclave.cluster.join_limiter import JoinLimiter
from conclave.errors import (
    BadInput,
    ConclaveError,
    CredentialRefused,
    Fault,
    LimitReached,
    NotAllowed,
    Unavailable,
)
from conclave.ids import ClusterId, MemberId

CLUSTER = "11111111-1111-4111-8111-111111111111"
JOINER = "22222222-2222-4222-8222-222222222222"
MEMBER = "33333333-3333-4333-8333-333333333333"
DOMAIN = b"the cloning domain"
PASSWORD = b"the admin's password"
SMK = bytes(range(32))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = 1_767_225_600_000


def certificates() -> tuple[bytes, bytes]:
    """Return the DER of a member's certificate and of the CA that issued it."""
    authority = ca.CertificateAuthority.create(ClusterId(CLUSTER), "cluster", NOW)
    key = ca.spki_der(ec.generate_private_key(ec.SECP384R1()).public_key())
    certificate = authority.certify_member(
        key, MemberId(MEMBER), common_name="member", other_names=["127.0.0.1"], now=NOW
    )
    return ca.der(certificate), ca.der(authority.certificate)


CERTIFICATE, CA_CERTIFICATE = certificates()
OTHER_CERTIFICATE, OTHER_CA_CERTIFICATE = certificates()


def request(**changes: object) -> JoinRequest:
    plain = JoinRequest(
        cluster_id=CLUSTER,
        admin_user="admin",
        admin_password=PASSWORD,
        member=JoiningMember(JOINER, "joiner", "192.0.2.2", 8443, 1792, 50051, b"key"),
        appliance_time_ms=NOW_MS,
        software_version="0.1.0",
    )
    return msgspec.structs.replace(plain, **changes)


OFFER = JoinOffer(
    smk=SMK,
    domain=DOMAIN,
    cluster_id=CLUSTER,
    label="cluster",
    dual_identity=False,
    member_certificate_der=b"certificate",
    ca_certificates_der=[CA_CERTIFICATE],
    members=[OfferedPeer(MEMBER, "192.0.2.1", 50051, bytes(32))],
    epoch_number=1,
    epoch_promoter=MEMBER,
    primary=MEMBER,
)


@dataclass
class Pipe:
    """One end of a wire in memory; it changes what it sends, and ends after what was sent."""

    into: asyncio.Queue[bytes]
    out_of: asyncio.Queue[bytes]
    change: Callable[[int, bytes], bytes]
    sent: list[bytes] = field(default_factory=list)

    async def send(self, message: bytes) -> None:
        self.sent.append(message)
        await self.into.put(self.change(len(self.sent) - 1, message))

    async def receive(self) -> bytes:
        message = await self.out_of.get()
        if not message:
            raise Unavailable(faults.UNABLE_TO_CONNECT, "The connection ended.")
        return message

    async def close(self) -> None:
        await self.into.put(b"")


def unchanged(_number: int, message: bytes) -> bytes:
    return message


@dataclass
class Scene:
    """A joiner, a member, and what each came to."""

    request: JoinRequest = field(default_factory=request)
    joiner_domain: bytes = DOMAIN
    trust: Trust = field(default_factory=lambda: Trust(default_domain=False, fingerprint=None))
    certificate_at_joiner: bytes = CERTIFICATE
    joiner_change: Callable[[int, bytes], bytes] = unchanged
    member_change: Callable[[int, bytes], bytes] = unchanged
    unfit: ConclaveError | None = None
    no_offer: ConclaveError | None = None
    limiter: JoinLimiter = field(default_factory=JoinLimiter)
    passwords_seen: list[bytes] = field(default_factory=list)
    side: type[JoinerSide] = JoinerSide
    offers: int = 0
    joiner_end: Pipe = field(init=False)
    member_end: Pipe = field(init=False)

    def play(self) -> tuple[JoinOffer | ConclaveError, JoinOffer | ConclaveError]:
        return asyncio.run(self._play())

    async def _play(self) -> tuple[JoinOffer | ConclaveError, JoinOffer | ConclaveError]:
        to_member, to_joiner = asyncio.Queue[bytes](), asyncio.Queue[bytes]()
        self.joiner_end = Pipe(to_member, to_joiner, self.joiner_change)
        self.member_end = Pipe(to_joiner, to_member, self.member_change)
        async with asyncio.timeout(60):
            joiner, member = await asyncio.gather(
                outcome(self._joiner(), self.joiner_end), outcome(self._member(), self.member_end)
            )
        return joiner, member

    async def _joiner(self) -> JoinOffer:
        side = self.side(
            self.joiner_domain,
            self.request,
            self.trust,
            server_certificate_der=self.certificate_at_joiner,
        )
        return await run_joiner(side, self.joiner_end)

    async def _member(self) -> JoinOffer:
        checks = MemberChecks(
            cluster_id=CLUSTER,
            now_ms=lambda: NOW_MS,
            require_fit=self._require_fit,
            verify_admin=self._verify_admin,
            make_offer=self._make_offer,
        )
        side = MemberSide(
            DOMAIN,
            MEMBER,
            checks,
            self.limiter,
            server_certificate_der=CERTIFICATE,
            ca_certificate_der=CA_CERTIFICATE,
        )
        return await run_member(side, self.member_end, "192.0.2.2")

    async def _require_fit(self, _request: JoinRequest) -> None:
        if self.unfit is not None:
            raise self.unfit

    async def _verify_admin(self, user: str, password: bytes) -> bool:
        self.passwords_seen.append(password)
        return (user, password) == ("admin", PASSWORD)

    async def _make_offer(self, _request: JoinRequest) -> JoinOffer:
        if self.no_offer is not None:
            raise self.no_offer
        self.offers += 1
        return OFFER


async def outcome(side: Awaitable[JoinOffer], end: Pipe) -> JoinOffer | ConclaveError:
    try:
        return await side
    except ConclaveError as error:
        return error
    finally:
        await end.close()


def errors(scene: Scene) -> tuple[ConclaveError, ConclaveError]:
    joiner, member = scene.play()
    assert isinstance(joiner, ConclaveError)
    assert isinstance(member, ConclaveError)
    assert scene.offers == 0
    return joiner, member


def refused_as(scene: Scene, fault: Fault) -> ConclaveError:
    """Both sides end with this fault; return the joiner's error."""
    joiner, member = errors(scene)
    assert (joiner.fault, member.fault) == (fault, fault)
    return joiner


def crossed(scene: Scene) -> bytes:
    return b"".join((*scene.joiner_end.sent, *scene.member_end.sent))


def test_joiner_gets_the_offer_and_no_secret_crosses_in_clear() -> None:
    scene = Scene()
    joiner, member = scene.play()
    assert joiner == member == OFFER
    for secret in (SMK, DOMAIN, PASSWORD):
        assert secret not in crossed(scene)


def test_other_domain_is_refused_on_both_sides_without_telling_the_password() -> None:
    scene = Scene(joiner_domain=b"another domain")
    error = refused_as(scene, faults.CLONING_DOMAIN_MISMATCH)
    assert "cloning domain" in error.message
    assert scene.passwords_seen == []
    assert len(scene.joiner_end.sent) == 2


def test_wrong_admin_password_is_refused_as_credentials() -> None:
    wrong = b"another password"
    scene = Scene(request=request(admin_password=wrong))
    error = refused_as(scene, faults.JOIN_REFUSED)
    assert isinstance(error, CredentialRefused)
    assert "credentials" in error.message
    assert wrong.decode() not in error.message


@pytest.mark.parametrize(
    ("skew_ms", "words"),
    [(30_001, "31 s ahead of"), (-30_001, "31 s behind"), (90_000, "90 s ahead of")],
)
def test_skew_is_named_in_seconds_before_the_password_is_looked_at(
    skew_ms: int, words: str
) -> None:
    scene = Scene(request=request(appliance_time_ms=NOW_MS + skew_ms))
    assert words in refused_as(scene, faults.CLOCK_SKEW).message
    assert scene.passwords_seen == []


@pytest.mark.parametrize("skew_ms", [30_000, -30_000])
def test_skew_of_thirty_seconds_is_allowed(skew_ms: int) -> None:
    joiner, _ = Scene(request=request(appliance_time_ms=NOW_MS + skew_ms)).play()
    assert joiner == OFFER


def test_other_cluster_is_refused() -> None:
    scene = Scene(request=request(cluster_id="44444444-4444-4444-8444-444444444444"))
    assert CLUSTER in refused_as(scene, faults.WRONG_CLUSTER).message


def test_what_does_not_fit_reaches_the_joiner_with_its_fault() -> None:
    unfit = LimitReached(faults.MEMBER_LIMIT, "the cluster has four members.")
    scene = Scene(unfit=unfit)
    assert "four members" in refused_as(scene, faults.MEMBER_LIMIT).message


# ---------------------------------------------------------------- fingerprints


def test_default_domain_needs_a_fingerprint() -> None:
    scene = Scene(trust=Trust(default_domain=True, fingerprint=None))
    joiner, _ = errors(scene)
    assert joiner.fault is faults.JOIN_FINGERPRINT
    assert "fingerprint" in joiner.message
    assert scene.joiner_end.sent == []


@pytest.mark.parametrize("certificate", [CERTIFICATE, CA_CERTIFICATE])
@pytest.mark.parametrize("default_domain", [True, False])
def test_right_fingerprint_lets_join(certificate: bytes, default_domain: bool) -> None:
    fingerprint = parse_fingerprint(hashlib.sha256(certificate).digest().hex(":").upper())
    joiner, _ = Scene(trust=Trust(default_domain, fingerprint)).play()
    assert joiner == OFFER


@pytest.mark.parametrize("default_domain", [True, False])
def test_other_fingerprint_ends_the_join_before_anything_is_proven(default_domain: bool) -> None:
    other = hashlib.sha256(OTHER_CA_CERTIFICATE).digest()
    scene = Scene(trust=Trust(default_domain, other))
    joiner, _ = errors(scene)
    assert joiner.fault is faults.JOIN_FINGERPRINT
    assert len(scene.joiner_end.sent) == 1


def test_shown_ca_that_did_not_issue_the_certificate_is_refused() -> None:
    """Somebody between shows the right CA's certificate, which is public, and its own for TLS."""
    right = hashlib.sha256(CA_CERTIFICATE).digest()
    scene = Scene(
        trust=Trust(default_domain=True, fingerprint=right),
        certificate_at_joiner=OTHER_CERTIFICATE,
    )
    joiner, _ = errors(scene)
    assert joiner.fault is faults.JOIN_FINGERPRINT


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_fingerprint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="remoteFingerprint"):
        parse_fingerprint(text)


def test_somebody_between_with_another_certificate_convinces_nobody() -> None:
    scene = Scene(certificate_at_joiner=OTHER_CERTIFICATE)
    refused_as(scene, faults.CLONING_DOMAIN_MISMATCH)


# ---------------------------------------------------------------- disturbed exchanges


@settings(max_examples=100, deadline=None)
@given(st.booleans(), st.integers(0, 2), st.integers(0, 10_000), st.integers(1, 255))
def test_flipped_byte_gives_the_joiner_nothing(
    by_joiner: bool, number: int, place: int, flip: int
) -> None:
    def change(at: int, message: bytes) -> bytes:
        if at != number:
            return message
        where = place % len(message)
        return message[:where] + bytes((message[where] ^ flip,)) + message[where + 1 :]

    scene = Scene(joiner_change=change) if by_joiner else Scene(member_change=change)
    joiner, member = scene.play()
    assert isinstance(joiner, ConclaveError)
    # The last message is sealed and was right when it left: only the joiner can tell.
    assert isinstance(member, ConclaveError) or (not by_joiner and number == 2)
    assert joiner.fault in (faults.CLONING_DOMAIN_MISMATCH, faults.JOIN_BROKEN)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_too_long_message_ends_the_join(number: int) -> None:
    def change(at: int, message: bytes) -> bytes:
        return message + bytes(65_536) if at == number else message

    joiner, member = errors(Scene(joiner_change=change))
    assert member.fault is faults.JOIN_BROKEN
    assert joiner.fault is faults.JOIN_BROKEN


class Lying(JoinerSide):
    """Proves one key and asks for another."""

    def ask(self, message: bytes) -> bytes:
        other = msgspec.structs.replace(self._request.member, key_spki_der=b"another key")
        self._request = request(member=other)
        return super().ask(message)


def test_request_for_another_member_than_was_proven_is_refused() -> None:
    """A joiner that knows the domain cannot ask in the name of another key."""
    refused_as(Scene(side=Lying), faults.JOIN_BROKEN)


# ---------------------------------------------------------------- limits


def test_failures_of_a_source_delay_its_next_join() -> None:
    scene = Scene(joiner_domain=b"guess", limiter=JoinLimiter(lambda: 0))
    for _ in range(5):
        refused_as(scene, faults.CLONING_DOMAIN_MISMATCH)
    assert "1 s" in refused_as(scene, faults.JOIN_DELAYED).message


def test_second_joiner_waits_for_the_first() -> None:
    limiter = JoinLimiter()
    joiner, _ = Scene(limiter=limiter).play()
    assert joiner == OFFER
    member = msgspec.structs.replace(request().member, member_id=MEMBER)
    second = Scene(request=request(member=member), limiter=limiter)
    assert isinstance(refused_as(second, faults.JOIN_IN_PROGRESS), Unavailable)
    again, _ = Scene(limiter=limiter).play()
    assert again == OFFER
    limiter.release(MemberId(JOINER))
    third, _ = Scene(request=request(member=member), limiter=limiter).play()
    assert third == OFFER


def test_joiner_whose_offer_fails_keeps_nobody_out() -> None:
    limiter = JoinLimiter()
    full = Unavailable(faults.STORAGE_FULL, "the disk is full.")
    refused_as(Scene(no_offer=full, limiter=limiter), faults.STORAGE_FULL)
    limiter.claim(MemberId(MEMBER))


def test_sealed_refusal_is_the_last_message() -> None:
    """Nothing about the request is repeated in clear."""
    scene = Scene(request=request(admin_password=b"another password"))
    refused_as(scene, faults.JOIN_REFUSED)
    assert len(scene.member_end.sent) == 3


def test_messages_show_no_content_in_their_repr() -> None:
    for message in (request(), OFFER):
        assert PASSWORD.decode() not in repr(message)
        assert repr(SMK) not in repr(message)


def test_error_of_a_refusal_has_the_class_of_its_fault() -> None:
    joiner, _ = errors(Scene(unfit=NotAllowed(faults.VERSION_MISMATCH, "other versions.")))
    assert type(joiner) is NotAllowed
