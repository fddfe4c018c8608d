"""CKA_WRAP_TEMPLATE and its like: what a key says of those that it wraps or makes."""

from __future__ import annotations

import msgspec
import pytest

from conclave.crypto.derivation import derive_key
from conclave.crypto.encapsulation import decapsulate_key, encapsulate_key
from conclave.crypto.lattices import ML_KEM
from conclave.crypto.mechanisms import generate_key_pair, load_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.crypto.wrapping import unwrap_key, wrap_key
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, read_inner_template, ulong
from conclave.keyring.objects import apply_changes, copy_attributes, matches, search_terms
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import NIL

KWP = Ckm.AES_KEY_WRAP_KWP
SECRET = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
Pairs = list[tuple[int, bytes]]


def inner(*pairs: tuple[int, bytes]) -> bytes:
    return msgspec.msgpack.encode([(int(number), value) for number, value in pairs])


def key_with(number: Cka, *pairs: tuple[int, bytes]) -> Attributes:
    return build_object(
        [
            (Cka.CLASS, ulong(Cko.SECRET_KEY)),
            (Cka.KEY_TYPE, ulong(Ckk.AES)),
            (Cka.VALUE, bytes(32)),
            *((use, TRUE) for use in (Cka.WRAP, Cka.UNWRAP, Cka.DERIVE)),
            (number, inner(*pairs)),
        ]
    )


def target(*pairs: tuple[int, bytes]) -> Attributes:
    return build_object([*SECRET, (Cka.EXTRACTABLE, TRUE), (Cka.VALUE, bytes(16)), *pairs])


def wrap(key: Attributes, what: Attributes) -> bytes:
    return wrap_key(KWP, NIL, load_key(key), what, wrapping=key)


def unwrap(key: Attributes, template: Pairs) -> Attributes:
    return unwrap_key(KWP, NIL, load_key(key), wrap(key, target()), template, unwrapping=key)


def derive(key: Attributes, template: Pairs, mechanism: Ckm, parameter: bytes) -> Attributes:
    return derive_key(mechanism, parameter, lambda _: key, b"base", template)


def prefixed(key: Attributes, template: Pairs) -> Attributes:
    return derive(key, template, Ckm.CONCATENATE_DATA_AND_BASE, msgspec.msgpack.encode(b"x"))


# ------------------------------------------------------------------ the attributes themselves


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x91\x01",
        msgspec.msgpack.encode({1: b""}),
        inner((Cka.LABEL, b"a"), (Cka.LABEL, b"a")),
        inner((0x7FFF_0001, b"")),
        inner((Cka.WRAP_TEMPLATE, inner())),
        inner((Cka.VALUE, bytes(16))),
        inner((Cka.PRIME_1, b"\x03")),
        inner((Cka.SIGN, b"\x02")),
        inner((Cka.CLASS, b"\x04")),
        inner(*((number, b"") for number in range(33))),
    ],
)
def test_a_template_that_means_nothing_is_refused(value: bytes) -> None:
    with pytest.raises(ConclaveError) as caught:
        target((Cka.WRAP_TEMPLATE, value))
    assert caught.value.fault.ckr == Ckr.ATTRIBUTE_VALUE_INVALID


@pytest.mark.parametrize(
    ("klass", "number"),
    [
        (Cko.PUBLIC_KEY, Cka.UNWRAP_TEMPLATE),
        (Cko.PUBLIC_KEY, Cka.DERIVE_TEMPLATE),
        (Cko.PRIVATE_KEY, Cka.WRAP_TEMPLATE),
        (Cko.DATA, Cka.WRAP_TEMPLATE),
        (Cko.PUBLIC_KEY, Cka.ENCAPSULATE_TEMPLATE),
        (Cko.PRIVATE_KEY, Cka.DECAPSULATE_TEMPLATE),
    ],
)
def test_only_keys_that_can_do_it_have_one(klass: Cko, number: Cka) -> None:
    with pytest.raises(ConclaveError) as caught:
        build_object(
            [(Cka.CLASS, ulong(klass)), (Cka.KEY_TYPE, ulong(Ckk.RSA)), (number, inner())]
            if klass != Cko.DATA
            else [(Cka.CLASS, ulong(klass)), (number, inner())]
        )
    assert caught.value.fault.ckr == Ckr.ATTRIBUTE_TYPE_INVALID


def test_it_is_kept_in_order_found_copied_and_never_changed() -> None:
    pairs = [(int(Cka.LABEL), b"a"), (int(Cka.SIGN), TRUE)]
    key = key_with(Cka.UNWRAP_TEMPLATE, *pairs)
    assert read_inner_template(key[Cka.UNWRAP_TEMPLATE]) == pairs
    assert matches(key, search_terms([(Cka.UNWRAP_TEMPLATE, inner(*pairs))]))
    assert not matches(key, search_terms([(Cka.UNWRAP_TEMPLATE, inner(*pairs[:1]))]))
    other = [(int(Cka.UNWRAP_TEMPLATE), inner())]
    for change in (apply_changes, copy_attributes):
        with pytest.raises(ConclaveError) as caught:
            change(key, other)
        assert caught.value.fault.ckr == Ckr.ATTRIBUTE_READ_ONLY
    assert copy_attributes(key, [])[Cka.UNWRAP_TEMPLATE] == key[Cka.UNWRAP_TEMPLATE]


# ------------------------------------------------------------------ what they do


def test_a_wrapping_key_takes_what_matches_and_nothing_else() -> None:
    key = key_with(Cka.WRAP_TEMPLATE, (Cka.KEY_TYPE, ulong(Ckk.GENERIC_SECRET)), (Cka.ID, b"7"))
    assert wrap(key, target((Cka.ID, b"7")))
    for wrong in (target(), target((Cka.ID, b"77"))):
        with pytest.raises(ConclaveError) as caught:
            wrap(key, wrong)
        assert caught.value.fault.ckr == Ckr.KEY_HANDLE_INVALID
    missing = key_with(Cka.WRAP_TEMPLATE, (Cka.SUBJECT, b""))
    with pytest.raises(ConclaveError) as caught:
        wrap(missing, target())
    assert caught.value.fault.ckr == Ckr.KEY_HANDLE_INVALID
    assert wrap(key_with(Cka.WRAP_TEMPLATE), target())


def test_an_unwrapped_key_is_what_its_unwrapping_key_says() -> None:
    key = key_with(Cka.UNWRAP_TEMPLATE, (Cka.EXTRACTABLE, FALSE), *SECRET)
    made = unwrap(key, [(int(Cka.LABEL), b"mine")])
    assert made[Cka.EXTRACTABLE] == FALSE
    assert made[Cka.KEY_TYPE] == ulong(Ckk.GENERIC_SECRET)
    assert made[Cka.LABEL] == b"mine"
    assert unwrap(key, [(int(Cka.EXTRACTABLE), FALSE)])[Cka.EXTRACTABLE] == FALSE


@pytest.mark.parametrize(
    ("pair", "given"),
    [
        ((Cka.EXTRACTABLE, FALSE), [(int(Cka.EXTRACTABLE), TRUE)]),
        ((Cka.KEY_TYPE, ulong(Ckk.AES)), []),
        ((Cka.TOKEN, TRUE), []),
        ((Cka.TOKEN, FALSE), [(int(Cka.TOKEN), TRUE)]),
    ],
)
def test_a_template_that_contradicts_it_is_inconsistent(
    pair: tuple[int, bytes], given: Pairs
) -> None:
    for number in (Cka.UNWRAP_TEMPLATE, Cka.DERIVE_TEMPLATE):
        make = unwrap if number == Cka.UNWRAP_TEMPLATE else prefixed
        with pytest.raises(ConclaveError) as caught:
            make(key_with(number, pair), [*SECRET, *given])
        assert caught.value.fault.ckr == Ckr.TEMPLATE_INCONSISTENT


def test_it_says_where_the_new_key_lies_when_the_caller_says_so_too() -> None:
    key = key_with(Cka.UNWRAP_TEMPLATE, (Cka.TOKEN, TRUE))
    assert unwrap(key, [*SECRET, (int(Cka.TOKEN), TRUE)])[Cka.TOKEN] == TRUE
    key = key_with(Cka.UNWRAP_TEMPLATE, (Cka.TOKEN, FALSE))
    assert unwrap(key, SECRET)[Cka.TOKEN] == FALSE


def test_a_derived_key_is_what_every_key_it_comes_from_says() -> None:
    key = key_with(Cka.DERIVE_TEMPLATE, (Cka.SENSITIVE, TRUE), (Cka.ID, b"d"))
    assert prefixed(key, [])[Cka.ID] == b"d"
    plain, both = key_with(Cka.WRAP_TEMPLATE), msgspec.msgpack.encode(b"other")
    found = {b"base": plain, b"other": key}
    made = derive_key(Ckm.CONCATENATE_BASE_AND_KEY, both, found.__getitem__, b"base", [])
    assert made[Cka.ID] == b"d"
    with pytest.raises(ConclaveError) as caught:
        derive_key(Ckm.CONCATENATE_BASE_AND_KEY, both, found.__getitem__, b"base", [(Cka.ID, b"e")])
    assert caught.value.fault.ckr == Ckr.TEMPLATE_INCONSISTENT


def kem_pair(public: Pairs, private: Pairs) -> tuple[Attributes, Attributes]:
    return generate_key_pair(
        Ckm.ML_KEM_KEY_PAIR_GEN,
        NIL,
        [(Cka.PARAMETER_SET, ulong(ML_KEM[0].number)), *public],
        private,
    )


def encapsulate(key: Attributes, template: Pairs) -> tuple[bytes, Attributes]:
    return encapsulate_key(Ckm.ML_KEM, NIL, load_key(key), template, encapsulating=key)


def test_both_keys_of_a_pair_say_what_the_shared_key_is() -> None:
    public, private = kem_pair(
        [(Cka.ENCAPSULATE_TEMPLATE, inner((Cka.SENSITIVE, TRUE), (Cka.ID, b"e")))],
        [(Cka.DECAPSULATE_TEMPLATE, inner((Cka.EXTRACTABLE, FALSE), (Cka.ID, b"d")))],
    )
    ciphertext, mine = encapsulate(public, [(int(Cka.EXTRACTABLE), TRUE)])
    assert (mine[Cka.ID], mine[Cka.SENSITIVE], mine[Cka.EXTRACTABLE]) == (b"e", TRUE, TRUE)

    def decapsulate(template: Pairs) -> Attributes:
        key = load_key(private)
        return decapsulate_key(Ckm.ML_KEM, NIL, key, ciphertext, template, decapsulating=private)

    yours = decapsulate([(int(Cka.SENSITIVE), FALSE)])
    assert (yours[Cka.ID], yours[Cka.SENSITIVE], yours[Cka.EXTRACTABLE]) == (b"d", FALSE, FALSE)
    assert yours[Cka.VALUE] == mine[Cka.VALUE]
    with pytest.raises(ConclaveError) as caught:
        encapsulate(public, [(int(Cka.ID), b"other")])
    assert caught.value.fault.ckr == Ckr.KEY_HANDLE_INVALID
    with pytest.raises(ConclaveError) as caught:
        decapsulate([(int(Cka.EXTRACTABLE), TRUE)])
    assert caught.value.fault.ckr == Ckr.TEMPLATE_INCONSISTENT


@pytest.mark.parametrize("place", ["public", "private"])
def test_a_key_of_a_pair_has_the_template_of_its_own_side(place: str) -> None:
    wrong = {"public": Cka.DECAPSULATE_TEMPLATE, "private": Cka.ENCAPSULATE_TEMPLATE}[place]
    given: Pairs = [(wrong, inner())]
    with pytest.raises(ConclaveError) as caught:
        kem_pair(*((given, []) if place == "public" else ([], given)))
    assert caught.value.fault.ckr == Ckr.ATTRIBUTE_TYPE_INVALID


def test_no_data_object_slips_past_it() -> None:
    base = build_object(
        [
            *SECRET,
            (Cka.VALUE, bytes(32)),
            (Cka.DERIVE, TRUE),
            (Cka.DERIVE_TEMPLATE, inner((Cka.SENSITIVE, TRUE))),
        ]
    )
    hkdf = msgspec.msgpack.encode((True, True, int(Ckm.SHA256), 1, b"info", b""))
    with pytest.raises(ConclaveError) as caught:
        derive(base, [(int(Cka.VALUE_LEN), ulong(16))], Ckm.HKDF_DATA, hkdf)
    assert caught.value.fault.ckr == Ckr.ATTRIBUTE_TYPE_INVALID
    made = derive(base, [(int(Cka.VALUE_LEN), ulong(16))], Ckm.HKDF_DERIVE, hkdf)
    assert made[Cka.SENSITIVE] == TRUE
