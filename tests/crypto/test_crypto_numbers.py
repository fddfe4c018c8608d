"""Diffie-Hellman over numbers: published vectors, key pairs, and what is refused."""

from __future__ import annotations

import subprocess

import pytest

from conclave.crypto import mechanisms
from conclave.crypto.derivation import derive_key
from conclave.crypto.groups import GENERATOR, GROUPS, GroupRow
from conclave.crypto.mechanisms import load_key
from conclave.crypto.private_key_info import read_private_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.crypto.wrapping import unwrap_key, wrap_key
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import NIL, Case, cases, octets, packed

Pair = tuple[int, bytes]
READABLE: list[Pair] = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
DERIVES: Pair = (int(Cka.DERIVE), TRUE)
BY_NAME = {row.name: row for row in GROUPS}
each_group = pytest.mark.parametrize("row", GROUPS, ids=lambda row: row.name)


def group(row: GroupRow) -> list[Pair]:
    return [(int(Cka.PRIME), row.prime), (int(Cka.BASE), GENERATOR)]


def head(klass: Cko) -> list[Pair]:
    return [(int(Cka.CLASS), ulong(klass)), (int(Cka.KEY_TYPE), ulong(Ckk.DH))]


def private(row: GroupRow, value: bytes, *more: Pair) -> Attributes:
    value_pair = (int(Cka.VALUE), value)
    return build_object([*head(Cko.PRIVATE_KEY), *group(row), value_pair, DERIVES, *more])


def public(row: GroupRow, value: bytes) -> Attributes:
    return build_object([*head(Cko.PUBLIC_KEY), *group(row), (int(Cka.VALUE), value)])


def length(number: int) -> Pair:
    return int(Cka.VALUE_LEN), ulong(number)


def agreed(base: Attributes, other: bytes, *template: Pair) -> bytes:
    keys = {b"base": base}
    made = derive_key(
        Ckm.DH_PKCS_DERIVE, packed(other)[1:], keys.__getitem__, b"base", [*READABLE, *template]
    )
    return made[Cka.VALUE]


def generated(row: GroupRow, *secret: Pair) -> tuple[Attributes, Attributes]:
    return mechanisms.generate_key_pair(
        Ckm.DH_PKCS_KEY_PAIR_GEN, NIL, group(row), [DERIVES, *READABLE, *secret]
    )


def code(error: pytest.ExceptionInfo[ConclaveError]) -> int:
    return error.value.fault.ckr


@pytest.mark.parametrize("case", [*cases("dh_ffdhe"), *cases("dh_modp")])
def test_a_published_secret_is_agreed(case: Case) -> None:
    row = BY_NAME[case["group"]]
    base, other, secret = (octets(case[name]) for name in ("private", "public", "secret"))
    assert agreed(private(row, base), other) == secret
    # The standard cuts at the leading end; leading zeros of the other's value do not count.
    assert agreed(private(row, base), b"\0" + other, length(32)) == secret[-32:]


@each_group
def test_both_sides_get_one_secret(row: GroupRow) -> None:
    (mine, my_secret), (yours, your_secret) = generated(row), generated(row)
    secret = agreed(my_secret, yours[Cka.VALUE])
    assert secret == agreed(your_secret, mine[Cka.VALUE])
    assert len(secret) == row.bits // 8
    assert my_secret[Cka.VALUE_BITS] == ulong(8 * row.private_bytes)
    assert my_secret[Cka.PUBLIC_KEY_INFO] == mine[Cka.PUBLIC_KEY_INFO]
    # What was made is taken again, with the same facts.
    assert public(row, mine[Cka.VALUE])[Cka.PUBLIC_KEY_INFO] == mine[Cka.PUBLIC_KEY_INFO]
    bits = (int(Cka.VALUE_BITS), my_secret[Cka.VALUE_BITS])
    info = (int(Cka.PUBLIC_KEY_INFO), mine[Cka.PUBLIC_KEY_INFO])
    again = private(row, my_secret[Cka.VALUE], bits, info)
    assert agreed(again, yours[Cka.VALUE]) == secret


def test_a_private_value_is_as_long_as_it_is_asked_for() -> None:
    row = BY_NAME["ffdhe2048"]
    _, secret = generated(row, (int(Cka.VALUE_BITS), ulong(512)))
    assert int.from_bytes(secret[Cka.VALUE]).bit_length() == 512
    for bits in (248, 257, 2048):
        with pytest.raises(ConclaveError) as caught:
            generated(row, (int(Cka.VALUE_BITS), ulong(bits)))
        assert code(caught) == Ckr.ATTRIBUTE_VALUE_INVALID


def outside(row: GroupRow) -> list[bytes]:
    prime = int.from_bytes(row.prime)
    # -2 is no square, since 2 is one and -1 is none: it is not in the group of prime order.
    numbers = (0, 1, prime - 2, prime - 1, prime, prime + 2, prime << 8)
    return [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in numbers]


@each_group
def test_what_is_no_public_value_of_the_group_is_refused(row: GroupRow) -> None:
    _, secret = generated(row)
    for other in outside(row):
        with pytest.raises(ConclaveError) as caught:
            agreed(secret, other)
        assert code(caught) == Ckr.MECHANISM_PARAM_INVALID, other
        with pytest.raises(ConclaveError) as caught:
            public(row, other)
        assert code(caught) == Ckr.ATTRIBUTE_VALUE_INVALID, other


@each_group
def test_what_is_no_private_value_of_the_group_is_refused(row: GroupRow) -> None:
    order = int.from_bytes(row.prime) // 2
    for number in (0, order, order + 1, 4 * order):
        with pytest.raises(ConclaveError) as caught:
            private(row, number.to_bytes((number.bit_length() + 7) // 8, "big"))
        assert code(caught) == Ckr.ATTRIBUTE_VALUE_INVALID
    _, secret = generated(row)
    for wrong in ((int(Cka.VALUE_BITS), ulong(7)), (int(Cka.PUBLIC_KEY_INFO), b"another")):
        with pytest.raises(ConclaveError) as caught:
            private(row, secret[Cka.VALUE], wrong)
        assert code(caught) == Ckr.TEMPLATE_INCONSISTENT


@pytest.mark.parametrize(
    ("prime", "base", "ckr"),
    [
        (BY_NAME["ffdhe2048"].prime, b"\x05", Ckr.DOMAIN_PARAMS_INVALID),
        (BY_NAME["ffdhe2048"].prime[:128], GENERATOR, Ckr.DOMAIN_PARAMS_INVALID),
        (b"\x17", b"\x05", Ckr.DOMAIN_PARAMS_INVALID),
        (None, GENERATOR, Ckr.TEMPLATE_INCOMPLETE),
        (BY_NAME["ffdhe2048"].prime, None, Ckr.TEMPLATE_INCOMPLETE),
    ],
)
def test_other_numbers_make_no_group(prime: bytes | None, base: bytes | None, ckr: Ckr) -> None:
    given = {int(Cka.PRIME): prime, int(Cka.BASE): base}
    chosen = [(number, value) for number, value in given.items() if value is not None]
    with pytest.raises(ConclaveError) as caught:
        mechanisms.generate_key_pair(Ckm.DH_PKCS_KEY_PAIR_GEN, NIL, chosen, [])
    assert code(caught) == ckr
    with pytest.raises(ConclaveError) as caught:
        build_object([*head(Cko.PUBLIC_KEY), *chosen, (int(Cka.VALUE), GENERATOR)])
    assert code(caught) == ckr


def test_who_may_not_be_derived_from_is_told() -> None:
    row = BY_NAME["ffdhe2048"]
    (mine, my_secret), (yours, _) = generated(row), generated(row)
    for base, more, ckr in (
        ({**mine, Cka.DERIVE: TRUE}, (), Ckr.KEY_TYPE_INCONSISTENT),
        ({**my_secret, Cka.DERIVE: FALSE}, (), Ckr.KEY_FUNCTION_NOT_PERMITTED),
        (my_secret, (length(257),), Ckr.KEY_SIZE_RANGE),
    ):
        with pytest.raises(ConclaveError) as caught:
            agreed(base, yours[Cka.VALUE], *more)
        assert code(caught) == ckr


def wrapping_key() -> Attributes:
    uses = [(int(number), TRUE) for number in (Cka.WRAP, Cka.UNWRAP)]
    kind = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    return build_object([*kind, *uses, (int(Cka.VALUE), bytes(range(32)))])


@each_group
def test_a_private_key_leaves_and_comes_back(row: GroupRow) -> None:
    kek, (mine, secret) = wrapping_key(), generated(row)
    kwp = Ckm.AES_KEY_WRAP_KWP
    sealed = wrap_key(kwp, NIL, load_key(kek), secret, wrapping=kek)
    template = [*head(Cko.PRIVATE_KEY), *READABLE]
    back = unwrap_key(kwp, NIL, load_key(kek), sealed, template, unwrapping=kek)
    assert back[Cka.VALUE] == secret[Cka.VALUE]
    assert back[Cka.PUBLIC_KEY_INFO] == mine[Cka.PUBLIC_KEY_INFO]


@pytest.mark.parametrize("name", ["ffdhe2048", "ffdhe3072", "ffdhe4096", "modp_2048"])
def test_a_private_key_of_openssl_is_read(name: str) -> None:
    # OpenSSL writes the length of the private value among the parameters.
    genpkey = ("openssl", "genpkey", "-algorithm", "DH", "-pkeyopt", f"group:{name}")
    form = ("-outform", "DER")
    der = subprocess.run([*genpkey, *form], capture_output=True, check=True, timeout=60).stdout
    pubout = subprocess.run(
        ["openssl", "pkey", "-inform", "DER", "-pubout", *form],
        input=der, capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    material = read_private_key(der)
    made = build_object([head(Cko.PRIVATE_KEY)[0], *material.items()])
    assert made[Cka.VALUE] in der
    assert made[Cka.PUBLIC_KEY_INFO][-256:] == pubout[-256:]


@pytest.mark.parametrize(
    "wrong", [b"", b"\x30", b"\x30\x05\x02", b"\x30\x84\xff\xff\xff\xff", b"\x04\x00", bytes(300)]
)
def test_what_is_no_private_key_stays_one_that_is_none(wrong: bytes) -> None:
    with pytest.raises(ConclaveError) as caught:
        read_private_key(wrong)
    assert code(caught) == Ckr.WRAPPED_KEY_INVALID
