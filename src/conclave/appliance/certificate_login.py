"""Logging in by a certificate: the user decrypts a challenge and answers under the server's key.

The client sends its certificate and gets a random challenge encrypted for it (RSA, PKCS #1 v1.5, as
its family of appliances does) and a nonce; it answers with challenge XOR nonce, encrypted for the
server.  Invariant: a certificate that is nobody's gets a challenge like any other, of which as
many may wait, and no answer to it is ever right; every refusal is the same, and a challenge is good
for one answer.  The padding is no oracle: OpenSSL decrypts a broken one to random bytes, which are
then simply unknown.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conclave import faults
from conclave.appliance.public_keys import PublicKeys
from conclave.appliance.users import Login, Users
from conclave.clock import ApplianceClock, boot_time_ms
from conclave.errors import Unavailable
from conclave.source_networks import network_of

CHALLENGE_BYTES: Final = 32
LIVES_MS: Final = 60_000
MAX_PENDING: Final = 256
MAX_PER_SOURCE: Final = 16
_KEY_BITS: Final = 2048
_BACKDATED: Final = datetime.timedelta(hours=1)
_VALID: Final = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a client has to answer."""

    challenge: str
    nonce: str
    certificate: str
    """The server's, PEM."""


@dataclass(frozen=True, slots=True)
class _Pending:
    user_id: str
    certificate_der: bytes
    network: str
    good_until_ms: int


class _Waiting:
    """A bounded number of challenges by the digest of what answers them."""

    def __init__(self) -> None:
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()

    def add(self, answer: bytes, pending: _Pending) -> None:
        self._pending[_digest(answer)] = pending
        while len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)

    def take(self, answer: bytes) -> _Pending | None:
        return self._pending.pop(_digest(answer), None)

    def expire(self, now_ms: int) -> None:
        for digest in [d for d, each in self._pending.items() if each.good_until_ms < now_ms]:
            del self._pending[digest]

    def count_of(self, network: str) -> int:
        return sum(each.network == network for each in self._pending.values())


class CertificateLogins:
    """Challenges that wait for their answers."""

    def __init__(
        self,
        users: Users,
        keys: PublicKeys,
        clock: ApplianceClock,
        *,
        now_ms: Callable[[], int] = boot_time_ms,
    ) -> None:
        self._users = users
        self._keys = keys
        self._clock = clock
        self._now_ms = now_ms
        self._answerable = _Waiting()
        self._strangers = _Waiting()
        """Those that nobody can answer: counted as the others are, and never in their way."""
        self._making_key = asyncio.Lock()
        self._server: tuple[rsa.RSAPrivateKey, str] | None = None

    async def challenge(
        self, user_id: str, certificate: x509.Certificate, *, source: str
    ) -> Challenge:
        """Return a challenge; raise Unavailable when the source has too many or must wait."""
        self._users.key_delays.check(user_id, source)
        self._expire()
        network = network_of(source)
        waiting = self._answerable.count_of(network) + self._strangers.count_of(network)
        if waiting >= MAX_PER_SOURCE:
            message = f"{MAX_PER_SOURCE} challenges wait for an answer already; answer one first."
            raise Unavailable(faults.BUSY, message)
        _, server_pem = await self._server_key()
        challenge, nonce = os.urandom(CHALLENGE_BYTES), os.urandom(CHALLENGE_BYTES)
        public_key = certificate.public_key()
        assert isinstance(public_key, rsa.RSAPublicKey)  # noqa: S101 - parse_certificate saw to it
        encrypted = public_key.encrypt(challenge, padding.PKCS1v15())
        der = certificate.public_bytes(Encoding.DER)
        known = self._is_valid(certificate) and der in self._keys.certificates_of(user_id)
        answer = bytes(a ^ b for a, b in zip(challenge, nonce, strict=True))
        pending = _Pending(user_id, der, network, self._now_ms() + LIVES_MS)
        (self._answerable if known else self._strangers).add(answer, pending)
        return Challenge(
            base64.b64encode(encrypted).decode(), base64.b64encode(nonce).decode(), server_pem
        )

    async def answer(self, response: str, *, source: str, door: str) -> Login:
        """Return the login that an answer proves; raise CredentialRefused, always the same.

        Raises Unavailable when it comes too early.
        """
        self._users.key_delays.check("", source)
        key, _ = await self._server_key()
        self._expire()
        pending = self._answerable.take(_decrypted(key, response))
        user_id = "" if pending is None else pending.user_id
        proven = pending is not None and (
            pending.certificate_der in self._keys.certificates_of(pending.user_id)
        )
        return self._users.log_in_by_key(user_id, proven=proven, source=source, door=door)

    def _is_valid(self, certificate: x509.Certificate) -> bool:
        now = self._clock.now()
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc

    def _expire(self) -> None:
        for waiting in (self._answerable, self._strangers):
            waiting.expire(self._now_ms())

    async def _server_key(self) -> tuple[rsa.RSAPrivateKey, str]:
        """Return the key that answers are encrypted for; it lives as long as the daemon."""
        async with self._making_key:
            if self._server is None:
                self._server = await asyncio.to_thread(_make_key, self._clock.now())
            return self._server


def _make_key(now: datetime.datetime) -> tuple[rsa.RSAPrivateKey, str]:
    key = rsa.generate_private_key(65537, _KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "conclave login")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(Encoding.PEM).decode()


def _decrypted(key: rsa.RSAPrivateKey, response: str) -> bytes:
    """Return what was encrypted, or bytes that nobody knows."""
    try:
        return key.decrypt(base64.b64decode(response, validate=True), padding.PKCS1v15())
    except (binascii.Error, ValueError):
        return os.urandom(CHALLENGE_BYTES)


def _digest(answer: bytes) -> bytes:
    return hashlib.sha256(answer).digest()
