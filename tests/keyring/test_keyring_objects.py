"""Objects: reading, matching, changing and copying by the standard's rules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, ED25519_PARAMS, EDWARDS, MONTGOMERY
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import (
    EVER_SECRET,
    FALSE,
    TRUE,
    Attributes,
    decode_attributes,
    encode_attributes,
    ulong,
)
from conclave.keyring.objects import (
    apply_changes,
    copy_attributes,
    disclosed,
    hidden,
    key_info,
    matches,
    object_size,
    readable,
    require_destroyable,
    search_terms,
)
from conclave.keyring.templates import ObjectPolicy, build_object

NIL = b"\xc0"
SECRET_VALUE = b"this value never leaves the key."
NO_SUCH, SENSITIVE = int(Ckr.ATTRIBUTE_TYPE_INVALID), int(Ckr.ATTRIBUTE_SENSITIVE)


def refusal(call: Callable[..., object], *arguments: object) -> Ckr:
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    assert SECRET_VALUE.decode() not in caught.value.message
    return caught.value.fault.ckr


def secret(*more: tuple[int, bytes]) -> Attributes:
    head = [(Cka.CLASS, ulong(Cko.SECRET_KEY)), (Cka.KEY_TYPE, ulong(Ckk.GENERIC_SECRET))]
    return build_object([*head, (Cka.VALUE, SECRET_VALUE), *more])


@cache
def rsa_pair() -> tuple[Attributes, Attributes]:
    bits = (Cka.MODULUS_BITS, ulong(2048))
    return mechanisms.generate_key_pair(Ckm.RSA_PKCS_KEY_PAIR_GEN, NIL, [bits], [])


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("sensitive", "extractable", "visible"),
    [(TRUE, FALSE, False), (TRUE, TRUE, False), (FALSE, FALSE, False), (FALSE, TRUE, True)],
)
def test_a_value_is_read_only_when_not_sensitive_and_extractable(
    sensitive: bytes, extractable: bytes, visible: bool
) -> None:
    key = secret((Cka.SENSITIVE, sensitive), (Cka.EXTRACTABLE, extractable))
    answer = readable(key, [Cka.VALUE, Cka.LABEL, Cka.MODULUS, 0x80000001])
    value = (Cka.VALUE, 0, SECRET_VALUE) if visible else (Cka.VALUE, SENSITIVE, None)
    assert answer[0] == value
    assert answer[1] == (Cka.LABEL, 0, b"")
    assert answer[2:] == [(Cka.MODULUS, NO_SUCH, None), (0x80000001, NO_SUCH, None)]
    assert ((Cka.VALUE, SECRET_VALUE) in disclosed(key)) == visible
    assert matches(key, search_terms([(Cka.VALUE, SECRET_VALUE)])) == visible


def test_every_secret_part_of_a_private_key_is_hidden() -> None:
    public, private = rsa_pair()
    assert hidden(private) == {
        Cka.PRIVATE_EXPONENT,
        Cka.PRIME_1,
        Cka.PRIME_2,
        Cka.EXPONENT_1,
        Cka.EXPONENT_2,
        Cka.COEFFICIENT,
    }
    assert hidden(public) == frozenset()
    assert {number for number, _ in disclosed(private)}.isdisjoint(hidden(private))
    assert dict(disclosed(private))[Cka.MODULUS] == public[Cka.MODULUS]


def test_matching_compares_every_attribute_and_ignores_leading_zeros_of_numbers() -> None:
    public, private = rsa_pair()
    modulus = (Cka.MODULUS, b"\0" + public[Cka.MODULUS])
    assert matches(public, search_terms([modulus, (Cka.CLASS, ulong(Cko.PUBLIC_KEY))]))
    assert not matches(private, search_terms([modulus, (Cka.CLASS, ulong(Cko.PUBLIC_KEY))]))
    assert matches(private, search_terms([]))
    assert not matches(private, search_terms([(0x80000001, b"")]))
    assert not matches(private, search_terms([(Cka.PRIME_1, private[Cka.PRIME_1])]))


def test_key_info_says_what_a_key_may_do() -> None:
    public, private = rsa_pair()
    info = key_info(private)
    assert (info.object_class, info.key_type, info.size_bits) == (3, 0, 2048)
    assert info.usage == Ckf.SIGN | Ckf.DECRYPT
    assert info.private
    assert not info.always_authenticate
    assert key_info(public).usage == Ckf.VERIFY | Ckf.ENCRYPT
    assert key_info(secret()).size_bits == 8 * len(SECRET_VALUE)
    for params, mechanism, bits in (
        *((row.params, Ckm.EC_KEY_PAIR_GEN, row.order_bits) for row in CURVES),
        (EDWARDS[1].params, Ckm.EC_EDWARDS_KEY_PAIR_GEN, 448),
        (MONTGOMERY[0].params, Ckm.EC_MONTGOMERY_KEY_PAIR_GEN, 255),
        (ED25519_PARAMS, Ckm.EC_EDWARDS_KEY_PAIR_GEN, 255),
    ):
        template = [(Cka.EC_PARAMS, params)]
        pair = mechanisms.generate_key_pair(mechanism, NIL, template, [])
        assert [key_info(half).size_bits for half in pair] == [bits, bits]
    data = build_object([(Cka.CLASS, ulong(Cko.DATA))])
    assert refusal(key_info, data) == Ckr.KEY_HANDLE_INVALID
    assert refusal(mechanisms.load_key, data) == Ckr.KEY_HANDLE_INVALID
    assert object_size(data) > 0


# ------------------------------------------------------------------ changing


def test_changes_give_a_new_object_and_leave_the_old_one_alone() -> None:
    key = secret()
    changed = apply_changes(key, [(Cka.LABEL, b"new"), (Cka.ID, b"1"), (Cka.SIGN, FALSE)])
    assert (changed[Cka.LABEL], changed[Cka.ID], changed[Cka.SIGN]) == (b"new", b"1", FALSE)
    assert key[Cka.LABEL] == b""
    assert changed[Cka.UNIQUE_ID] == key[Cka.UNIQUE_ID]


def test_sensitive_and_extractable_go_one_way() -> None:
    key = secret((Cka.SENSITIVE, FALSE), (Cka.EXTRACTABLE, TRUE))
    closed = apply_changes(key, [(Cka.SENSITIVE, TRUE), (Cka.EXTRACTABLE, FALSE)])
    assert closed[Cka.ALWAYS_SENSITIVE] == closed[Cka.NEVER_EXTRACTABLE] == FALSE
    for change in (apply_changes, copy_attributes):
        assert refusal(change, closed, [(Cka.SENSITIVE, FALSE)]) == Ckr.ATTRIBUTE_READ_ONLY
        assert refusal(change, closed, [(Cka.EXTRACTABLE, TRUE)]) == Ckr.ATTRIBUTE_READ_ONLY
        guarded = secret((Cka.WRAP_WITH_TRUSTED, TRUE))
        assert refusal(change, guarded, [(Cka.WRAP_WITH_TRUSTED, FALSE)]) == Ckr.ATTRIBUTE_READ_ONLY


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (Cka.CLASS, ulong(Cko.DATA)),
        (Cka.TOKEN, TRUE),
        (Cka.PRIVATE, TRUE),
        (Cka.MODIFIABLE, FALSE),
        (Cka.DESTROYABLE, FALSE),
        (Cka.KEY_TYPE, ulong(Ckk.AES)),
        (Cka.VALUE, bytes(16)),
        (Cka.VALUE_LEN, ulong(16)),
        (Cka.LOCAL, TRUE),
        (Cka.ALWAYS_SENSITIVE, TRUE),
        (Cka.NEVER_EXTRACTABLE, TRUE),
        (Cka.UNIQUE_ID, b"x"),
        (Cka.ALLOWED_MECHANISMS, b""),
        (Cka.TRUSTED, TRUE),
    ],
)
def test_attributes_that_never_change(number: Cka, value: bytes) -> None:
    assert refusal(apply_changes, secret(), [(number, value)]) == Ckr.ATTRIBUTE_READ_ONLY


def test_an_object_that_is_not_modifiable_copyable_or_destroyable() -> None:
    fixed = secret((Cka.MODIFIABLE, FALSE), (Cka.COPYABLE, FALSE), (Cka.DESTROYABLE, FALSE))
    assert refusal(apply_changes, fixed, [(Cka.LABEL, b"x")]) == Ckr.ACTION_PROHIBITED
    assert refusal(copy_attributes, fixed, []) == Ckr.ACTION_PROHIBITED
    assert refusal(require_destroyable, fixed) == Ckr.ACTION_PROHIBITED
    require_destroyable(secret())
    once = apply_changes(secret(), [(Cka.COPYABLE, FALSE)])
    assert refusal(apply_changes, once, [(Cka.COPYABLE, TRUE)]) == Ckr.ATTRIBUTE_READ_ONLY


def test_a_trusted_key_may_still_be_renamed_by_anybody() -> None:
    officer = ObjectPolicy(security_officer=True)
    trusted = apply_changes(secret(), [(Cka.TRUSTED, TRUE)], policy=officer)
    assert apply_changes(trusted, [(Cka.LABEL, b"x")])[Cka.TRUSTED] == TRUE


# ------------------------------------------------------------------ copying


def test_a_copy_keeps_the_history_of_its_key() -> None:
    _, private = rsa_pair()
    copy = copy_attributes(private, [(Cka.TOKEN, TRUE), (Cka.LABEL, b"copy")])
    for number in (
        Cka.LOCAL,
        Cka.KEY_GEN_MECHANISM,
        Cka.ALWAYS_SENSITIVE,
        Cka.NEVER_EXTRACTABLE,
        Cka.PRIME_1,
    ):
        assert copy[number] == private[number]
    assert copy[Cka.TOKEN] == TRUE
    assert copy[Cka.UNIQUE_ID] != private[Cka.UNIQUE_ID]


def test_a_copy_never_becomes_public() -> None:
    assert refusal(copy_attributes, secret(), [(Cka.PRIVATE, FALSE)]) == Ckr.TEMPLATE_INCONSISTENT
    in_session = secret((Cka.PRIVATE, FALSE))
    to_token = [(Cka.TOKEN, TRUE)]
    assert refusal(copy_attributes, in_session, to_token) == Ckr.ATTRIBUTE_VALUE_INVALID
    copy = copy_attributes(in_session, [*to_token, (Cka.PRIVATE, TRUE)])
    assert copy[Cka.PRIVATE] == TRUE


def test_a_copy_takes_no_new_material() -> None:
    for number, value in ((Cka.VALUE, SECRET_VALUE), (Cka.CLASS, ulong(Cko.SECRET_KEY))):
        arguments = (secret(), [(number, value)])
        assert refusal(copy_attributes, *arguments) == Ckr.ATTRIBUTE_READ_ONLY


# ------------------------------------------------------------------ any template at all


VALUES = st.one_of(
    st.sampled_from([TRUE, FALSE, b"", SECRET_VALUE, bytes(16), bytes(32)]),
    st.sampled_from([ulong(n) for n in (0, 1, 2, 3, 4, 16, 31, 32, 64, 2048)]),
    st.sampled_from([*(row.params for row in CURVES), ED25519_PARAMS]),
    st.binary(max_size=80),
)
NUMBERS = st.one_of(st.sampled_from([int(n) for n in Cka]), st.integers(0, (1 << 64) - 1))
TEMPLATES = st.lists(st.tuples(NUMBERS, VALUES), max_size=12)
HEADS = st.sampled_from(
    [
        [],
        [(Cka.CLASS, ulong(Cko.DATA))],
        [(Cka.CLASS, ulong(Cko.CERTIFICATE)), (Cka.CERTIFICATE_TYPE, ulong(0))],
        *(
            [(Cka.CLASS, ulong(klass)), (Cka.KEY_TYPE, ulong(kind))]
            for klass in (Cko.PUBLIC_KEY, Cko.PRIVATE_KEY, Cko.SECRET_KEY)
            for kind in (Ckk.RSA, Ckk.EC, Ckk.EC_EDWARDS, Ckk.AES, Ckk.GENERIC_SECRET)
        ),
        [
            (Cka.CLASS, ulong(Cko.SECRET_KEY)),
            (Cka.KEY_TYPE, ulong(Ckk.GENERIC_SECRET)),
            (Cka.VALUE, SECRET_VALUE),
        ],
        [
            (Cka.CLASS, ulong(Cko.PRIVATE_KEY)),
            (Cka.KEY_TYPE, ulong(Ckk.EC_EDWARDS)),
            (Cka.EC_PARAMS, ED25519_PARAMS),
            (Cka.VALUE, SECRET_VALUE),
        ],
    ]
)


def closed(attributes: Attributes) -> bool:
    return attributes.get(Cka.SENSITIVE) == TRUE or attributes.get(Cka.EXTRACTABLE) == FALSE


@given(head=HEADS, template=TEMPLATES, changes=TEMPLATES)
def test_any_template_makes_an_object_or_a_refusal_and_hides_what_is_secret(
    head: list[tuple[int, bytes]],
    template: list[tuple[int, bytes]],
    changes: list[tuple[int, bytes]],
) -> None:
    try:
        made = build_object([*head, *template])
    except ConclaveError:
        return
    objects = [made]
    for change in (apply_changes, copy_attributes):
        try:
            objects.append(change(made, changes))
        except ConclaveError:
            continue
    for attributes in objects:
        assert decode_attributes(encode_attributes(attributes)) == attributes
        if not closed(attributes):
            continue
        answers = readable(attributes, [int(number) for number in Cka])
        assert all(value is None for number, _, value in answers if number in EVER_SECRET)
        # What the caller himself put into an open attribute as well may be read there.
        if SECRET_VALUE not in [value for _, value in (*template, *changes)]:
            assert SECRET_VALUE not in [value for _, _, value in answers]
        assert not any(number in EVER_SECRET for number, _ in disclosed(attributes))
        if closed(made) and attributes is not made:
            assert closed(attributes)


@given(first=TEMPLATES, second=TEMPLATES)
def test_any_generation_template_makes_keys_or_a_refusal(
    first: list[tuple[int, bytes]], second: list[tuple[int, bytes]]
) -> None:
    made: list[Attributes] = []
    with suppress(ConclaveError):
        made.append(mechanisms.generate_key(Ckm.AES_KEY_GEN, NIL, first))
    with suppress(ConclaveError):
        pair = mechanisms.generate_key_pair(Ckm.EC_EDWARDS_KEY_PAIR_GEN, NIL, first, second)
        made.extend(pair)
    for attributes in made:
        mechanisms.load_key(attributes)
        assert attributes[Cka.LOCAL] == TRUE


@given(terms=TEMPLATES)
def test_any_search_gives_an_answer(terms: list[tuple[int, bytes]]) -> None:
    assert matches(secret(), search_terms(terms)) in {True, False}
