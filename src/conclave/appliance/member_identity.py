"""The member's TLS identity: a key made once, sealed by the HSM, and the cluster CA's certificate.

Invariant: the private key lies on disk only under the HSM master key, and the certificate always
belongs to the key beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from conclave import faults
from conclave.appliance.documents import Documents
from conclave.appliance.tls import PrivateKey, key_to_pem, new_private_key, public_key_der
from conclave.cluster.ca import check_validity
from conclave.errors import InternalFault
from conclave.hsm.hsm import Hsm

DOCUMENT: Final = "member identity"
PURPOSE: Final = "member tls key"


class StoredIdentity(msgspec.Struct, frozen=True):
    """The sealed key, and what the cluster CA certified; empty before the first authorization."""

    sealed_key: bytes = b""
    certificate_pem: str = ""
    ca_pem: str = ""
    member_id: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class MemberCertificate:
    """What the listeners present; `key_pem` never meets a disk."""

    certificate_pem: bytes
    key_pem: bytes
    ca_pem: bytes
    member_id: str


class MemberIdentity:
    """Make, keep and forget the member's key and certificate."""

    def __init__(self, documents: Documents, hsm: Hsm, stored: StoredIdentity) -> None:
        self._documents = documents
        self._hsm = hsm
        self._stored = stored

    @classmethod
    async def open(cls, documents: Documents, hsm: Hsm) -> MemberIdentity:
        """Read the identity from the store."""
        return cls(documents, hsm, await documents.load(DOCUMENT, StoredIdentity))

    async def public_key_der(self) -> bytes:
        """Return the member's public key; the first call makes the key."""
        if not self._stored.sealed_key:
            key_pem = key_to_pem(new_private_key())
            sealed = self._hsm.seal_local(key_pem, PURPOSE)
            await self._save(StoredIdentity(sealed_key=sealed))
        return public_key_der(self._private_key())

    def known_public_key_der(self) -> bytes:
        """Return the member's public key, empty before there is one."""
        return public_key_der(self._private_key()) if self._stored.sealed_key else b""

    def known_key_pem(self) -> bytes:
        """Return the member's private key, unencrypted PKCS#8, empty before there is one."""
        return key_to_pem(self._private_key()) if self._stored.sealed_key else b""

    @property
    def certificate_pem(self) -> str:
        """Return the certificate in PEM, empty before there is one."""
        return self._stored.certificate_pem

    @property
    def member_id(self) -> str:
        """Return the id of the member that is certified, empty without a certificate."""
        return self._stored.member_id

    def has(self, certificate_pem: str, ca_pem: str, member_id: str) -> bool:
        """Tell whether exactly this certificate is kept."""
        stored = self._stored
        kept = (stored.certificate_pem, stored.ca_pem, stored.member_id)
        return kept == (certificate_pem, ca_pem, member_id)

    def check_validity(self, now: datetime) -> None:
        """Raise Conflict (CERTIFICATE_VALIDITY) naming by how much `now` is outside (T2)."""
        for pem, whose in (
            (self._stored.ca_pem, "cluster CA's"),
            (self._stored.certificate_pem, "member's"),
        ):
            if pem:
                check_validity(x509.load_pem_x509_certificate(pem.encode()), now, whose)

    async def set_certificate(self, certificate_pem: str, ca_pem: str, member_id: str) -> None:
        """Keep the certificate; raise InternalFault when it is for another key."""
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        certified = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if certified != public_key_der(self._private_key()):
            message = "The cluster CA certified another key than the member's."
            raise InternalFault(faults.INTERNAL, message)
        await self._save(
            StoredIdentity(
                sealed_key=self._stored.sealed_key,
                certificate_pem=certificate_pem,
                ca_pem=ca_pem,
                member_id=member_id,
            )
        )

    def certificate(self) -> MemberCertificate | None:
        """Return certificate and key, or None before the first authorization."""
        if not self._stored.certificate_pem:
            return None
        return MemberCertificate(
            certificate_pem=self._stored.certificate_pem.encode(),
            key_pem=key_to_pem(self._private_key()),
            ca_pem=self._stored.ca_pem.encode(),
            member_id=self._stored.member_id,
        )

    async def forget_certificate(self) -> None:
        """Remove the certificate and keep the key: the member is in no cluster any more."""
        if self._stored.certificate_pem:
            await self._save(StoredIdentity(sealed_key=self._stored.sealed_key))

    async def forget(self) -> None:
        """Remove key and certificate (factory reset)."""
        await self._documents.remove(DOCUMENT)
        self._stored = StoredIdentity()

    async def _save(self, stored: StoredIdentity) -> None:
        await self._documents.save(DOCUMENT, stored)
        self._stored = stored

    def _private_key(self) -> PrivateKey:
        key_pem = self._hsm.unseal_local(self._stored.sealed_key, PURPOSE)
        key = serialization.load_pem_private_key(key_pem, None)
        assert isinstance(key, PrivateKey)  # noqa: S101 - new_private_key made it
        return key
