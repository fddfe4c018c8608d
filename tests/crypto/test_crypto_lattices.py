"""ML-DSA and ML-KEM: published vectors, and what is refused."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from conclave.crypto import mechanisms
from conclave.crypto.encapsulation import decapsulate_key, encapsulate_key
from conclave.crypto.lattices import ML_DSA, ML_KEM, LatticeRow
from conclave.crypto.mechanisms import load_key
from conclave.crypto.private_key_info import read_private_key, write_private_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, Attributes, ulong
from conclave.keyring.templates import Template, build_object
from tests.support.crypto_vectors import NIL, Case, cases, each, octets, packed

KINDS = {**dict.fromkeys(ML_DSA, Ckk.ML_DSA), **dict.fromkeys(ML_KEM, Ckk.ML_KEM)}
BY_NAME = {row.name: row for row in KINDS}


def made(klass: Cko, row: LatticeRow, number: Cka, value: bytes) -> Attributes:
    return build_object(
        [
            (Cka.CLASS, ulong(klass)),
            (Cka.KEY_TYPE, ulong(KINDS[row])),
            (Cka.PARAMETER_SET, ulong(row.number)),
            (number, value),
        ]
    )


def pair(row: LatticeRow) -> tuple[Attributes, Attributes]:
    kind = KINDS[row]
    mechanism = Ckm.ML_DSA_KEY_PAIR_GEN if kind == Ckk.ML_DSA else Ckm.ML_KEM_KEY_PAIR_GEN
    chosen = [(Cka.PARAMETER_SET, ulong(row.number))]
    return mechanisms.generate_key_pair(mechanism, NIL, chosen, [])


def refuse(ckr: Ckr, call: object, *arguments: object) -> None:
    """Expect a refusal with a return value."""
    assert callable(call)
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    assert caught.value.fault.ckr == ckr


@each("ml_dsa_verify")
def test_ml_dsa_verify(case: Case) -> None:
    row, public = BY_NAME[case["set"]], octets(case["public"])
    if len(public) != row.public_bytes:
        wrong = (Cko.PUBLIC_KEY, row, Cka.VALUE, public)
        refuse(Ckr.ATTRIBUTE_VALUE_INVALID, made, *wrong)
        return
    key = load_key(made(Cko.PUBLIC_KEY, row, Cka.VALUE, public))
    context, signature = octets(case["context"]), octets(case["signature"])
    parameter = packed(0, context) if context else NIL
    arguments = (Ckm.ML_DSA, parameter, key, octets(case["message"]), signature)
    if case["result"] == "P":
        mechanisms.verify(*arguments)
        return
    ckr = Ckr.SIGNATURE_INVALID
    if len(context) > 255:
        ckr = Ckr.MECHANISM_PARAM_INVALID
    elif len(signature) != row.signature_bytes:
        ckr = Ckr.SIGNATURE_LEN_RANGE
    refuse(ckr, mechanisms.verify, *arguments)


@pytest.mark.parametrize("case", [*cases("ml_dsa_pairs"), *cases("ml_kem_pairs")])
def test_the_public_key_of_a_seed(case: Case) -> None:
    row = BY_NAME[case["set"]]
    private = made(Cko.PRIVATE_KEY, row, Cka.SEED, octets(case["seed"]))
    public = made(Cko.PUBLIC_KEY, row, Cka.VALUE, octets(case["public"]))
    assert private[Cka.PUBLIC_KEY_INFO] == public[Cka.PUBLIC_KEY_INFO]


@pytest.mark.parametrize("row", ML_DSA, ids=lambda row: row.name)
def test_what_ml_dsa_signs_it_verifies(row: LatticeRow) -> None:
    public, private = (load_key(half) for half in pair(row))
    assert public.size_bits == private.size_bits == 8 * row.public_bytes
    for parameter in (NIL, packed(0, b""), packed(1, b"context")):
        signature = mechanisms.sign(Ckm.ML_DSA, parameter, private, b"data")
        assert len(signature) == row.signature_bytes
        assert signature != mechanisms.sign(Ckm.ML_DSA, parameter, private, b"data")
        mechanisms.verify(Ckm.ML_DSA, parameter, public, b"data", signature)
        other = (Ckm.ML_DSA, packed(0, b"other"), public, b"data", signature)
        refuse(Ckr.SIGNATURE_INVALID, mechanisms.verify, *other)
        short = (Ckm.ML_DSA, parameter, public, b"data", signature[:-1])
        refuse(Ckr.SIGNATURE_LEN_RANGE, mechanisms.verify, *short)


def encapsulate(
    key: Attributes, template: Template, mechanism: Ckm = Ckm.ML_KEM, parameter: bytes = NIL
) -> tuple[bytes, Attributes]:
    return encapsulate_key(mechanism, parameter, load_key(key), template, encapsulating=key)


def decapsulate(key: Attributes, ciphertext: bytes, template: Template) -> Attributes:
    return decapsulate_key(Ckm.ML_KEM, NIL, load_key(key), ciphertext, template, decapsulating=key)


def secret_of(attributes: Attributes) -> bytes:
    assert attributes[Cka.ALWAYS_SENSITIVE] == attributes[Cka.NEVER_EXTRACTABLE] == FALSE
    assert attributes[Cka.LOCAL] == FALSE
    return attributes[Cka.VALUE]


@each("ml_kem_decapsulate")
def test_ml_kem_decapsulate(case: Case) -> None:
    row = BY_NAME[case["set"]]
    key = made(Cko.PRIVATE_KEY, row, Cka.SEED, octets(case["seed"]))
    key_made = decapsulate(key, octets(case["ciphertext"]), [])
    assert secret_of(key_made) == octets(case["secret"])
    assert key_made[Cka.KEY_TYPE] == ulong(Ckk.GENERIC_SECRET)


@pytest.mark.parametrize("row", ML_KEM, ids=lambda row: row.name)
def test_both_sides_of_ml_kem_get_the_same_key(row: LatticeRow) -> None:
    public, private = pair(row)
    aes = [(int(Cka.KEY_TYPE), ulong(Ckk.AES)), (int(Cka.VALUE_LEN), ulong(32))]
    ciphertext, mine = encapsulate(public, aes)
    yours = decapsulate(private, ciphertext, aes)
    assert len(ciphertext) == row.ciphertext_bytes
    assert secret_of(mine) == secret_of(yours)
    other, _ = encapsulate(public, aes)
    assert other != ciphertext
    tampered = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    wrong = decapsulate(private, tampered, aes)
    assert secret_of(wrong) != secret_of(mine)


def test_encapsulations_that_are_refused() -> None:
    row = ML_KEM[0]
    public, private = pair(row)
    refuse(Ckr.MECHANISM_INVALID, encapsulate, public, [], Ckm.ML_DSA)
    refuse(Ckr.MECHANISM_PARAM_INVALID, encapsulate, public, [], Ckm.ML_KEM, packed(0))
    refuse(Ckr.KEY_FUNCTION_NOT_PERMITTED, encapsulate, private, [])
    refuse(Ckr.KEY_FUNCTION_NOT_PERMITTED, decapsulate, public, bytes(1088), [])
    denied = {**private, Cka.DECAPSULATE: FALSE}
    refuse(Ckr.KEY_FUNCTION_NOT_PERMITTED, decapsulate, denied, bytes(1088), [])
    refuse(Ckr.KEY_TYPE_INCONSISTENT, encapsulate, pair(ML_DSA[0])[0], [])
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, decapsulate, private, bytes(1087), [])
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, decapsulate, private, bytes(1089), [])
    short = [(Cka.KEY_TYPE, ulong(Ckk.AES)), (Cka.VALUE_LEN, ulong(16))]
    refuse(Ckr.TEMPLATE_INCONSISTENT, encapsulate, public, short)
    refuse(Ckr.TEMPLATE_INCONSISTENT, encapsulate, public, [(Cka.VALUE, bytes(32))])
    refuse(Ckr.TEMPLATE_INCONSISTENT, encapsulate, public, [(Cka.CLASS, ulong(Cko.PRIVATE_KEY))])


@pytest.mark.parametrize("row", list(KINDS), ids=lambda row: row.name)
def test_a_private_key_comes_back_from_its_pkcs8_form(row: LatticeRow) -> None:
    _, private = pair(row)
    read = read_private_key(write_private_key(load_key(private)))
    assert read[Cka.SEED] == private[Cka.SEED]
    assert read[Cka.PARAMETER_SET] == private[Cka.PARAMETER_SET]


@pytest.mark.parametrize("parameter", [packed(2, b""), packed(0, bytes(256)), packed(0)])
def test_parameters_that_are_refused(parameter: bytes) -> None:
    private = load_key(pair(ML_DSA[0])[1])
    refuse(Ckr.MECHANISM_PARAM_INVALID, mechanisms.sign, Ckm.ML_DSA, parameter, private, b"data")


def test_parameter_sets_and_seeds_that_are_refused() -> None:
    generate = (mechanisms.generate_key_pair, Ckm.ML_KEM_KEY_PAIR_GEN, NIL)
    refuse(Ckr.TEMPLATE_INCOMPLETE, *generate, [], [])
    # ML-KEM-512, which the library lacks.
    refuse(Ckr.ATTRIBUTE_VALUE_INVALID, *generate, [(Cka.PARAMETER_SET, ulong(1))], [])
    wrong = (Cko.PRIVATE_KEY, ML_DSA[0], Cka.SEED, bytes(31))
    refuse(Ckr.ATTRIBUTE_VALUE_INVALID, made, *wrong)
    signing = (Ckm.ML_DSA, msgspec.msgpack.encode(None), load_key(pair(ML_KEM[0])[1]), b"")
    refuse(Ckr.KEY_TYPE_INCONSISTENT, mechanisms.sign, *signing)


def der(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes((length,)) if length < 0x80 else b"\x82" + length.to_bytes(2, "big")
    return bytes((tag,)) + head + content


def spki(last_arcs: bytes, key: bytes) -> bytes:
    """Return the DER of a public key with an algorithm below 2.16.840.1.101.3.4 (NIST)."""
    oid = der(0x06, bytes.fromhex("6086480165") + b"\x03\x04" + last_arcs)
    return der(0x30, der(0x30, oid) + der(0x03, b"\0" + key))


@pytest.mark.parametrize(
    ("last_arcs", "size", "loads"),
    [
        (b"\x04\x02", 1184, True),
        (b"\x04\x01", 800, False),
        (b"\x03\x14", 32, False),
        (b"\x03\x1a", 32, False),
    ],
    ids=["ML-KEM-768", "ML-KEM-512", "SLH-DSA-SHA2-128s", "SLH-DSA-SHAKE-128s"],
)
def test_what_docs_mechanisms_says_that_the_library_lacks(
    last_arcs: bytes, size: int, loads: bool
) -> None:
    # The day this fails, the parameter sets can be offered.
    encoded = spki(last_arcs, bytes(size))
    if loads:
        assert isinstance(load_der_public_key(encoded), MLKEM768PublicKey)
        return
    with pytest.raises(UnsupportedAlgorithm):
        load_der_public_key(encoded)
