"""C_DeriveKey through the module, with published vectors."""

from __future__ import annotations

import ctypes

import pytest

from conclave.crypto.curves import CURVES, MONTGOMERY
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.support.crypto_vectors import Case, cases, octets
from tests.support.cryptoki import (
    HkdfParameter,
    Mechanism,
    Session,
    Template,
    attributes,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

READABLE: Template = {Cka.SENSITIVE: False, Cka.EXTRACTABLE: True}
SALT_DATA, SALT_KEY = 2, 4


class EcdhParameter(ctypes.Structure):
    """CK_ECDH1_DERIVE_PARAMS."""

    _fields_ = (
        ("kdf", ctypes.c_ulong),
        ("shared_length", ctypes.c_ulong),
        ("shared", ctypes.c_char_p),
        ("public_length", ctypes.c_ulong),
        ("public", ctypes.c_char_p),
    )


class CounterFormat(ctypes.Structure):
    """CK_SP800_108_COUNTER_FORMAT."""

    _fields_ = (("little_endian", ctypes.c_ubyte), ("bits", ctypes.c_ulong))


class LengthFormat(ctypes.Structure):
    """CK_SP800_108_DKM_LENGTH_FORMAT."""

    _fields_ = (
        ("method", ctypes.c_ulong),
        ("little_endian", ctypes.c_ubyte),
        ("bits", ctypes.c_ulong),
    )


class CounterPart(ctypes.Structure):
    """CK_PRF_DATA_PARAM."""

    _fields_ = (("kind", ctypes.c_ulong), ("value", ctypes.c_void_p), ("length", ctypes.c_ulong))


class CounterParameter(ctypes.Structure):
    """CK_SP800_108_KDF_PARAMS."""

    _fields_ = (
        ("prf", ctypes.c_ulong),
        ("count", ctypes.c_ulong),
        ("parts", ctypes.POINTER(CounterPart)),
        ("additional_count", ctypes.c_ulong),
        ("additional", ctypes.c_void_p),
    )


class Text(ctypes.Structure):
    """CK_KEY_DERIVATION_STRING_DATA."""

    _fields_ = (("data", ctypes.c_char_p), ("length", ctypes.c_ulong))


def secret(session: Session, value: bytes) -> int:
    return session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.GENERIC_SECRET,
            Cka.DERIVE: True,
            Cka.VALUE: value,
            **READABLE,
        }
    )


def private(session: Session, kind: Ckk, params: bytes, value: bytes) -> int:
    return session.create(
        {
            Cka.CLASS: Cko.PRIVATE_KEY,
            Cka.KEY_TYPE: kind,
            Cka.EC_PARAMS: params,
            Cka.DERIVE: True,
            Cka.VALUE: value,
        }
    )


def derive(
    session: Session, how: Mechanism, base: int, template: Template
) -> tuple[int, ctypes.c_ulong]:
    made = ctypes.c_ulong()
    value = session.value(
        "C_DeriveKey",
        ctypes.byref(how),
        base,
        attributes(template),
        len(template),
        ctypes.byref(made),
    )
    return value, made


def derived(session: Session, how: Mechanism, base: int, template: Template | None = None) -> bytes:
    value, made = derive(session, how, base, {**READABLE, **(template or {})})
    assert value == Ckr.OK
    return session.get(made.value, Cka.VALUE)


def ecdh(point: bytes, kind: Ckm = Ckm.ECDH1_DERIVE) -> Mechanism:
    return mechanism(kind, EcdhParameter(1, 0, None, len(point), point))


# SP 800-56A has the cofactor primitive (5.7.1.2), RFC 7748 the multiplication by the cofactor in
# every scalar: the same vectors are those of both mechanisms.
ECDH_KINDS = (Ckm.ECDH1_DERIVE, Ckm.ECDH1_COFACTOR_DERIVE)


def ecdh_on_prime_curves(session: Session, case: Case) -> None:
    (row,) = [row for row in CURVES if row.name == case["curve"]]
    x, y = (octets(case[n]).lstrip(b"\0").rjust(row.order_bytes, b"\0") for n in ("x", "y"))
    base = private(session, Ckk.EC, row.params, octets(case["private"]))
    for kind in ECDH_KINDS:
        how = ecdh(b"\x04" + x + y, kind)
        if case["secret"] == "FAIL":
            assert derive(session, how, base, READABLE)[0] == Ckr.MECHANISM_PARAM_INVALID
        else:
            assert derived(session, how, base) == octets(case["secret"])


def ecdh_on_montgomery_curves(session: Session, case: Case) -> None:
    (row,) = [row for row in MONTGOMERY if row.name == case["curve"]]
    base = private(session, Ckk.EC_MONTGOMERY, row.params, octets(case["private"]))
    for kind in ECDH_KINDS:
        how = ecdh(octets(case["public"]), kind)
        assert derived(session, how, base) == octets(case["secret"])


def hkdf(session: Session, case: Case) -> None:
    salt, info, wanted = (octets(case[name]) for name in ("salt", "info", "derived"))
    base = secret(session, octets(case["secret"]))
    digest = {"sha1": Ckm.SHA_1, "sha256": Ckm.SHA256}[case["hash"]]
    size: Template = {Cka.VALUE_LEN: len(wanted)}
    kind = SALT_DATA if salt else 1
    choice = HkdfParameter(1, 1, digest, kind, salt, len(salt), 0, info, len(info))
    assert derived(session, mechanism(Ckm.HKDF_DERIVE, choice), base, size) == wanted
    value, data = derive(session, mechanism(Ckm.HKDF_DATA, choice), base, size)
    assert value == Ckr.OK
    assert session.get(data.value, Cka.VALUE) == wanted
    if salt:
        key = secret(session, salt)
        choice = HkdfParameter(1, 1, digest, SALT_KEY, None, 0, key, info, len(info))
        assert derived(session, mechanism(Ckm.HKDF_DERIVE, choice), base, size) == wanted


COUNTER, LENGTH, OCTETS = 1, 3, 4


def kdf_parts(
    *parts: tuple[int, bytes | ctypes.Structure],
) -> tuple[ctypes.Array[CounterPart], list[object]]:
    """Return CK_PRF_DATA_PARAM rows, and what must live as long as they."""
    rows = (CounterPart * len(parts))()
    held = [
        ctypes.create_string_buffer(part, len(part)) if isinstance(part, bytes) else part
        for _, part in parts
    ]
    for row, (kind, _), buffer in zip(rows, parts, held, strict=True):
        row.kind, row.value = kind, ctypes.addressof(buffer)
        row.length = ctypes.sizeof(buffer)
    return rows, list(held)


def counter_kdf(prf: int, *parts: tuple[int, bytes | ctypes.Structure]) -> Mechanism:
    rows, held = kdf_parts(*parts)
    built = mechanism(Ckm.SP800_108_COUNTER_KDF, CounterParameter(prf, len(parts), rows, 0, None))
    built.parts = held
    return built


def published_counter_kdf(session: Session, case: Case) -> None:
    kind, _, name = case["prf"].partition("_")
    value, wanted = octets(case["key"]), octets(case["derived"])
    prf = Ckm.AES_CMAC if kind == "CMAC" else Ckm[f"{name.replace('SHA1', 'SHA_1')}_HMAC"]
    base = session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.AES if kind == "CMAC" else Ckk.GENERIC_SECRET,
            Cka.DERIVE: True,
            Cka.VALUE: value,
        }
    )
    how = counter_kdf(
        prf,
        (OCTETS, octets(case["before"])),
        (COUNTER, CounterFormat(0, int(case["bits"]))),
        (OCTETS, octets(case["after"])),
    )
    assert derived(session, how, base, {Cka.VALUE_LEN: len(wanted)}) == wanted


def test_the_counter_kdf_writes_the_length(session: Session) -> None:
    base, size = secret(session, bytes(32)), {Cka.VALUE_LEN: 20}
    counter = (COUNTER, CounterFormat(0, 32))
    told = counter_kdf(Ckm.SHA256_HMAC, counter, (LENGTH, LengthFormat(1, 0, 32)))
    written = counter_kdf(Ckm.SHA256_HMAC, counter, (OCTETS, (160).to_bytes(4, "big")))
    template: Template = {**size}
    assert derived(session, told, base, template) == derived(session, written, base, template)
    for part in ((COUNTER, b"x"), (LENGTH, b"x"), (2, b"")):
        how = counter_kdf(Ckm.SHA256_HMAC, counter, part)
        assert derive(session, how, base, {})[0] == Ckr.MECHANISM_PARAM_INVALID


def standards_own_example(session: Session, case: Case) -> None:
    kind, wanted = Ckm[case["mechanism"]], octets(case["derived"])
    data = octets(case.get("data", ""))
    if kind == Ckm.CONCATENATE_BASE_AND_KEY:
        how = mechanism(kind, bytes(ctypes.c_ulong(secret(session, data))))
    elif kind == Ckm.EXTRACT_KEY_FROM_KEY:
        how = mechanism(kind, bytes(ctypes.c_ulong(int(case["bit"]))))
    else:
        how = mechanism(kind, Text(data, len(data)))
    base = secret(session, octets(case["base"]))
    assert derived(session, how, base, {Cka.VALUE_LEN: len(wanted)}) == wanted


WHOLE_FILES = {
    "ecdh": ecdh_on_prime_curves,
    "x25519_x448": ecdh_on_montgomery_curves,
    "hkdf": hkdf,
    "counter_kdf": published_counter_kdf,
    "derivation_examples": standards_own_example,
}


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_a_whole_file_of_published_vectors(session: Session, name: str) -> None:
    for number, case in enumerate(cases(name)):
        try:
            WHOLE_FILES[name](session, case)
        except AssertionError as error:
            raise AssertionError(f"case {number} of {name}") from error


def test_a_derived_token_key_stays_and_encrypts(session: Session) -> None:
    how = mechanism(Ckm.CONCATENATE_BASE_AND_DATA, Text(bytes(8), 8))
    template: Template = {
        Cka.KEY_TYPE: Ckk.AES,
        Cka.TOKEN: True,
        Cka.LABEL: b"derived",
        Cka.VALUE_LEN: 16,
    }
    value, made = derive(session, how, secret(session, bytes(8)), template)
    assert value == Ckr.OK
    assert session.find({Cka.LABEL: b"derived"}) == [made.value]
    sealed = session.whole("Encrypt", mechanism(Ckm.AES_ECB), made.value, bytes(16))
    # H of the GCM specification's test case 1: AES-128 of zeros under zeros.
    assert sealed.hex() == "66e94bd4ef8a2c3b884cfa59ca342b2e"
    session.do("C_DestroyObject", made.value)


def test_what_is_refused_has_its_name(session: Session) -> None:
    base = secret(session, bytes(16))
    text = mechanism(Ckm.CONCATENATE_BASE_AND_DATA, Text(b"data", 4))
    for how, key, value in (
        (text, 999_999, Ckr.KEY_HANDLE_INVALID),
        (mechanism(Ckm.CONCATENATE_BASE_AND_KEY, bytes(8)), base, Ckr.KEY_HANDLE_INVALID),
        (mechanism(Ckm.CONCATENATE_BASE_AND_KEY, b"x"), base, Ckr.MECHANISM_PARAM_INVALID),
        (mechanism(Ckm.XOR_BASE_AND_DATA, Text(None, 4)), base, Ckr.MECHANISM_PARAM_INVALID),
        (mechanism(Ckm.XOR_BASE_AND_DATA), base, Ckr.MECHANISM_PARAM_INVALID),
        (mechanism(Ckm.HKDF_DERIVE, b"x"), base, Ckr.MECHANISM_PARAM_INVALID),
        (mechanism(Ckm.ECDH1_DERIVE, b"x"), base, Ckr.MECHANISM_PARAM_INVALID),
        (ecdh(bytes(65)), base, Ckr.KEY_TYPE_INCONSISTENT),
        (mechanism(Ckm.AES_ECB), base, Ckr.MECHANISM_INVALID),
    ):
        assert derive(session, how, key, {})[0] == value
    rows = attributes({})
    assert session.value("C_DeriveKey", None, base, rows, 0, None) == Ckr.ARGUMENTS_BAD
    arguments = (ctypes.byref(text), base, rows, 0, None)
    assert session.value("C_DeriveKey", *arguments) == Ckr.ARGUMENTS_BAD
