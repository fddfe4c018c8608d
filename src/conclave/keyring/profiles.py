"""The OASIS profiles that Conclave conforms to, and the objects that say so in every keyring.

Invariant: a profile has a row only while tests/native/test_module_profiles.py proves each of its
conditions through the module, and an object only while a member's policy leaves the mechanisms of
the row what they are there for.

Rows that are missing on purpose: a Public Certificates Token promises that every certificate is
public and shares its CKA_ID with its key, which is up to whoever makes the objects; a Complete
Provider has every mechanism of the standard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from conclave.crypto.standard import Cka, Ckf, Ckm, Cko, Ckp
from conclave.ids import ObjectId
from conclave.keyring.attributes import FALSE, TRUE, Attributes, schema_of, ulong

_ID_HEAD: Final = b"profile\0"
_ID_TAIL_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One profile, and what its conditions or mandatory test cases want of which mechanisms."""

    profile: Ckp
    name: str
    mechanisms: Mapping[Ckm, Ckf] = field(default_factory=dict)


PROFILES: Final = (
    ProfileRow(Ckp.BASELINE_PROVIDER, "Baseline Provider"),
    ProfileRow(
        Ckp.EXTENDED_PROVIDER,
        "Extended Provider",
        {
            Ckm.RSA_PKCS_KEY_PAIR_GEN: Ckf.GENERATE_KEY_PAIR,
            Ckm.RSA_PKCS: Ckf.ENCRYPT | Ckf.DECRYPT | Ckf.SIGN | Ckf.VERIFY | Ckf.WRAP | Ckf.UNWRAP,
        },
    ),
    ProfileRow(
        Ckp.AUTHENTICATION_TOKEN,
        "Authentication Token",
        {
            Ckm.RSA_PKCS_KEY_PAIR_GEN: Ckf.GENERATE_KEY_PAIR,
            Ckm.SHA256_RSA_PKCS: Ckf.SIGN | Ckf.VERIFY,
        },
    ),
    ProfileRow(Ckp.HKDF_TLS_TOKEN, "HKDF TLS Token", {Ckm.HKDF_DATA: Ckf.DERIVE}),
)


def profile_objects(mechanisms: Mapping[int, int]) -> dict[ObjectId, Attributes]:
    """Return the profile objects of every keyring on a member, by what its mechanisms are for."""
    return {
        _object_id(row): _attributes(row)
        for row in PROFILES
        if all(mechanisms.get(each, 0) & flags == flags for each, flags in row.mechanisms.items())
    }


def asks_for_profiles(terms: Attributes) -> bool:
    """Tell whether a search may find profile objects: only one that names them does."""
    return Cka.PROFILE_ID in terms or terms.get(Cka.CLASS) == ulong(Cko.PROFILE)


def _object_id(row: ProfileRow) -> ObjectId:
    """Return an id that no random one of a stored object is."""
    return ObjectId(_ID_HEAD + row.profile.to_bytes(_ID_TAIL_BYTES, "big"))


def _attributes(row: ProfileRow) -> Attributes:
    named = {
        int(Cka.CLASS): ulong(Cko.PROFILE),
        int(Cka.PROFILE_ID): ulong(row.profile),
        int(Cka.UNIQUE_ID): f"profile-{row.profile}".encode(),
        int(Cka.LABEL): row.name.encode(),
        int(Cka.TOKEN): TRUE,
        **{int(number): FALSE for number in (Cka.MODIFIABLE, Cka.COPYABLE, Cka.DESTROYABLE)},
    }
    return {**schema_of(named).defaults, **named}
