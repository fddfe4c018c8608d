"""Certificates of the cluster CA (rules T1 and T2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from conclave import faults
from conclave.cluster.ca import (
    CertificateAuthority,
    check_validity,
    der,
    is_fresh,
    is_valid,
    read_client_request,
    spki_der,
)
from conclave.errors import BadInput, Conflict
from conclave.ids import ClientId, ClusterId, MemberId
from tests.support.cluster_bench import client_request

# Far from the host's clock on purpose: only the appliance clock counts.
NOW = datetime(2040, 5, 6, 7, 8, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def authority(now: datetime = NOW) -> CertificateAuthority:
    return CertificateAuthority.create(ClusterId("c" * 36), "lab", now)


def member_certificate(now: datetime = NOW) -> x509.Certificate:
    spki = spki_der(ec.generate_private_key(ec.SECP256R1()).public_key())
    return authority(NOW).certify_member(
        spki,
        MemberId("m" * 36),
        common_name="lnh.test",
        other_names=["member-a", "127.0.0.2", "lnh.test"],
        now=now,
    )


def test_rule_t1_certificates_are_dated_by_the_clock_they_are_given() -> None:
    for certificate in (authority().certificate, member_certificate()):
        assert certificate.not_valid_before_utc == NOW - HOUR
        assert certificate.not_valid_after_utc > NOW


def test_a_cluster_with_a_long_label_of_long_characters_has_an_authority() -> None:
    made = CertificateAuthority.create(ClusterId("c" * 36), "\u00e9" * 64, NOW)
    (name,) = made.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "Conclave cluster " + "\u00e9" * 23


def test_no_certificate_outlives_its_authority() -> None:
    late = NOW + timedelta(days=3652)
    certificate = member_certificate(late)
    assert certificate.not_valid_after_utc == authority().certificate.not_valid_after_utc


def test_a_member_carries_the_fixed_name_and_its_addresses() -> None:
    certificate = member_certificate()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["lnh.test", "member-a"]
    assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.2"]


def test_an_authority_is_loaded_from_what_it_was_stored_as() -> None:
    made = authority()
    loaded = CertificateAuthority.load(made.key_pkcs8(), der(made.certificate))
    request = read_client_request(client_request())
    certificate = loaded.certify_client(request, ClientId(bytes(16)), NOW)
    certificate.verify_directly_issued_by(made.certificate)
    assert request.key_sha256


def test_a_members_key_of_another_kind_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for bad in (spki, b"", b"no key"):
        with pytest.raises(BadInput):
            authority().certify_member(
                bad, MemberId("m"), common_name="lnh.test", other_names=[], now=NOW
            )


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (NOW - HOUR, None),
        (NOW, None),
        (NOW - 2 * HOUR, "begins 1 h from now"),
        (NOW - HOUR - timedelta(seconds=61), "begins 1 min 1 s from now"),
        (NOW + timedelta(days=4000), "ended"),
    ],
)
def test_rule_t2_a_refusal_says_by_how_much(now: datetime, words: str | None) -> None:
    certificate = authority().certificate
    assert is_valid(certificate, now) is (words is None)
    if words is None:
        check_validity(certificate, now, "member's")
        return
    with pytest.raises(Conflict, match=words) as error:
        check_validity(certificate, now, "member's")
    assert error.value.fault is faults.CERTIFICATE_VALIDITY


@pytest.mark.parametrize(
    ("days", "fresh"), [(0, True), (700, True), (740, False), (1100, False), (-1, False)]
)
def test_certificates_are_renewed_in_time(days: int, fresh: bool) -> None:
    assert is_fresh(member_certificate(), NOW + timedelta(days=days)) is fresh
