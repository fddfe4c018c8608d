"""Logging in by a certificate: the user decrypts a challenge and answers under the server's key.

The client sends its certificate and gets a challenge encrypted for it (RSA, PKCS #1 v1.5, as its
family of appliances does) and a nonce; it answers with challenge XOR nonce, encrypted for the
server.  That is a ticket which the server has sealed for itself: nothing is kept of a challenge, so
no number of them is in anybody's way.  Invariant: a certificate that is nobody's gets a challenge
like any other, and no answer to it is ever right; every refusal is the same, and a challenge is
good for one login.  The padding is no oracle: OpenSSL decrypts a broken one to random bytes, which
then open nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conclave import faults
from conclave.appliance.public_keys import PublicKeys
from conclave.appliance.users import Login, Users
from conclave.clock import ApplianceClock, boot_time_ms
from conclave.errors import Unavailable

LIVES_MS: Final = 60_000
MAX_USED: Final = 4096
"""Logins of a minute whose challenges are remembered, so that each is good for one."""
_NONCE_BYTES: Final = 12
_TICKET_BYTES: Final = 160
"""As JSON, with the longest name of a user: more than any ticket has."""
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


class _Ticket(msgspec.Struct, frozen=True):
    """What a challenge says to the server that made it; `user_id` is empty for strangers."""

    user_id: str
    certificate_sha256: bytes
    good_until_ms: int


class _Tickets:
    """Seals tickets under a key that lives as long as the daemon; each is good for one login."""

    def __init__(self) -> None:
        self._key = AESGCM(AESGCM.generate_key(256))
        self._used: dict[bytes, int] = {}

    def seal(self, ticket: _Ticket) -> bytes:
        """Return the ticket for whoever can decrypt the challenge, of the same length for all."""
        nonce = os.urandom(_NONCE_BYTES)
        text = msgspec.json.encode(ticket).ljust(_TICKET_BYTES)
        return nonce + self._key.encrypt(nonce, text, None)

    def open(self, sealed: bytes, now_ms: int) -> _Ticket | None:
        """Return what was sealed; nothing of what is forged, over or used."""
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        if len(nonce) < _NONCE_BYTES or _digest(sealed) in self._used:
            return None
        try:
            plain = self._key.decrypt(nonce, text, None)
        except InvalidTag:
            return None
        ticket = msgspec.json.decode(plain, type=_Ticket)
        return ticket if ticket.good_until_ms >= now_ms else None

    def use(self, sealed: bytes, ticket: _Ticket, now_ms: int) -> None:
        """Remember that a ticket was used; raise Unavailable when too many were."""
        self._used = {each: until for each, until in self._used.items() if until >= now_ms}
        if len(self._used) >= MAX_USED:
            message = f"{MAX_USED} logins by certificates within a minute are the most there are."
            raise Unavailable(faults.BUSY, message)
        self._used[_digest(sealed)] = ticket.good_until_ms


class CertificateLogins:
    """Challenges and what answers them."""

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
        self._tickets = _Tickets()
        self._making_key = asyncio.Lock()
        self._server: tuple[rsa.RSAPrivateKey, str] | None = None

    async def challenge(
        self, user_id: str, certificate: x509.Certificate, *, source: str
    ) -> Challenge:
        """Return a challenge; raise Unavailable when the source must wait."""
        self._users.key_delays.check(user_id, source)
        _, server_pem = await self._server_key()
        public_key = certificate.public_key()
        assert isinstance(public_key, rsa.RSAPublicKey)  # noqa: S101 - parse_certificate saw to it
        der = certificate.public_bytes(Encoding.DER)
        known = self._is_valid(certificate) and der in self._keys.certificates_of(user_id)
        good_until_ms = self._now_ms() + LIVES_MS
        answer = self._tickets.seal(_Ticket(user_id if known else "", _digest(der), good_until_ms))
        nonce = os.urandom(len(answer))
        challenge = bytes(a ^ b for a, b in zip(answer, nonce, strict=True))
        encrypted = public_key.encrypt(challenge, padding.PKCS1v15())
        return Challenge(
            base64.b64encode(encrypted).decode(), base64.b64encode(nonce).decode(), server_pem
        )

    async def answer(self, response: str, *, source: str, door: str) -> Login:
        """Return the login that an answer proves; raise CredentialRefused, always the same.

        Raises Unavailable when it comes too early.
        """
        self._users.key_delays.check("", source)
        key, _ = await self._server_key()
        sealed, now_ms = _decrypted(key, response), self._now_ms()
        ticket = self._tickets.open(sealed, now_ms)
        user_id = "" if ticket is None else ticket.user_id
        proven = ticket is not None and ticket.certificate_sha256 in {
            _digest(der) for der in self._keys.certificates_of(ticket.user_id)
        }
        if ticket is not None and proven:
            self._tickets.use(sealed, ticket, now_ms)
        return self._users.log_in_by_key(user_id, proven=proven, source=source, door=door)

    def _is_valid(self, certificate: x509.Certificate) -> bool:
        now = self._clock.now()
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc

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
        return os.urandom(_NONCE_BYTES)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
