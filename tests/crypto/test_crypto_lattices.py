"""ML-DSA and ML-KEM: published vectors, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from conclave.crypto import mechanisms
from conclave.crypto.lattices import ML_DSA, ML_KEM, LatticeRow
from conclave.crypto.mechanisms import load_key
from conclave.crypto.private_key_info import read_private_key, write_private_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import Attributes, ulong
from conclave.keyring.templates import build_object
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
