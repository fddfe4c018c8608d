"""What a cluster's policy leaves of the mechanism table.

The rules are worked into the rows once, when a worker starts: a use without a rule costs nothing,
and C_GetMechanismList and C_GetMechanismInfo tell what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from conclave.crypto.curves import MONTGOMERY, curve_of
from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES, MASKS, SHA1
from conclave.crypto.material import RSA_MIN_BITS
from conclave.crypto.mechanism_row import GeneratePair, KeyRule, Mechanism
from conclave.crypto.parameters import PssChoice
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, read_ulong

Check = Callable[[ReadyKey, Any, bytes], None]
"""Key, decoded parameter, data; raises when the policy forbids the use of such data."""
PairCheck = Callable[[Attributes], None]
"""Both templates in one; raises when the policy forbids such a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismPolicy:
    """What a cluster forbids; without rules, only what is there for legacy."""

    fips: bool = False
    """Only what FIPS 140-3 approves; SHA-1 signs nothing."""
    sha1_signatures: bool = True
    min_rsa_bits: int = RSA_MIN_BITS
    min_curve_bits: int = 0
    legacy: bool = False
    """Mechanisms for what exists are there as well."""


_NOT_APPROVED: Final = frozenset(
    {
        Ckm.RSA_X_509,
        Ckm.EC_MONTGOMERY_KEY_PAIR_GEN,
        Ckm.CHACHA20_KEY_GEN,
        Ckm.CHACHA20_POLY1305,
        # A bare hash of a key is none of the derivations of SP 800-56C, -108 and -133.
        *(row.key_derivation for row in HASHES),
        Ckm.SHAKE_128_KEY_DERIVATION,
        Ckm.SHAKE_256_KEY_DERIVATION,
    }
)
_SMALLEST_MONTGOMERY_BITS: Final = min(row.bits for row in MONTGOMERY)
_APPROVED_CURVES: Final = frozenset({"secp224r1", "secp256r1", "secp384r1", "secp521r1"})
_SHA1_SIGNATURES: Final = frozenset(
    {SHA1.rsa_pkcs, SHA1.ecdsa, *(row.rsa_pss for row in MASKS if row.hash_row is SHA1)}
)
_SHA1_DIGEST_INFO: Final = bytes.fromhex("3021300906052b0e03021a05000414")


def governed(rows: Mapping[int, Mechanism], policy: MechanismPolicy) -> dict[int, Mechanism]:
    """Return the rows that a policy leaves, without what it forbids of each."""
    kept = {}
    for number, row in rows.items():
        if row.legacy and not policy.legacy:
            continue
        if policy.fips and row.number in _NOT_APPROVED:
            continue
        left = _sized(_signing(row, policy), policy)
        if left.flags & ~left.curve_flags:
            kept[number] = left
    return kept


def _signing(row: Mechanism, policy: MechanismPolicy) -> Mechanism:
    if policy.fips and row.number == Ckm.RSA_PKCS:
        # SP 800-131A: PKCS #1 v1.5 protects no new keys and data; what exists is read.
        row = replace(row, encrypt=None, wrap=None)
    if policy.sha1_signatures and not policy.fips:
        return row
    if row.number in _SHA1_SIGNATURES:
        return replace(row, sign=None)
    if row.number == Ckm.RSA_PKCS_PSS:
        return _checked(row, _no_sha1_pss, "sign")
    if row.number == Ckm.RSA_PKCS:
        return _checked(row, _no_sha1_digest_info, "sign", "sign_recover")
    return row


def _sized(row: Mechanism, policy: MechanismPolicy) -> Mechanism:
    if row.key_types == (Ckk.RSA,) and policy.min_rsa_bits > row.min_key_size:
        lowest = policy.min_rsa_bits
        return _pairs_checked(
            replace(row, key_rule=_at_least(lowest), min_key_size=lowest),
            _modulus_of(lowest),
        )
    if Ckk.EC not in row.key_types:
        return row
    if policy.min_curve_bits > row.min_key_size:
        lowest = policy.min_curve_bits
        smallest = lowest if row.key_types == (Ckk.EC,) else min(lowest, _SMALLEST_MONTGOMERY_BITS)
        row = _pairs_checked(
            replace(row, key_rule=_curve_at_least(lowest), min_key_size=smallest),
            _curve_of_at_least(lowest),
        )
    if policy.fips:
        row = _pairs_checked(replace(row, key_rule=_both(row.key_rule)), _approved_params)
    return row


def _both(first: KeyRule | None) -> KeyRule:
    def rule(key: ReadyKey) -> None:
        if first is not None:
            first(key)
        _approved_curve(key)

    return rule


def _checked(row: Mechanism, check: Check, *uses: str) -> Mechanism:
    """Return a row whose uses are preceded by a check."""
    changes: dict[str, Any] = {}
    for use in uses:
        function = getattr(row, use)
        if function is not None:
            changes[use] = _after(check, function)
    return replace(row, **changes)


def _after(check: Check, function: Callable[..., Any]) -> Callable[..., Any]:
    def use(key: ReadyKey, parameter: Any, data: bytes, *more: Any) -> Any:
        check(key, parameter, data)
        return function(key, parameter, data, *more)

    return use


def _pairs_checked(row: Mechanism, check: PairCheck) -> Mechanism:
    generate = row.generate_pair
    return row if generate is None else replace(row, generate_pair=_pair_after(check, generate))


def _pair_after(check: PairCheck, generate: GeneratePair) -> GeneratePair:
    def generate_pair(public: Attributes, private: Attributes) -> tuple[Attributes, Attributes]:
        check({**private, **public})
        return generate(public, private)

    return generate_pair


# ------------------------------------------------------------------ rules


def _too_small(bits: int, lowest: int) -> Exception:
    return refused(
        Ckr.KEY_SIZE_RANGE,
        f"The cluster's policy asks for keys of at least {lowest} bits; this has {bits}.",
    )


def _at_least(lowest: int) -> KeyRule:
    def check(key: ReadyKey) -> None:
        if key.size_bits < lowest:
            raise _too_small(key.size_bits, lowest)

    return check


def _curve_at_least(lowest: int) -> KeyRule:
    def check(key: ReadyKey) -> None:
        if key.key_type == Ckk.EC and key.size_bits < lowest:
            raise _too_small(key.size_bits, lowest)

    return check


def _modulus_of(lowest: int) -> PairCheck:
    def check(both: Attributes) -> None:
        if Cka.MODULUS_BITS in both and read_ulong(both[Cka.MODULUS_BITS]) < lowest:
            raise _too_small(read_ulong(both[Cka.MODULUS_BITS]), lowest)

    return check


def _curve_of_at_least(lowest: int) -> PairCheck:
    def check(both: Attributes) -> None:
        if Cka.EC_PARAMS in both and curve_of(both[Cka.EC_PARAMS]).order_bits < lowest:
            raise _too_small(curve_of(both[Cka.EC_PARAMS]).order_bits, lowest)

    return check


def _not_approved(curve: str) -> Exception:
    return refused(
        Ckr.CURVE_NOT_SUPPORTED,
        f"The cluster's policy admits P-224, P-256, P-384 and P-521 only, not {curve}.",
    )


def _approved_curve(key: ReadyKey) -> None:
    name = key.handle.curve.name if key.key_type == Ckk.EC else "X25519 or X448"
    if name not in _APPROVED_CURVES:
        raise _not_approved(name)


def _approved_params(both: Attributes) -> None:
    if Cka.EC_PARAMS in both:
        row = curve_of(both[Cka.EC_PARAMS])
        if row.curve.name not in _APPROVED_CURVES:
            raise _not_approved(row.name)


def _no_sha1(what: str) -> Exception:
    return refused(
        Ckr.MECHANISM_PARAM_INVALID, f"The cluster's policy signs nothing with SHA-1; {what}."
    )


def _no_sha1_pss(_key: ReadyKey, choice: PssChoice, _data: bytes) -> None:
    if choice.hash_row is SHA1:
        raise _no_sha1("the parameter names it")


def _no_sha1_digest_info(_key: ReadyKey, _parameter: None, data: bytes) -> None:
    if data.startswith(_SHA1_DIGEST_INFO):
        raise refused(
            Ckr.DATA_INVALID, "The cluster's policy signs nothing with SHA-1; this DigestInfo is."
        )
