"""The proof of the cloning domain: who agrees, and that nothing altered convinces anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave import faults
from conclave.cluster import pake
from conclave.cluster.pake import JoinerPake, MemberPake, SealedStream
from conclave.errors import ConclaveError, CredentialRefused, InternalFault

DOMAIN = b"the cloning domain"
REFUSALS = {faults.CLONING_DOMAIN_MISMATCH.rest_id, faults.JOIN_BROKEN.rest_id}
Change = Callable[[bytes], bytes]


def same(message: bytes) -> bytes:
    return message


def instead(other: bytes) -> Change:
    return lambda _message: other


@dataclass(frozen=True)
class Run:
    """One run; `on_way` changes the messages, numbered from 0."""

    joiner_domain: bytes = DOMAIN
    member_domain: bytes = DOMAIN
    certificate_at_joiner: bytes = b"certificate"
    certificate_at_member: bytes = b"certificate"
    on_way: dict[int, Change] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)

    def carry(self, message: bytes) -> bytes:
        self.sent.append(message)
        return self.on_way.get(len(self.sent) - 1, same)(message)

    def sides(self) -> tuple[JoinerPake, MemberPake]:
        joiner = JoinerPake(
            self.joiner_domain,
            "cluster",
            "joiner",
            b"key",
            server_certificate_der=self.certificate_at_joiner,
        )
        member = MemberPake(
            self.member_domain,
            "member",
            server_certificate_der=self.certificate_at_member,
            ca_certificate_der=b"ca",
        )
        return joiner, member

    def play(self) -> tuple[SealedStream, SealedStream]:
        joiner, member = self.sides()
        challenge = member.challenge(self.carry(joiner.open()))
        proof = joiner.prove(self.carry(challenge))
        answer, member_stream = member.confirm(self.carry(proof))
        return joiner.stream(self.carry(answer)), member_stream


def refusal(run: Run) -> ConclaveError:
    with pytest.raises(ConclaveError) as caught:
        run.play()
    return caught.value


@given(st.binary(min_size=1, max_size=128))
def test_same_domain_agrees_and_each_direction_has_its_own_key(domain: bytes) -> None:
    joiner, member = Run(joiner_domain=domain, member_domain=domain).play()
    for number in range(3):
        assert member.open(joiner.seal(b"to member %d" % number)) == b"to member %d" % number
        assert joiner.open(member.seal(b"to joiner %d" % number)) == b"to joiner %d" % number
    with pytest.raises(ConclaveError):
        joiner.open(joiner.seal(b"back to its sender"))


@given(st.binary(min_size=1, max_size=128), st.binary(min_size=1, max_size=128))
def test_other_domain_is_refused_before_the_member_says_more(one: bytes, other: bytes) -> None:
    if one == other:
        other = one[:-1] + bytes((one[-1] ^ 1,))
    run = Run(joiner_domain=one, member_domain=other)
    error = refusal(run)
    assert error.fault is faults.CLONING_DOMAIN_MISMATCH
    assert "Initialise this appliance's partition" in error.message
    assert len(run.sent) == 3


def test_other_certificate_at_the_joiner_is_refused() -> None:
    run = Run(certificate_at_joiner=b"certificate of somebody between")
    assert refusal(run).fault is faults.CLONING_DOMAIN_MISMATCH


OPENING_FIELDS = {
    "cluster_id": "other",
    "joiner_id": "other",
    "joiner_key_spki_der": b"other",
    "nonce": b"0123456789abcdef",
}
CHALLENGE_FIELDS = {
    "member_id": "other",
    "ca_certificate_der": b"other",
    "nonce": b"0123456789abcdef",
    "share": bytes((9, *bytes(31))),
}


@pytest.mark.parametrize(("name", "value"), OPENING_FIELDS.items())
def test_every_field_of_the_opening_is_bound(name: str, value: str | bytes) -> None:
    def change(message: bytes) -> bytes:
        opening = pake.decode(message, pake.Opening)
        return pake.encode(msgspec.structs.replace(opening, **{name: value}))

    assert refusal(Run(on_way={0: change})).fault is faults.CLONING_DOMAIN_MISMATCH


@pytest.mark.parametrize(("name", "value"), CHALLENGE_FIELDS.items())
def test_every_field_of_the_challenge_is_bound(name: str, value: str | bytes) -> None:
    def change(message: bytes) -> bytes:
        challenge = pake.decode(message, pake.Challenge)
        return pake.encode(msgspec.structs.replace(challenge, **{name: value}))

    assert refusal(Run(on_way={1: change})).fault is faults.CLONING_DOMAIN_MISMATCH


@settings(max_examples=200)
@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(1, 255))
def test_any_flipped_byte_convinces_nobody(number: int, place: int, flip: int) -> None:
    def change(message: bytes) -> bytes:
        at = place % len(message)
        return message[:at] + bytes((message[at] ^ flip,)) + message[at + 1 :]

    assert refusal(Run(on_way={number: change})).fault.rest_id in REFUSALS


@given(st.integers(0, 3), st.binary(max_size=400))
def test_garbage_is_refused(number: int, garbage: bytes) -> None:
    assert refusal(Run(on_way={number: instead(garbage)})).fault.rest_id in REFUSALS


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("other", range(4))
def test_messages_of_another_run_or_place_convince_nobody(number: int, other: int) -> None:
    earlier = Run()
    earlier.play()
    run = Run(on_way={number: instead(earlier.sent[other])})
    assert refusal(run).fault.rest_id in REFUSALS


def without_share_at_joiner(message: bytes) -> bytes:
    challenge = pake.decode(message, pake.Challenge)
    return pake.encode(msgspec.structs.replace(challenge, share=bytes(32)))


def without_share_at_member(message: bytes) -> bytes:
    proof = pake.decode(message, pake.JoinerProof)
    return pake.encode(msgspec.structs.replace(proof, share=bytes(32)))


@pytest.mark.parametrize(
    ("number", "change"), [(1, without_share_at_joiner), (2, without_share_at_member)]
)
def test_share_of_low_order_is_refused(number: int, change: Change) -> None:
    assert refusal(Run(on_way={number: change})).fault is faults.JOIN_BROKEN


def test_text_that_is_no_utf8_is_refused() -> None:
    run = Run(on_way={0: lambda message: message.replace(b"cluster", b"cl\xffster")})
    assert refusal(run).fault is faults.JOIN_BROKEN


def test_too_long_message_is_refused_unread() -> None:
    run = Run(on_way={0: lambda message: message + bytes(pake.MAX_MESSAGE_BYTES)})
    error = refusal(run)
    assert error.fault is faults.JOIN_BROKEN
    assert "more than allowed" in error.message


def test_reflected_joiner_does_not_convince_itself() -> None:
    """A member that knows nothing cannot answer with what the joiner sent."""
    joiner, _ = Run().sides()
    opening = pake.decode(joiner.open(), pake.Opening)
    forged = pake.Challenge("member", b"ca", opening.nonce, bytes((9, *bytes(31))))
    proof = pake.decode(joiner.prove(pake.encode(forged)), pake.JoinerProof)
    with pytest.raises(ConclaveError) as caught:
        joiner.stream(pake.encode(pake.MemberProof(proof.proof)))
    assert caught.value.fault is faults.CLONING_DOMAIN_MISMATCH


def test_one_run_gives_one_guess_only() -> None:
    joiner, member = replace(Run(), joiner_domain=b"guess").sides()
    challenge = member.challenge(joiner.open())
    proof = joiner.prove(challenge)
    for expected in (faults.CLONING_DOMAIN_MISMATCH, faults.JOIN_BROKEN):
        with pytest.raises(ConclaveError) as caught:
            member.confirm(proof)
        assert caught.value.fault is expected


@pytest.mark.parametrize("domain", [b"", bytes(129)])
def test_domain_that_no_partition_has_is_refused(domain: bytes) -> None:
    with pytest.raises(InternalFault, match="1 to 128"):
        Run(joiner_domain=domain).play()


def test_refusal_in_clear_is_raised_only_for_what_anybody_may_claim() -> None:
    for fault, shown in (
        (faults.JOIN_DELAYED, faults.JOIN_DELAYED),
        (faults.CLONING_DOMAIN_MISMATCH, faults.CLONING_DOMAIN_MISMATCH),
        (faults.CREDENTIAL_INCORRECT, faults.JOIN_BROKEN),
    ):
        refused = pake.encode(pake.refusal_of(CredentialRefused(fault, "why\x1b[2J not")))
        error = refusal(Run(on_way={1: instead(refused)}))
        assert error.fault is shown
        assert "why[2J not" in error.message


def streams() -> tuple[SealedStream, SealedStream]:
    return Run().play()


def test_sealed_messages_come_in_order_and_once() -> None:
    joiner, member = streams()
    first, second = joiner.seal(b"first"), joiner.seal(b"second")
    assert member.open(first) == b"first"
    with pytest.raises(ConclaveError) as caught:
        member.open(first)
    assert caught.value.fault is faults.JOIN_BROKEN
    with pytest.raises(ConclaveError):
        member.open(second)


@given(st.binary(max_size=64), st.integers(0, 1000), st.integers(1, 255))
def test_changed_sealed_message_does_not_open(plaintext: bytes, place: int, flip: int) -> None:
    joiner, member = streams()
    sealed = bytearray(joiner.seal(plaintext))
    sealed[place % len(sealed)] ^= flip
    with pytest.raises(ConclaveError) as caught:
        member.open(bytes(sealed))
    assert caught.value.fault is faults.JOIN_BROKEN


def test_sealed_message_has_a_bound_at_both_ends() -> None:
    joiner, member = streams()
    with pytest.raises(InternalFault):
        joiner.seal(bytes(pake.MAX_MESSAGE_BYTES))
    with pytest.raises(ConclaveError) as caught:
        member.open(bytes(pake.MAX_MESSAGE_BYTES + 1))
    assert caught.value.fault is faults.JOIN_BROKEN


def test_messages_show_no_content_in_their_repr() -> None:
    for message in (pake.Opening("c", "j", b"k", b"n"), pake.MemberProof(b"secret proof")):
        assert "secret" not in repr(message)
        assert repr(message).startswith(type(message).__name__)
