"""Registration of clients (rules C3 and L1)."""

from __future__ import annotations

import asyncio
import math
import warnings
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from conclave import faults
from conclave.cluster.ca import key_sha256, read_client_request
from conclave.errors import BadInput, Conflict, NotFound
from conclave.service.client_messages import (
    ClientList,
    ClientMember,
    NamedClient,
    RenewClient,
)
from conclave.service.quiet import Nothing
from conclave.store.repository import open_reader
from tests.support.cluster_bench import client_request, cluster_bench, held_store


@pytest.mark.system
def test_a_client_is_certified_and_listed_by_its_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            key = ec.generate_private_key(ec.SECP384R1())
            generation = bench.page.client_generation()
            result = await bench.register("host-7", pem=client_request("host-7", key))
            assert bench.page.client_generation() > generation
            certificate = x509.load_pem_x509_certificate(result.certificate_pem.encode())
            authority = x509.load_pem_x509_certificate(result.ca_certificate_pem.encode())
            certificate.verify_directly_issued_by(authority)
            names = {item.oid: item.value for item in certificate.subject}
            assert names[NameOID.COMMON_NAME] == "host-7"
            assert names[NameOID.SERIAL_NUMBER] == result.client.client_id
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
            spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            reader = open_reader(bench.database)
            row = reader.client_by_key(key_sha256(spki))
            reader.close()
            assert row is not None
            assert row.common_name == "host-7"
            assert (result.server_common_name, result.crypto_port) == ("lnh.test", 50052)
            rows = open_reader(bench.database)
            (own,) = rows.members()
            rows.close()
            found = ClientMember(own.member_id, own.address, own.crypto_port, own.group)
            assert result.members == [found]
            assert "" not in (own.member_id, own.address, own.group)

    asyncio.run(scenario())


@pytest.mark.system
def test_a_registration_may_be_repeated_but_a_key_has_one_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            key = ec.generate_private_key(ec.SECP256R1())
            first = await bench.register(pem=client_request("host", key))
            again = await bench.register(pem=client_request("host", key))
            assert again == msgspec.structs.replace(first, changed=False)
            with pytest.raises(Conflict) as error:
                await bench.register(pem=client_request("other", key))
            assert error.value.fault is faults.CLIENT_EXISTS
            revoke = NamedClient(client_id=first.client.client_id)
            await bench.daemon.call("revoke_client", revoke)
            await bench.daemon.call("revoke_client", revoke)
            with pytest.raises(Conflict):
                await bench.register(pem=client_request("host", key))
            listed: ClientList = await bench.daemon.call("list_clients", Nothing())
            assert [item.revoked for item in listed.clients] == [False, True]
            for name in ("00000000-0000-0000-0000-000000000000", "nobody"):
                with pytest.raises(NotFound):
                    await bench.daemon.call("revoke_client", NamedClient(client_id=name))

    asyncio.run(scenario())


def damaged(text: str) -> str:
    request = x509.load_pem_x509_csr(text.encode())
    raw = bytearray(request.public_bytes(Encoding.DER))
    raw[-1] ^= 1
    return x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - it must be refused
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-521", "RSA-1024", "Ed25519"],
)
def test_keys_of_other_kinds_are_refused(key: CertificateIssuerPrivateKeyTypes) -> None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        text = builder.sign(key, None).public_bytes(Encoding.PEM).decode()
    else:
        text = client_request("client", key)
    with pytest.raises(BadInput) as error:
        read_client_request(text)
    assert error.value.fault is faults.CLIENT_CERTIFICATE_REQUEST


def long_name() -> str:
    """Return a request for 64 characters of two bytes each, as other tools make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = x509.NameAttribute(NameOID.COMMON_NAME, "\u00e9" * 64, _validate=False)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no request",
        client_request("a\tb"),
        "x" * 20_000,
        damaged(client_request()),
        long_name(),
    ],
    ids=["empty", "text", "control character", "long", "broken signature", "long name"],
)
def test_bad_requests_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as error:
        read_client_request(text)
    assert error.value.fault is faults.CLIENT_CERTIFICATE_REQUEST


def test_a_key_that_takes_long_to_verify_by_is_refused() -> None:
    good = rsa.generate_private_key(65537, 2048).private_numbers()
    exponent = 2**1024 + 1
    totient = (good.p - 1) * (good.q - 1)
    while math.gcd(exponent, totient) != 1:
        exponent += 2
    private = pow(exponent, -1, totient)
    slow = rsa.RSAPrivateNumbers(
        p=good.p,
        q=good.q,
        d=private,
        dmp1=private % (good.p - 1),
        dmq1=private % (good.q - 1),
        iqmp=good.iqmp,
        public_numbers=rsa.RSAPublicNumbers(exponent, good.public_numbers.n),
    ).private_key()
    for key, rule in (
        (slow, "public exponent is at most 2^32"),
        (rsa.generate_private_key(65537, 4104), "2048 to 4096 bits, not 4104"),
    ):
        with pytest.raises(BadInput) as error:
            read_client_request(client_request("client", key))
        assert rule in error.value.message


@pytest.mark.system
def test_a_renewal_looks_for_the_key_before_it_looks_at_the_signature(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            request = client_request("host")
            await bench.register(pem=request)
            for method in ("check_renewal", "renew_client"):
                stranger = RenewClient(request_pem=damaged(client_request("host")))
                with pytest.raises(NotFound):
                    await bench.daemon.call(method, stranger)
                with pytest.raises(BadInput, match="not signed by its own key"):
                    await bench.daemon.call(method, RenewClient(request_pem=damaged(request)))

    asyncio.run(scenario())


@pytest.mark.system
def test_a_certificate_that_is_not_due_is_shown_without_a_write(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            request = client_request("host")
            made = await bench.register(pem=request)
            async with held_store(bench):
                renewal = RenewClient(request_pem=request)
                renewed = await bench.daemon.call("renew_client", renewal, timeout_seconds=60)
                assert renewed.certificate_pem == made.certificate_pem

    asyncio.run(scenario())
