"""The form of a row of the mechanism table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conclave.crypto.parameters import no_parameter
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckf, Ckk, Ckm
from conclave.keyring.attributes import Attributes

Sign = Callable[[ReadyKey, Any, bytes, bool], bytes]
"""Key, decoded parameter, data, whether the data are a digest already → signature."""
Verify = Callable[[ReadyKey, Any, bytes, bytes, bool], None]
"""Key, decoded parameter, data, signature, digest already; raises for a wrong signature."""
Crypt = Callable[[ReadyKey, Any, bytes], bytes]
"""Key, decoded parameter, input → output."""
Derive = Callable[[ReadyKey, ReadyKey | None, Any, int | None], bytes]
"""Base key, second key, decoded parameter, length that is wanted → value."""
Encapsulate = Callable[[ReadyKey], tuple[bytes, bytes]]
"""Public key → ciphertext and shared secret."""
Decapsulate = Callable[[ReadyKey, bytes], bytes]
"""Private key, ciphertext → shared secret."""
Generate = Callable[[Attributes, Any], Attributes]
"""Planned secret key, decoded parameter → material."""
GeneratePair = Callable[[Attributes, Attributes], tuple[Attributes, Attributes]]
"""Planned public and private key → their material."""

KeyRule = Callable[[ReadyKey], None]
"""Key → nothing; raises for one that the policy forbids."""


class Evidence(enum.Enum):
    """What shows that a mechanism does what others mean by its name."""

    VECTORS = "published vectors"
    IN_WORKER = "published vectors, without the module"
    """It is off in a member unless a setting says so."""
    PARTS = "published vectors of its two parts, and OpenSSL both ways"
    """Nobody publishes any of the whole."""
    DRAWN = "what it draws is used"
    """It gives something else each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """One mechanism: what is not None here is what it can do, and nothing else is advertised."""

    number: Ckm
    key_types: tuple[Ckk, ...] = ()
    min_key_size: int = 0
    max_key_size: int = 0
    unit: str = ""
    """What key sizes are counted in, "bits" or "bytes", as the standard has it."""
    parameter: Callable[[bytes], Any] = no_parameter
    hashes: bool = False
    """It hashes the data first, and takes a digest in their place."""
    sign: Sign | None = None
    verify: Verify | None = None
    sign_recover: Crypt | None = None
    """Data to a signature that they can be recovered from."""
    verify_recover: Crypt | None = None
    """Signature to the data; raises for a wrong one."""
    encrypt: Crypt | None = None
    decrypt: Crypt | None = None
    wrap: Crypt | None = None
    unwrap: Crypt | None = None
    wraps_private_keys: bool = False
    """Private keys too, in the form of PKCS #8; secret keys are wrapped by their value."""
    derive: Derive | None = None
    second_key: Callable[[Any], bytes | None] | None = None
    """From the decoded parameter to the reference of another key that takes part."""
    derives_data: bool = False
    """It makes a data object, not a key."""
    inherits_protection: bool = False
    """What it derives is as sensitive and as little extractable as the keys it came from."""
    encapsulate: Encapsulate | None = None
    decapsulate: Decapsulate | None = None
    generate: Generate | None = None
    generate_pair: GeneratePair | None = None
    digest: bool = False
    """The module carries it out; it is advertised here."""
    curve_flags: int = 0
    key_rule: KeyRule | None = None
    """What a policy asks of every key that is used."""
    legacy: bool = False
    """Offered only while a setting says so."""
    takes_long: bool = False
    """Milliseconds, not microseconds: not for an event loop."""
    proof: Evidence = Evidence.VECTORS

    @property
    def evidence(self) -> Evidence:
        """Return what shows that it is right; what only draws keys needs no row to say so."""
        drawing = Ckf.GENERATE | Ckf.GENERATE_KEY_PAIR
        drawn = self.proof is Evidence.VECTORS and self.parameter is no_parameter
        return Evidence.DRAWN if drawn and self.flags & drawing else self.proof

    @property
    def flags(self) -> int:
        """Return the flags of CK_MECHANISM_INFO, which follow from what is there."""
        abilities = (
            (self.sign, Ckf.SIGN),
            (self.verify, Ckf.VERIFY),
            (self.sign_recover, Ckf.SIGN_RECOVER),
            (self.verify_recover, Ckf.VERIFY_RECOVER),
            (self.encrypt, Ckf.ENCRYPT),
            (self.decrypt, Ckf.DECRYPT),
            (self.wrap, Ckf.WRAP),
            (self.unwrap, Ckf.UNWRAP),
            (self.derive, Ckf.DERIVE),
            (self.encapsulate, Ckf.ENCAPSULATE),
            (self.decapsulate, Ckf.DECAPSULATE),
            (self.generate, Ckf.GENERATE),
            (self.generate_pair, Ckf.GENERATE_KEY_PAIR),
            (self.digest or None, Ckf.DIGEST),
        )
        return self.curve_flags | sum(flag for ability, flag in abilities if ability is not None)
