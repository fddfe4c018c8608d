"""A user's SSH keys and certificates: kept, bounded, one's own."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from conclave.appliance import public_keys
from conclave.appliance.public_keys import parse_certificate, parse_public_key
from conclave.errors import BadInput
from tests.support.rest_house import ADMIN, MONITOR, House

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def ssh_line(comment: str = "joe@desk") -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return f"{key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"


def certificate_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "joe")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(START).not_valid_after(START.replace(year=2090))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module")
def pem() -> str:
    """Return a certificate of an RSA key."""
    return certificate_pem(rsa.generate_private_key(65537, 2048))


def test_keys_are_added_listed_and_removed(house: House) -> None:
    client = house.client(MONITOR)
    line = ssh_line()
    added = client.post("/users/monitor/publicKeys", {"key": line})
    assert added.status_code == 204
    (listed,) = client.get("/users/monitor/publicKeys").json()["publicKeys"]
    assert (listed["kind"], listed["comment"]) == ("ssh-ed25519", "joe@desk")
    assert listed["fingerprint"].startswith("SHA256:")
    assert listed["url"] == added.headers["Location"]
    assert client.post("/users/monitor/publicKeys", {"key": line}).status_code == 409
    kind, data, _ = line.split(" ")
    assert house.appliance.public_keys.holds("monitor", kind, data)
    assert not house.appliance.public_keys.holds("operator", kind, data)
    assert client.delete(listed["url"]).status_code == 204
    assert client.get("/users/monitor/publicKeys").json() == {"publicKeys": []}
    assert client.delete(listed["url"]).status_code == 404


def test_a_removed_key_ends_the_logins_it_may_have_made(house: House) -> None:
    client = house.client(MONITOR).open_session()
    url = client.post("/users/monitor/publicKeys", {"key": ssh_line()}).headers["Location"]
    assert client.get("/users/monitor").status_code == 200
    assert house.client(ADMIN).delete(url).status_code == 204
    assert client.get("/users/monitor").status_code == 401


def test_others_keys_are_an_administrators_business(house: House) -> None:
    for method, path, body in (
        ("GET", "/users/admin/publicKeys", None),
        ("POST", "/users/admin/publicKeys", {"key": ssh_line()}),
        ("GET", "/users/admin/certificates", None),
    ):
        assert house.client(MONITOR).call(method, path, json=body).status_code == 403


def test_a_new_password_keeps_the_keys(house: House) -> None:
    client = house.client(MONITOR)
    client.post("/users/monitor/publicKeys", {"key": ssh_line()})
    change = {"currentPassword": MONITOR[1], "password": "Another-Word-77"}
    assert client.post("/users/monitor/actions/changePassword", change).status_code == 204
    assert len(house.appliance.public_keys.of("monitor")) == 1


def test_keys_are_bounded_in_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_keys, "MAX_KEYS", 2)
    client = house.client(MONITOR)
    statuses = [
        client.post("/users/monitor/publicKeys", {"key": ssh_line()}).status_code for _ in range(3)
    ]
    assert statuses == [204, 204, 409]


def test_certificates_are_added_listed_and_removed(house: House, pem: str) -> None:
    client = house.client(MONITOR)
    one_line = pem.replace("\n", "").replace(
        "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\\n"
    )
    one_line = one_line.replace("-----END", "\\n-----END")
    added = client.post("/users/monitor/certificates", {"certificate": one_line})
    assert added.status_code == 204
    (listed,) = client.get("/users/monitor/certificates").json()["certificates"]
    assert (listed["subject"], listed["url"]) == ("CN=joe", added.headers["Location"])
    assert client.post("/users/monitor/certificate", {"certificate": pem}).status_code == 409
    assert client.delete(listed["url"]).status_code == 204
    assert client.post("/users/monitor/certificate", {"certificate": pem}).status_code == 204


@pytest.mark.parametrize(
    "line", ["", "ssh-dss AAAA", "ssh-ed25519", "ssh-ed25519 !!", "ssh-ed25519 AAAA", "a\nb c"]
)
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="key"):
        parse_public_key(line)


def test_small_rsa_keys_and_others_are_refused() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is refused
    text = small.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with pytest.raises(BadInput, match="1024"):
        parse_public_key(text)
    with pytest.raises(BadInput, match="1024"):
        parse_certificate(certificate_pem(small))
    with pytest.raises(BadInput, match="RSA"):
        parse_certificate(certificate_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(BadInput, match=r"X\.509"):
        parse_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
