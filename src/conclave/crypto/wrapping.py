"""Wrap and unwrap keys: which key may leave under which, and what comes back.

Invariant: a key leaves only while its CKA_EXTRACTABLE is true, one that asks for a trusted
wrapping key (CKA_WRAP_WITH_TRUSTED) only under such a one, and under a key with a
CKA_WRAP_TEMPLATE only what matches that.  What is unwrapped has what CKA_UNWRAP_TEMPLATE says.
Plain key bytes exist in here alone; no error quotes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.mechanisms import MECHANISMS, Parameter, Rows, admit, cannot, load_key
from conclave.crypto.private_key_info import read_private_key, write_private_key
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cka, Ckf, Ckm, Cko, name_of
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import (
    Attributes,
    is_true,
    object_class,
    read_inner_template,
)
from conclave.keyring.objects import matches
from conclave.keyring.templates import (
    STRICT,
    ObjectPolicy,
    Template,
    complete_unwrapped_key,
    joined_template,
    plan_unwrapped_key,
)

_WRAP: Final = int(Ckf.WRAP)
_UNWRAP: Final = int(Ckf.UNWRAP)
_OF_WRAPPING: Final = {
    Ckr.KEY_TYPE_INCONSISTENT: Ckr.WRAPPING_KEY_TYPE_INCONSISTENT,
    Ckr.DATA_LEN_RANGE: Ckr.KEY_SIZE_RANGE,
}
_OF_UNWRAPPING: Final = {
    Ckr.KEY_TYPE_INCONSISTENT: Ckr.UNWRAPPING_KEY_TYPE_INCONSISTENT,
    Ckr.ENCRYPTED_DATA_INVALID: Ckr.WRAPPED_KEY_INVALID,
    Ckr.ENCRYPTED_DATA_LEN_RANGE: Ckr.WRAPPED_KEY_LEN_RANGE,
}
_OF_MATERIAL: Final = {Ckr.ATTRIBUTE_VALUE_INVALID: Ckr.WRAPPED_KEY_INVALID}


def wrap_key(
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    target: Attributes,
    *,
    wrapping: Attributes,
    policy: ObjectPolicy = STRICT,
    rows: Rows = MECHANISMS,
) -> bytes:
    """Return `target` wrapped under `key`, whose attributes are `wrapping`, if it may be."""
    row = rows.get(mechanism)
    if row is None or row.wrap is None:
        raise cannot(mechanism, "wrap keys")
    with _renamed(_OF_WRAPPING):
        admit(row, key, _WRAP)
        _require_may_leave(target, wrapping, policy)
        if object_class(target) == Cko.PRIVATE_KEY and not row.wraps_private_keys:
            raise refused(
                Ckr.KEY_NOT_WRAPPABLE, f"{name_of(Ckm, mechanism)} wraps secret keys only."
            )
        return row.wrap(key, row.parameter(bytes(parameter)), _plain(target))


def unwrap_key(  # noqa: PLR0917 - the shape of UNWRAP_KEY on the wire
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    wrapped: bytes,
    template: Template,
    policy: ObjectPolicy = STRICT,
    *,
    unwrapping: Attributes,
    rows: Rows = MECHANISMS,
) -> Attributes:
    """Return the key that was wrapped, as the template and the key's own one want it."""
    row = rows.get(mechanism)
    if row is None or row.unwrap is None:
        raise cannot(mechanism, "unwrap keys")
    joined = joined_template(template, Cka.UNWRAP_TEMPLATE, [unwrapping])
    planned = plan_unwrapped_key(joined, policy=policy)
    if object_class(planned) == Cko.PRIVATE_KEY and not row.wraps_private_keys:
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT, f"{name_of(Ckm, mechanism)} unwraps secret keys only."
        )
    with _renamed(_OF_UNWRAPPING):
        admit(row, key, _UNWRAP)
        plain = row.unwrap(key, row.parameter(bytes(parameter)), wrapped)
    with _renamed(_OF_MATERIAL):
        return complete_unwrapped_key(planned, _material(planned, plain))


def _require_may_leave(target: Attributes, wrapping: Attributes, policy: ObjectPolicy) -> None:
    if object_class(target) == Cko.PUBLIC_KEY:
        raise refused(Ckr.KEY_NOT_WRAPPABLE, "A public key is read, not wrapped.")
    if not is_true(target, Cka.EXTRACTABLE):
        raise refused(Ckr.KEY_UNEXTRACTABLE, "CKA_EXTRACTABLE of the key is false.")
    if not policy.extractable_keys:
        raise refused(Ckr.KEY_UNEXTRACTABLE, "By the cluster's policy no key leaves its keyring.")
    if is_true(target, Cka.WRAP_WITH_TRUSTED) and not is_true(wrapping, Cka.TRUSTED):
        raise refused(
            Ckr.KEY_NOT_WRAPPABLE,
            "The key has CKA_WRAP_WITH_TRUSTED true; CKA_TRUSTED of the wrapping key is not.",
        )
    wanted = wrapping.get(Cka.WRAP_TEMPLATE)
    if wanted is not None and not matches(target, dict(read_inner_template(wanted))):
        # PKCS #11, C_WrapKey: "If any attribute mismatch occurs [...] the function SHALL return".
        raise refused(
            Ckr.KEY_HANDLE_INVALID, "The key does not match the wrapping key's CKA_WRAP_TEMPLATE."
        )


def _plain(target: Attributes) -> bytes:
    if object_class(target) == Cko.SECRET_KEY:
        return target[Cka.VALUE]
    return write_private_key(load_key(target))


def _material(planned: Attributes, plain: bytes) -> Attributes:
    if object_class(planned) == Cko.SECRET_KEY:
        return {Cka.VALUE: plain}
    material = read_private_key(plain)
    if material[Cka.KEY_TYPE] != planned[Cka.KEY_TYPE]:
        raise refused(
            Ckr.WRAPPED_KEY_INVALID, "What was wrapped has another CKA_KEY_TYPE than the template."
        )
    return material


@contextmanager
def _renamed(names: dict[Ckr, Ckr]) -> Iterator[None]:
    """Give refusals the names that the standard has for them in wrapping and unwrapping."""
    try:
        yield
    except ConclaveError as error:
        other = names.get(error.fault.ckr)
        if other is None:
            raise
        raise refused(other, error.message) from None
