"""Signatures that give their data back: judged by published vectors, refused where they must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from conclave.crypto import mechanisms
from conclave.crypto.mechanisms import MECHANISMS, ReadyKey, load_key
from conclave.crypto.policy import MechanismPolicy, governed
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import TRUE, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import NIL, Case, each, octets

RECOVERING = [Ckm.RSA_PKCS, Ckm.RSA_X_509]
DIGEST_INFOS = {
    "sha1": "3021300906052b0e03021a05000414",
    "sha224": "302d300d06096086480165030402040500041c",
    "sha256": "3031300d060960864801650304020105000420",
    "sha384": "3041300d060960864801650304020205000430",
    "sha512": "3051300d060960864801650304020305000440",
}
"""RFC 8017, section 9.2, note 1: what precedes the digest."""


def public_key(case: Case) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.PUBLIC_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.RSA)),
                (Cka.MODULUS, octets(case["modulus"])),
                (Cka.PUBLIC_EXPONENT, octets(case["exponent"])),
                (Cka.VERIFY_RECOVER, TRUE),
            ]
        )
    )


def make_pair(
    public: list[tuple[int, bytes]], private: list[tuple[int, bytes]]
) -> tuple[ReadyKey, ReadyKey]:
    made = mechanisms.generate_key_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN, NIL, [(Cka.MODULUS_BITS, ulong(2048)), *public], private
    )
    return load_key(made[0]), load_key(made[1])


@pytest.fixture(scope="module")
def pair() -> tuple[ReadyKey, ReadyKey]:
    return make_pair([(Cka.VERIFY_RECOVER, TRUE)], [(Cka.SIGN_RECOVER, TRUE)])


def refusal(call: Callable[..., object], *arguments: object) -> Ckr:
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    return caught.value.fault.ckr


def recovered(key: ReadyKey, signature: bytes) -> bytes | None:
    """Return what PKCS #1 v1.5 recovers, None for a wrong padding."""
    try:
        return mechanisms.verify_recover(Ckm.RSA_PKCS, NIL, key, signature)
    except ConclaveError as error:
        assert error.fault.ckr == Ckr.SIGNATURE_INVALID
        return None


@each("rsa_pkcs_verify")
def test_a_published_signature_gives_its_digest_back(case: Case) -> None:
    key, message = public_key(case), octets(case["message"])
    signature = octets(case["signature"]).rjust(key.size_bytes, b"\0")
    digest = hashlib.new(case["hash"], message).digest()
    info = bytes.fromhex(DIGEST_INFOS[case["hash"]]) + digest
    block = b"\0\1" + b"\xff" * (key.size_bytes - len(info) - 3) + b"\0" + info
    raw = mechanisms.verify_recover(Ckm.RSA_X_509, NIL, key, signature)
    assert (raw == block) == (case["result"] == "P")
    assert (recovered(key, signature) == info) == (case["result"] == "P")


@pytest.mark.parametrize("mechanism", RECOVERING)
@pytest.mark.parametrize("length", [1, 100, 245])
def test_what_is_signed_comes_back(
    pair: tuple[ReadyKey, ReadyKey], mechanism: Ckm, length: int
) -> None:
    data = bytes(range(1, length + 1))
    made = mechanisms.sign_recover(mechanism, NIL, pair[1], data)
    back = mechanisms.verify_recover(mechanism, NIL, pair[0], made)
    assert back == (data if mechanism == Ckm.RSA_PKCS else data.rjust(256, b"\0"))
    short = refusal(mechanisms.verify_recover, mechanism, NIL, pair[0], made[1:])
    assert short == Ckr.SIGNATURE_LEN_RANGE
    above = refusal(mechanisms.verify_recover, mechanism, NIL, pair[0], b"\xff" * 256)
    assert above == Ckr.SIGNATURE_INVALID


def test_data_that_do_not_fit_are_refused(pair: tuple[ReadyKey, ReadyKey]) -> None:
    for mechanism, data in ((Ckm.RSA_PKCS, bytes(246)), (Ckm.RSA_X_509, bytes(257))):
        value = refusal(mechanisms.sign_recover, mechanism, NIL, pair[1], data)
        assert value == Ckr.DATA_LEN_RANGE


def test_only_a_key_that_says_so_recovers(pair: tuple[ReadyKey, ReadyKey]) -> None:
    public, private = make_pair([], [])
    forbidden = Ckr.KEY_FUNCTION_NOT_PERMITTED
    for mechanism in RECOVERING:
        assert refusal(mechanisms.sign_recover, mechanism, NIL, private, b"data") == forbidden
        made = mechanisms.sign_recover(mechanism, NIL, pair[1], b"data")
        assert refusal(mechanisms.verify_recover, mechanism, NIL, public, made) == forbidden
    other = Ckm.SHA256_RSA_PKCS
    invalid = Ckr.MECHANISM_INVALID
    assert refusal(mechanisms.sign_recover, other, NIL, pair[1], b"data") == invalid
    assert refusal(mechanisms.verify_recover, other, NIL, pair[0], bytes(256)) == invalid


def test_a_policy_holds_for_recovery_too(pair: tuple[ReadyKey, ReadyKey]) -> None:
    info = bytes.fromhex(DIGEST_INFOS["sha1"]) + bytes(20)
    rows = governed(MECHANISMS, MechanismPolicy(sha1_signatures=False))
    value = refusal(mechanisms.sign_recover, Ckm.RSA_PKCS, NIL, pair[1], info, rows)
    assert value == Ckr.DATA_INVALID
    rows = governed(MECHANISMS, MechanismPolicy(min_rsa_bits=3072))
    value = refusal(mechanisms.sign_recover, Ckm.RSA_PKCS, NIL, pair[1], b"data", rows)
    assert value == Ckr.KEY_SIZE_RANGE
    value = refusal(mechanisms.verify_recover, Ckm.RSA_PKCS, NIL, pair[0], bytes(256), rows)
    assert value == Ckr.KEY_SIZE_RANGE


def test_the_table_tells_who_recovers() -> None:
    both = Ckf.SIGN_RECOVER | Ckf.VERIFY_RECOVER
    told = [number for number, row in MECHANISMS.items() if row.flags & both]
    assert told == RECOVERING
    assert all(MECHANISMS[number].flags & both == both for number in told)
