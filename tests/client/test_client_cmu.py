"""cmu's language, templates, names and files, without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from conclave.client.cmu import (
    attributes,
    certificates,
    extensions,
    files,
    grammar,
    key_files,
    keys,
)
from conclave.client.handles import handle_of, reference_of
from conclave.client.public_keys import der_integer
from conclave.client.tools.faces import complaint as told
from conclave.crypto.curves import CURVES
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import BadInput, NotFound
from conclave.keyring.attributes import ulong


def test_options_ignore_case_and_values_keep_it() -> None:
    invocation = grammar.parse(
        ["GenerateKeyPair", "-KEYTYPE=RSA", "-modulusbits=3072", "-label=a=B", "-sign", "-verify=0"]
    )
    assert invocation.command.name == "generatekeypair"
    assert invocation.values == {
        **{"keyType": "RSA", "modulusBits": "3072", "label": "a=B", "sign": "T", "verify": "0"},
    }
    assert grammar.parse(["gen", "-mech=1"]).values == {"keygenmech": "1"}
    assert grammar.parse(["delete", "-handle=4", "-force"]).values == {"handle": "4", "force": ""}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["lst"], 'Did you mean "list"'),
        (["zzz"], "cmu help lists all"),
        (["list", "-lable=x"], "list has no option -lable; did you mean -label?"),
        (["gen", "-modulusbit=4"], "did you mean -modulusBits?"),
        (["list", "-qqqqq"], "it takes -display"),
        (["list", "-label", "-id=00"], "-label needs a value"),
        (["list", "-label"], "-label needs a value: -label=<text>"),
        (["delete", "-force=1"], "-force takes no value"),
        (["list", "-label=a", "-LABEL=b"], "given twice"),
    ],
)
def test_a_refusal_names_what_is_wrong_and_what_is_near(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        grammar.parse(words)
    assert complaint in refused.value.message


@pytest.mark.parametrize(
    "words",
    [
        ["list", "-password", "ok", "hunter2"],
        ["list", "hunter2"],
        ["hunter2"],
        ["list", "-passwrd=hunter2"],
        ["list", "-hunter2"],
    ],
)
def test_a_password_in_the_wrong_place_is_not_repeated(words: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        grammar.parse(words)
    assert "hunter2" not in told(refused.value)
    for words_again in (["list", "-password=hunter2"], ["list", "--password", "hunter2"]):
        understood = grammar.parse(words_again)
        assert understood.values == {"password": "hunter2"}
        assert "hunter2" not in repr(understood)


def test_no_two_names_collide_and_help_shows_all() -> None:
    names = [name for row in grammar.COMMANDS for name in (row.name, row.short[0])]
    assert len(set(names)) == len(names)
    everything = grammar.help_text(())
    for row in grammar.COMMANDS:
        options = [option.name.lower() for option in row.options]
        assert len(set(options)) == len(options), row.name
        assert row.summary in everything
        page = grammar.help_text((row.name,))
        assert all(f"-{option.name}" in page for option in row.options)


def test_pairs_are_planned_as_the_options_say() -> None:
    plan = keys.plan_pair({"keyType": "rsa", "labelPublic": "p", "label": "l", "sign": "1"})
    assert plan.mechanism is Ckm.RSA_PKCS_KEY_PAIR_GEN
    assert plan.public[Cka.MODULUS_BITS] == 2048
    assert plan.public[Cka.PUBLIC_EXPONENT] == b"\1\0\1"
    assert (plan.public[Cka.LABEL], plan.private[Cka.LABEL]) == ("p", "l")
    assert plan.private[Cka.SIGN] is True
    assert Cka.SIGN not in plan.public
    assert Cka.VERIFY not in plan.public, "what is not said is left to the keyring"
    for number, name in (("3", "P-256"), ("4", "P-384"), ("5", "P-521")):
        (params,) = (row.params for row in CURVES if row.name == name)
        for text in (number, name):
            curve = keys.plan_pair({"keyType": "ECDSA", "curveType": text})
            assert curve.public[Cka.EC_PARAMS] == params
    edwards = keys.plan_pair({"keyType": "EDDSA"})
    assert edwards.mechanism is Ckm.EC_EDWARDS_KEY_PAIR_GEN
    mechanism, wanted = keys.plan_key({"keyType": "sha256hmac", "keyLength": "20", "id": "0Aff"})
    assert mechanism is Ckm.SHA256_KEY_GEN
    assert (wanted[Cka.VALUE_LEN], wanted[Cka.ID]) == (20, b"\x0a\xff")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"keyType": "DSA"}, "-keyType is one of"),
        ({"keyType": "AES"}, "use generatekey"),
        ({"keyType": "RSA", "curveType": "3"}, "-curveType does not go"),
        ({"keyType": "ECDSA", "curveType": "1"}, "-curveType is one of"),
        ({"keyType": "ECDSA", "modulusBits": "2048"}, "-modulusBits does not go"),
        ({"keyType": "RSA", "keygenmech": "2"}, "must be 1"),
        ({"keyType": "RSA", "modulusBits": "big"}, "-modulusBits must be a number"),
        ({"keyType": "RSA", "sign": "maybe"}, "-sign must be 1, 0, T or F"),
        ({"keyType": "RSA", "id": "xyz"}, "-id must be pairs of hexadecimal"),
        ({"keyType": "RSA", "startDate": "1.1.2026"}, "-startDate must be YYYYMMDD"),
    ],
)
def test_a_pair_that_cannot_be_says_why(values: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        keys.plan_pair(values)
    assert complaint in refused.value.message


def test_every_attribute_has_a_name_that_is_read_back() -> None:
    assert attributes.name_of_attribute(Cka.KEY_TYPE) == "keyType"
    text = ",".join(attributes.name_of_attribute(number) for number in attributes.READABLE)
    assert attributes.attributes_named(text) == attributes.READABLE
    with pytest.raises(BadInput, match="'colour'"):
        attributes.attributes_named("label,colour")
    assert attributes.class_named("PrivateKey") is Cko.PRIVATE_KEY


def test_values_are_shown_by_name_and_no_label_moves_the_cursor() -> None:
    assert attributes.shown(Cka.CLASS, ulong(Cko.SECRET_KEY)) == "secretKey"
    assert attributes.shown(Cka.KEY_TYPE, ulong(Ckk.AES)) == "AES"
    assert attributes.shown(Cka.SIGN, b"\1") == "true"
    assert attributes.shown(Cka.MODULUS, b"\xab\x01") == "ab01"
    assert attributes.shown(Cka.LABEL, "übel\x1b[2J\nhandle=1".encode()) == "übel�[2J�handle=1"
    assert attributes.shown(Cka.KEY_GEN_MECHANISM, b"\xff" * 8) == "unavailable"


def test_a_handle_leads_back_to_its_object() -> None:
    references = [bytes([number] * 16) for number in range(200)]
    found = {handle_of(reference) for reference in references}
    assert len(found) == len(references)
    assert all(0 < handle < 1 << 39 for handle in found)
    assert reference_of(handle_of(references[7]), references) == references[7]
    with pytest.raises(NotFound, match="handle 5"):
        reference_of(5, references)
    with pytest.raises(BadInput, match="2 objects"):
        reference_of(handle_of(references[7]), [references[7], references[7]])


@given(st.integers(0, 1 << 159))
def test_serial_numbers_are_der_as_the_library_writes_them(number: int) -> None:
    encoded = der_integer(number)
    assert encoded[:1] == b"\2"
    assert encoded[1] == len(encoded) - 2
    assert int.from_bytes(encoded[2:], signed=True) == number
    assert len(encoded) == 3 or encoded[2] != 0 or encoded[3] & 0x80


def test_subjects_leave_out_what_is_empty_and_refuse_nothing_at_all() -> None:
    name = certificates.subject_of({"CN": "a", "O": "", "C": "DE"})
    assert name.rfc4514_string() == "CN=a,C=DE"
    for parts in ({}, {"CN": ""}):
        with pytest.raises(BadInput, match="at least one"):
            certificates.subject_of(parts)
    with pytest.raises(BadInput, match="-C is not valid"):
        certificates.subject_of({"C": "Germany"})


def test_files_are_neither_replaced_nor_read_beyond_their_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_file(str(path), b"one")
    with pytest.raises(BadInput, match="cannot be written"):
        files.write_file(str(path), b"two")
    assert files.read_file(str(path)) == b"one"
    path.write_bytes(bytes(files.MAX_FILE_BYTES + 1))
    with pytest.raises(BadInput, match="longer than"):
        files.read_file(str(path))
    with pytest.raises(BadInput, match="its directory is not there"):
        files.require_new_file(str(tmp_path / "none" / "file"))
    for content in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
        with pytest.raises(BadInput, match="no certificate and no public key"):
            files.imported(content, "", None)


def test_dates_and_serial_numbers_are_checked() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    for values, complaint in (
        ({"startDate": "20260230"}, "-startDate must be YYYYMMDD"),
        ({"startDate": "20260202", "endDate": "20260201"}, "-endDate must not be before"),
    ):
        with pytest.raises(BadInput, match=complaint):
            certificates.validity(values, now)
    assert certificates.validity({}, now) == (now, now + certificates.DEFAULT_LIFE)
    for text in ("0", "xyz", "-1", "f" * 40):
        with pytest.raises(BadInput, match="-serialNumber must be"):
            certificates.serial_number(text)
    assert certificates.serial_number("00a1") == 0xA1


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"san": "foo:x"}, "begins with one of DNS:"),
        ({"san": "IP:300.1.1.1"}, "is not valid"),
        ({"san": "DNS:"}, "empty name"),
        ({"san": "a.test,,b.test"}, "empty name"),
        ({"san": "ümlaut.test"}, "is not valid"),
        ({"keyUsage": "signing"}, "takes digitalSignature"),
        ({"keyUsage": "encipherOnly"}, "is not valid"),
        ({"keyUsage": "keyCertSign"}, "goes with -ca only"),
        ({"ca": "T", "keyUsage": "cRLSign"}, "needs keyCertSign"),
        ({"extendedKeyUsage": "serverAuth,webServer"}, "object identifiers, not 'webServer'"),
        ({"pathLength": "0"}, "goes with -ca only"),
        ({"ca": "T", "pathLength": "256"}, "at most 255"),
    ],
)
def test_extensions_that_cannot_be_say_why(values: dict[str, str], complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        extensions.of_certificate(values)
    assert complaint in refused.value.message


def test_extensions_are_what_the_options_say() -> None:
    usual = extensions.of_certificate({})
    assert [type(each).__name__ for each, _ in usual] == ["BasicConstraints", "KeyUsage"]
    assert all(critical for _, critical in usual)
    found = extensions.asked_for(
        {
            "san": "www.lab.test,IP:10.0.0.1,URI:https://lab.test/",
            "ca": "T",
            "extendedKeyUsage": "clientAuth,1.2.3.4",
            "keyUsage": "nonRepudiation,keyCertSign",
        }
    )
    constraints, usage, purposes, names = (each for each, _critical in found)
    assert constraints == x509.BasicConstraints(ca=True, path_length=None)
    assert isinstance(usage, x509.KeyUsage)
    assert usage.content_commitment
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert isinstance(purposes, x509.ExtendedKeyUsage)
    assert [each.dotted_string for each in purposes] == ["1.3.6.1.5.5.7.3.2", "1.2.3.4"]
    assert isinstance(names, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["www.lab.test"]
    assert extensions.asked_for({}) == []


def test_key_files_that_cannot_be_read_quote_nothing() -> None:
    for content in (b"", b"hunter2", b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END"):
        with pytest.raises(BadInput, match="no private key that can be read") as refused:
            key_files.read_private_key_file(content, None)
        assert "hunter2" not in refused.value.message
        assert not key_files.is_encrypted(content)
    key = ec.generate_private_key(ec.SECP192R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(BadInput, match="type or curve"):
        key_files.read_private_key_file(pem, None)
    with pytest.raises(BadInput, match="asks for a password, or for none"):
        key_files.read_private_key_file(pem, b"hunter2")
    sealed = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
    )
    assert key_files.is_encrypted(sealed)
    read = key_files.read_private_key_file(sealed, b"hunter2")
    assert read.kind is Ckk.EC_EDWARDS
    assert read.material[Cka.VALUE].hex() not in repr(read)


def test_pairs_of_other_types_are_planned() -> None:
    lattice = keys.plan_pair({"keyType": "mldsa", "parameterSet": "87"})
    assert lattice.mechanism is Ckm.ML_DSA_KEY_PAIR_GEN
    assert lattice.public[Cka.PARAMETER_SET] == 3
    agreeing = keys.plan_pair({"keyType": "X25519", "curveType": "x448", "derive": "T"})
    assert agreeing.mechanism is Ckm.EC_MONTGOMERY_KEY_PAIR_GEN
    assert agreeing.private[Cka.DERIVE] is True
    for values, complaint in (
        ({"keyType": "mldsa", "parameterSet": "45"}, "-parameterSet is one of 44, 65, 87"),
        ({"keyType": "rsa", "parameterSet": "44"}, "-parameterSet does not go"),
        ({"keyType": "eddsa", "curveType": "3"}, "one of Ed25519, Ed448"),
    ):
        with pytest.raises(BadInput, match=complaint):
            keys.plan_pair(values)
