"""Templates: the standard's rules on what may be given, what is made, and what is refused."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, ED25519_PARAMS
from conclave.crypto.standard import UNAVAILABLE_INFORMATION, Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import (
    FALSE,
    SCHEMAS,
    TRUE,
    Attributes,
    Rule,
    decode_attributes,
    encode_attributes,
    ulong,
)
from conclave.keyring.objects import apply_changes, copy_attributes
from conclave.keyring.templates import ObjectPolicy, build_object

NIL = b"\xc0"
P224 = CURVES[0]
P256 = next(row for row in CURVES if row.name == "P-256")
Fields = dict[Cka, bytes]


def refusal(call: Callable[..., object], *arguments: object) -> Ckr:
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    assert caught.value.message.endswith(".")
    return caught.value.fault.ckr


def aes(**changes: bytes | None) -> list[tuple[int, bytes]]:
    fields: dict[str, bytes | None] = {
        "CLASS": ulong(Cko.SECRET_KEY),
        "KEY_TYPE": ulong(Ckk.AES),
        "VALUE": bytes(32),
        **changes,
    }
    return [(Cka[name], value) for name, value in fields.items() if value is not None]


def made(mechanism: Ckm, *template: tuple[int, bytes]) -> tuple[Attributes, Attributes]:
    return mechanisms.generate_key_pair(mechanism, NIL, template, [])


def creatable(attributes: Attributes, **changes: bytes | None) -> list[tuple[int, bytes]]:
    """Return the template that would import an existing object."""
    kind = (
        int.from_bytes(attributes[Cka.CLASS], "little"),
        int.from_bytes(attributes[Cka.KEY_TYPE], "little"),
    )
    rows = SCHEMAS[kind].rows
    fields: dict[int, bytes | None] = {
        number: value for number, value in attributes.items() if not rows[number].rules & Rule.OWNED
    }
    fields |= {Cka[name]: value for name, value in changes.items()}
    return [(number, value) for number, value in fields.items() if value is not None]


# ------------------------------------------------------------------ defaults and the token's part


def test_an_imported_secret_key_has_the_standards_defaults() -> None:
    key = build_object(aes())
    assert key[Cka.TOKEN] == FALSE
    assert key[Cka.PRIVATE] == key[Cka.SENSITIVE] == TRUE
    assert key[Cka.EXTRACTABLE] == FALSE
    assert key[Cka.MODIFIABLE] == key[Cka.COPYABLE] == key[Cka.DESTROYABLE] == TRUE
    # It was outside once, so it was neither always sensitive nor never extractable.
    assert key[Cka.ALWAYS_SENSITIVE] == key[Cka.NEVER_EXTRACTABLE] == key[Cka.LOCAL] == FALSE
    assert key[Cka.KEY_GEN_MECHANISM] == ulong(UNAVAILABLE_INFORMATION)
    assert key[Cka.VALUE_LEN] == ulong(32)
    assert key[Cka.CHECK_VALUE].hex() == "dc95c0"
    assert key[Cka.ENCRYPT] == key[Cka.DECRYPT] == TRUE
    assert key[Cka.WRAP] == key[Cka.UNWRAP] == key[Cka.DERIVE] == FALSE
    assert len(key[Cka.UNIQUE_ID]) == 36


def test_a_generated_key_remembers_how_it_was_born() -> None:
    length = (Cka.VALUE_LEN, ulong(16))
    key = mechanisms.generate_key(Ckm.AES_KEY_GEN, NIL, [length])
    assert key[Cka.LOCAL] == key[Cka.ALWAYS_SENSITIVE] == key[Cka.NEVER_EXTRACTABLE] == TRUE
    assert key[Cka.KEY_GEN_MECHANISM] == ulong(Ckm.AES_KEY_GEN)
    assert len(key[Cka.VALUE]) == 16
    loose = [length, (Cka.SENSITIVE, FALSE), (Cka.EXTRACTABLE, TRUE)]
    key = mechanisms.generate_key(Ckm.AES_KEY_GEN, NIL, loose)
    assert key[Cka.ALWAYS_SENSITIVE] == key[Cka.NEVER_EXTRACTABLE] == FALSE


@pytest.mark.parametrize(
    ("mechanism", "template"),
    [
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, (Cka.MODULUS_BITS, ulong(2048))),
        (Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, P256.params)),
        (Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, P256.params)),
        (Ckm.EC_EDWARDS_KEY_PAIR_GEN, (Cka.EC_PARAMS, b"\x13\x0cedwards25519")),
        (Ckm.EC_EDWARDS_KEY_PAIR_GEN, (Cka.EC_PARAMS, bytes.fromhex("06092b06010401da470f01"))),
    ],
)
def test_generated_pairs_can_be_imported_again(mechanism: Ckm, template: tuple[int, bytes]) -> None:
    public, private = made(mechanism, template)
    assert public[Cka.ID] == private[Cka.ID]
    assert len(public[Cka.ID]) == 20
    assert public[Cka.PUBLIC_KEY_INFO] == private[Cka.PUBLIC_KEY_INFO]
    assert public[Cka.PRIVATE] == FALSE
    assert private[Cka.PRIVATE] == TRUE
    for half in (public, private):
        again = build_object(creatable(half))
        changed = {number for number in half if again.get(number) != half[number]}
        assert changed <= {
            Cka.UNIQUE_ID,
            Cka.LOCAL,
            Cka.KEY_GEN_MECHANISM,
            Cka.ALWAYS_SENSITIVE,
            Cka.NEVER_EXTRACTABLE,
        }
        assert decode_attributes(encode_attributes(half)) == half


def test_a_given_id_goes_to_both_halves_unless_both_have_one() -> None:
    params = (Cka.EC_PARAMS, P256.params)
    generate = mechanisms.generate_key_pair
    public, private = generate(Ckm.EC_KEY_PAIR_GEN, NIL, [params], [(Cka.ID, b"one")])
    assert public[Cka.ID] == private[Cka.ID] == b"one"
    templates = [params, (Cka.ID, b"one")], [(Cka.ID, b"two")]
    public, private = generate(Ckm.EC_KEY_PAIR_GEN, NIL, *templates)
    assert (public[Cka.ID], private[Cka.ID]) == (b"one", b"two")
    templates = [params, (Cka.ID, b"")], [(Cka.ID, b"")]
    public, private = generate(Ckm.EC_KEY_PAIR_GEN, NIL, *templates)
    assert len(public[Cka.ID]) == len(private[Cka.ID]) == 20


# ------------------------------------------------------------------ refused templates


@pytest.mark.parametrize(
    ("changes", "ckr"),
    [
        ({"CLASS": None}, Ckr.TEMPLATE_INCOMPLETE),
        ({"KEY_TYPE": None}, Ckr.TEMPLATE_INCOMPLETE),
        ({"VALUE": None}, Ckr.TEMPLATE_INCOMPLETE),
        ({"CLASS": ulong(99)}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"KEY_TYPE": ulong(0x15)}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"CLASS": b"\x04"}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"VALUE": bytes(31)}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"TOKEN": b"\x02"}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"TOKEN": b""}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"START_DATE": b"2026-1-1"}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"ALLOWED_MECHANISMS": bytes(9)}, Ckr.ATTRIBUTE_VALUE_INVALID),
        ({"VALUE_LEN": ulong(16)}, Ckr.TEMPLATE_INCONSISTENT),
        ({"CHECK_VALUE": b"bad"}, Ckr.TEMPLATE_INCONSISTENT),
        ({"MODULUS": b"\x01"}, Ckr.ATTRIBUTE_TYPE_INVALID),
        ({"LOCAL": TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
        ({"ALWAYS_SENSITIVE": TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
        ({"NEVER_EXTRACTABLE": TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
        ({"KEY_GEN_MECHANISM": ulong(0)}, Ckr.ATTRIBUTE_READ_ONLY),
        ({"UNIQUE_ID": b"mine"}, Ckr.ATTRIBUTE_READ_ONLY),
        ({"TRUSTED": TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
    ],
)
def test_templates_that_are_refused(changes: dict[str, bytes | None], ckr: Ckr) -> None:
    assert refusal(build_object, aes(**changes)) == ckr


def test_unknown_attributes_and_contradictions_are_refused() -> None:
    assert refusal(build_object, [*aes(), (0x80000001, b"")]) == Ckr.ATTRIBUTE_TYPE_INVALID
    twice = [*aes(LABEL=b"one"), (Cka.LABEL, b"two")]
    assert refusal(build_object, twice) == Ckr.TEMPLATE_INCONSISTENT
    assert build_object([*aes(LABEL=b"one"), (Cka.LABEL, b"one")])[Cka.LABEL] == b"one"


def test_an_empty_check_value_asks_for_none() -> None:
    assert Cka.CHECK_VALUE not in build_object(aes(CHECK_VALUE=b""))
    assert build_object(aes(CHECK_VALUE=bytes.fromhex("dc95c0")))[Cka.CHECK_VALUE]


def test_c6_secret_token_keys_in_the_clear_are_refused_by_default() -> None:
    template = aes(TOKEN=TRUE, PRIVATE=FALSE)
    assert refusal(build_object, template) == Ckr.ATTRIBUTE_VALUE_INVALID
    assert build_object(aes(TOKEN=TRUE))[Cka.PRIVATE] == TRUE
    assert build_object(aes(PRIVATE=FALSE))[Cka.PRIVATE] == FALSE
    loose = ObjectPolicy(clear_token_keys=True)
    assert build_object(template, policy=loose)[Cka.PRIVATE] == FALSE
    generate = [(Cka.VALUE_LEN, ulong(32)), (Cka.TOKEN, TRUE), (Cka.PRIVATE, FALSE)]
    arguments = (Ckm.AES_KEY_GEN, NIL, generate)
    assert refusal(mechanisms.generate_key, *arguments) == Ckr.ATTRIBUTE_VALUE_INVALID
    pair = (
        Ckm.EC_KEY_PAIR_GEN,
        NIL,
        [(Cka.EC_PARAMS, P256.params)],
        [(Cka.TOKEN, TRUE), (Cka.PRIVATE, FALSE)],
    )
    assert refusal(mechanisms.generate_key_pair, *pair) == Ckr.ATTRIBUTE_VALUE_INVALID


def test_only_the_security_officer_trusts_a_key() -> None:
    officer = ObjectPolicy(security_officer=True)
    assert build_object(aes(TRUSTED=TRUE), policy=officer)[Cka.TRUSTED] == TRUE


def test_a_key_that_asks_for_the_password_is_private_and_stays_so() -> None:
    params, asking = [(Cka.EC_PARAMS, P256.params)], (Cka.ALWAYS_AUTHENTICATE, TRUE)
    token = [asking, (Cka.TOKEN, FALSE)]
    arguments = (Ckm.EC_KEY_PAIR_GEN, NIL, params)
    open_key = [*token, (Cka.PRIVATE, FALSE)]
    value = refusal(mechanisms.generate_key_pair, *arguments, open_key)
    assert value == Ckr.TEMPLATE_INCONSISTENT
    _, private = mechanisms.generate_key_pair(*arguments, token)
    for change in (apply_changes, copy_attributes):
        value = refusal(change, private, [(Cka.ALWAYS_AUTHENTICATE, FALSE)])
        assert value == Ckr.ATTRIBUTE_READ_ONLY


@pytest.mark.parametrize(
    ("mechanism", "template", "ckr"),
    [
        (Ckm.AES_KEY_GEN, {}, Ckr.TEMPLATE_INCOMPLETE),
        (Ckm.AES_KEY_GEN, {"VALUE_LEN": ulong(20)}, Ckr.KEY_SIZE_RANGE),
        (Ckm.GENERIC_SECRET_KEY_GEN, {"VALUE_LEN": ulong(0)}, Ckr.KEY_SIZE_RANGE),
        (Ckm.GENERIC_SECRET_KEY_GEN, {"VALUE_LEN": ulong(1 << 63)}, Ckr.KEY_SIZE_RANGE),
        (Ckm.AES_KEY_GEN, {"VALUE": bytes(16)}, Ckr.TEMPLATE_INCONSISTENT),
        (Ckm.AES_KEY_GEN, {"KEY_TYPE": ulong(Ckk.RSA)}, Ckr.TEMPLATE_INCONSISTENT),
        (Ckm.AES_KEY_GEN, {"CLASS": ulong(Cko.DATA)}, Ckr.TEMPLATE_INCONSISTENT),
        (Ckm.AES_KEY_GEN, {"LOCAL": TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
        (
            Ckm.AES_KEY_GEN,
            {"VALUE_LEN": ulong(16), "CHECK_VALUE": b"xyz"},
            Ckr.TEMPLATE_INCONSISTENT,
        ),
    ],
)
def test_key_generation_that_is_refused(
    mechanism: Ckm, template: dict[str, bytes], ckr: Ckr
) -> None:
    fields = [(Cka[name], value) for name, value in template.items()]
    assert refusal(mechanisms.generate_key, mechanism, NIL, fields) == ckr


@pytest.mark.parametrize(
    ("mechanism", "public", "ckr"),
    [
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, {}, Ckr.TEMPLATE_INCOMPLETE),
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, {"MODULUS_BITS": ulong(1024)}, Ckr.KEY_SIZE_RANGE),
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, {"MODULUS_BITS": ulong(8192)}, Ckr.KEY_SIZE_RANGE),
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, {"MODULUS_BITS": ulong(2049)}, Ckr.KEY_SIZE_RANGE),
        (
            Ckm.RSA_PKCS_KEY_PAIR_GEN,
            {"MODULUS_BITS": ulong(2048), "PUBLIC_EXPONENT": b"\x03"},
            Ckr.ATTRIBUTE_VALUE_INVALID,
        ),
        (Ckm.RSA_PKCS_KEY_PAIR_GEN, {"MODULUS": bytes(256)}, Ckr.TEMPLATE_INCONSISTENT),
        (Ckm.EC_KEY_PAIR_GEN, {}, Ckr.TEMPLATE_INCOMPLETE),
        (
            Ckm.EC_KEY_PAIR_GEN,
            {"EC_PARAMS": bytes.fromhex("06052b81040008")},
            Ckr.CURVE_NOT_SUPPORTED,
        ),
        (Ckm.EC_KEY_PAIR_GEN, {"EC_PARAMS": ED25519_PARAMS}, Ckr.CURVE_NOT_SUPPORTED),
        (Ckm.EC_KEY_PAIR_GEN, {"EC_PARAMS": b"P-256"}, Ckr.DOMAIN_PARAMS_INVALID),
        (Ckm.EC_EDWARDS_KEY_PAIR_GEN, {"EC_PARAMS": P256.params}, Ckr.CURVE_NOT_SUPPORTED),
    ],
)
def test_pair_generation_that_is_refused(
    mechanism: Ckm, public: dict[str, bytes], ckr: Ckr
) -> None:
    fields = [(Cka[name], value) for name, value in public.items()]
    assert refusal(mechanisms.generate_key_pair, mechanism, NIL, fields, []) == ckr


def test_the_halves_of_a_pair_must_not_name_different_curves() -> None:
    templates = [(Cka.EC_PARAMS, P256.params)], [(Cka.EC_PARAMS, P224.params)]
    arguments = (Ckm.EC_KEY_PAIR_GEN, NIL, *templates)
    assert refusal(mechanisms.generate_key_pair, *arguments) == Ckr.TEMPLATE_INCONSISTENT


# ------------------------------------------------------------------ material


def test_rsa_parts_that_do_not_belong_together_are_refused() -> None:
    public, private = made(Ckm.RSA_PKCS_KEY_PAIR_GEN, (Cka.MODULUS_BITS, ulong(2048)))
    _, other = made(Ckm.RSA_PKCS_KEY_PAIR_GEN, (Cka.MODULUS_BITS, ulong(2048)))
    invalid = Ckr.ATTRIBUTE_VALUE_INVALID
    for name in ("PRIVATE_EXPONENT", "PRIME_1", "EXPONENT_2", "COEFFICIENT", "MODULUS"):
        changed = creatable(private, **{name: other[Cka[name]]}, PUBLIC_KEY_INFO=None)
        assert refusal(build_object, changed) == invalid
        missing = creatable(private, **{name: None})
        assert refusal(build_object, missing) == Ckr.TEMPLATE_INCOMPLETE
    for value in (b"", bytes(257), b"\xff" * 257):
        assert refusal(build_object, creatable(private, PRIME_1=value)) == invalid
    for exponent in (b"\x01", b"\x02", b"\x01" * 9):
        changed = creatable(public, PUBLIC_EXPONENT=exponent, PUBLIC_KEY_INFO=None)
        assert refusal(build_object, changed) == invalid
    small = creatable(public, MODULUS=b"\xff" * 128, MODULUS_BITS=None, PUBLIC_KEY_INFO=None)
    assert refusal(build_object, small) == invalid
    even = public[Cka.MODULUS][:-1] + b"\0"
    changed = creatable(public, MODULUS=even, PUBLIC_KEY_INFO=None)
    assert refusal(build_object, changed) == invalid
    wrong_bits = creatable(public, MODULUS_BITS=ulong(3072))
    assert refusal(build_object, wrong_bits) == Ckr.TEMPLATE_INCONSISTENT
    spaced = creatable(public, MODULUS=b"\0" + public[Cka.MODULUS])
    assert build_object(spaced)[Cka.MODULUS] == public[Cka.MODULUS]


@pytest.mark.parametrize("curve", CURVES, ids=lambda row: row.name)
def test_points_and_numbers_off_the_curve_are_refused(curve: object) -> None:
    row = next(known for known in CURVES if known is curve)
    public, private = made(Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, row.params))
    invalid = Ckr.ATTRIBUTE_VALUE_INVALID
    point = public[Cka.EC_POINT]
    off = bytes((*point[:-1], point[-1] ^ 1))
    for wrong in (off, point[:-1], point + b"\0", b"", bytes(len(point)), b"\x04\x00"):
        changed = creatable(public, EC_POINT=wrong, PUBLIC_KEY_INFO=None)
        assert refusal(build_object, changed) == invalid
    for value in (b"", b"\0", b"\xff" * row.order_bytes, b"\x01" * (row.order_bytes + 1)):
        changed = creatable(private, VALUE=value, EC_POINT=None, PUBLIC_KEY_INFO=None)
        assert refusal(build_object, changed) == invalid
    other, _ = made(Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, row.params))
    changed = creatable(private, EC_POINT=other[Cka.EC_POINT], PUBLIC_KEY_INFO=None)
    assert refusal(build_object, changed) == Ckr.TEMPLATE_INCONSISTENT


def test_points_are_accepted_bare_and_compressed() -> None:
    public, _ = made(Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, P256.params))
    bare = public[Cka.EC_POINT][2:]
    key = ec.EllipticCurvePublicKey.from_encoded_point(P256.curve, bare)
    compressed = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    for form in (bare, compressed):
        again = build_object(creatable(public, EC_POINT=form))
        assert again[Cka.EC_POINT] == public[Cka.EC_POINT]
    public, _ = made(Ckm.EC_EDWARDS_KEY_PAIR_GEN)
    again = build_object(creatable(public, EC_POINT=public[Cka.EC_POINT][2:]))
    assert again[Cka.EC_POINT] == public[Cka.EC_POINT]


def test_ed25519_values_of_another_length_are_refused() -> None:
    public, private = made(Ckm.EC_EDWARDS_KEY_PAIR_GEN)
    invalid = Ckr.ATTRIBUTE_VALUE_INVALID
    assert refusal(build_object, creatable(private, VALUE=bytes(31))) == invalid
    assert refusal(build_object, creatable(public, EC_POINT=bytes(31))) == invalid
    other, _ = made(Ckm.EC_EDWARDS_KEY_PAIR_GEN)
    changed = creatable(private, EC_POINT=other[Cka.EC_POINT], PUBLIC_KEY_INFO=None)
    assert refusal(build_object, changed) == Ckr.TEMPLATE_INCONSISTENT


# ------------------------------------------------------------------ data and certificates


def certificate_der() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "conclave")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 0x8001, now, now)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CERTIFICATE = [(Cka.CLASS, ulong(Cko.CERTIFICATE)), (Cka.CERTIFICATE_TYPE, ulong(0))]


def test_a_certificate_tells_its_attributes_itself() -> None:
    certificate = build_object([*CERTIFICATE, (Cka.VALUE, certificate_der())])
    assert b"conclave" in certificate[Cka.SUBJECT]
    assert certificate[Cka.ISSUER] == certificate[Cka.SUBJECT]
    assert certificate[Cka.SERIAL_NUMBER] == bytes.fromhex("0203008001")
    assert certificate[Cka.PRIVATE] == FALSE
    assert len(certificate[Cka.CHECK_VALUE]) == 3
    own = [(Cka.SUBJECT, b"mine"), (Cka.ID, b"1")]
    certificate = build_object([*CERTIFICATE, (Cka.VALUE, certificate_der()), *own])
    assert certificate[Cka.SUBJECT] == b"mine"


def test_a_certificate_that_no_parser_takes_is_kept_when_its_subject_is_given() -> None:
    odd = (Cka.VALUE, b"0\x03odd")
    assert refusal(build_object, [*CERTIFICATE, odd]) == Ckr.TEMPLATE_INCOMPLETE
    assert build_object([*CERTIFICATE, odd, (Cka.SUBJECT, b"x")])[Cka.VALUE] == odd[1]
    assert refusal(build_object, [*CERTIFICATE, (Cka.SUBJECT, b"x")]) == Ckr.TEMPLATE_INCOMPLETE
    by_url = [*CERTIFICATE, (Cka.SUBJECT, b"x"), (Cka.URL, b"https://example.org/c")]
    assert Cka.CHECK_VALUE not in build_object(by_url)


def test_data_objects_need_nothing_but_their_class() -> None:
    data = build_object([(Cka.CLASS, ulong(Cko.DATA))])
    assert data[Cka.VALUE] == b""
    assert data[Cka.PRIVATE] == TRUE
    full = os.urandom(1000)
    data = build_object([(Cka.CLASS, ulong(Cko.DATA)), (Cka.VALUE, full), (Cka.PRIVATE, FALSE)])
    assert data[Cka.VALUE] == full
