"""Read, match, change and copy objects by the standard's rules.

Invariant: the value of a secret attribute leaves an object only while its CKA_SENSITIVE is false
and its CKA_EXTRACTABLE true, and neither attribute ever goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.ready_key import is_key, key_size_bits, usage_of
from conclave.crypto.standard import Cka, name_of
from conclave.errors import Ckr
from conclave.keyring.attributes import (
    EVER_SECRET,
    FALSE,
    TRUE,
    AttributeRow,
    Attributes,
    Kind,
    Rule,
    is_true,
    key_type,
    kinds,
    object_class,
    schema_of,
)
from conclave.keyring.templates import (
    STRICT,
    ObjectPolicy,
    Template,
    fit,
    read_template,
    renewed_unique_id,
    require_kept,
    require_private,
    require_trust,
)
from conclave.service.wire import KeyInfo

AttributeAnswer = tuple[int, int, bytes | None]
"""Attribute type, CK_RV, value."""

_OK: Final = int(Ckr.OK)
_SENSITIVE: Final = int(Ckr.ATTRIBUTE_SENSITIVE)
_NO_SUCH: Final = int(Ckr.ATTRIBUTE_TYPE_INVALID)


def is_private(attributes: Attributes) -> bool:
    """Return whether an object may be seen by logged-in callers only."""
    return is_true(attributes, Cka.PRIVATE)


def is_token(attributes: Attributes) -> bool:
    """Return whether an object lives in the keyring, not in a session."""
    return is_true(attributes, Cka.TOKEN)


def hidden(attributes: Attributes, policy: ObjectPolicy = STRICT) -> frozenset[int]:
    """Return the attribute types whose values must not leave the object."""
    secret = schema_of(attributes).secret
    leaves = policy.extractable_keys and is_true(attributes, Cka.EXTRACTABLE)
    if secret and (is_true(attributes, Cka.SENSITIVE) or not leaves):
        return secret
    return frozenset()


def readable(
    attributes: Attributes, types: list[int], policy: ObjectPolicy = STRICT
) -> list[AttributeAnswer]:
    """Answer C_GetAttributeValue: for each type its value, or why there is none."""
    concealed = hidden(attributes, policy)
    return [_answer(attributes, concealed, number) for number in types]


def described(attributes: Attributes, policy: ObjectPolicy = STRICT) -> list[AttributeAnswer]:
    """Answer C_GetAttributeValue for all that an object can have, but for secrets that it shows."""
    schema, concealed = schema_of(attributes), hidden(attributes, policy)
    return [
        _answer(attributes, concealed, number)
        for number in schema.rows
        if number in concealed or number not in schema.secret
    ]


def disclosed(attributes: Attributes, policy: ObjectPolicy = STRICT) -> list[tuple[int, bytes]]:
    """Return every attribute that a caller may read."""
    concealed = hidden(attributes, policy)
    return [pair for pair in attributes.items() if pair[0] not in concealed]


def _answer(attributes: Attributes, concealed: frozenset[int], number: int) -> AttributeAnswer:
    if number in concealed:
        return number, _SENSITIVE, None
    value = attributes.get(number)
    return (number, _NO_SUCH, None) if value is None else (number, _OK, value)


def search_terms(template: Template) -> Attributes:
    """Return a search template in the form that `matches` compares; unknown types match nothing."""
    return {
        number: value.lstrip(b"\0") if kinds(number) == {Kind.BIG_INTEGER} else value
        for number, value in template
    }


def matches(attributes: Attributes, terms: Attributes, policy: ObjectPolicy = STRICT) -> bool:
    """Return whether an object has every attribute of `terms` (from `search_terms`).

    A hidden attribute never matches: guessing would reveal it.
    """
    for number, value in terms.items():
        if number in EVER_SECRET and number in hidden(attributes, policy):
            return False
        if attributes.get(number) != value:
            return False
    return True


def key_info(attributes: Attributes, refusals: Sequence[tuple[int, int, int]] = ()) -> KeyInfo:
    """Return what a module must know of a key; raise CKR_KEY_HANDLE_INVALID for other objects."""
    if not is_key(attributes):
        raise refused(
            Ckr.KEY_HANDLE_INVALID, "The object is a certificate or data; a key is needed."
        )
    return KeyInfo(
        object_class=object_class(attributes),
        key_type=key_type(attributes),
        size_bits=key_size_bits(attributes),
        usage=usage_of(attributes),
        private=is_private(attributes),
        always_authenticate=is_true(attributes, Cka.ALWAYS_AUTHENTICATE),
        refusals=list(refusals),
    )


def object_size(attributes: Attributes) -> int:
    """Return the bytes that an object's values take: C_GetObjectSize."""
    return sum(map(len, attributes.values()))


def apply_changes(
    attributes: Attributes, template: Template, *, policy: ObjectPolicy = STRICT
) -> Attributes:
    """Return an object as C_SetAttributeValue leaves it; nothing changes when it is refused."""
    if not is_true(attributes, Cka.MODIFIABLE):
        raise refused(Ckr.ACTION_PROHIBITED, "CKA_MODIFIABLE is false; the object never changes.")
    return _changed(attributes, template, Rule.MODIFIABLE, policy)


def copy_attributes(
    attributes: Attributes, template: Template, *, policy: ObjectPolicy = STRICT
) -> Attributes:
    """Return the object that C_CopyObject makes, with a CKA_UNIQUE_ID of its own."""
    if not is_true(attributes, Cka.COPYABLE):
        raise refused(Ckr.ACTION_PROHIBITED, "CKA_COPYABLE is false; the object is not copied.")
    copy = _changed(attributes, template, Rule.MODIFIABLE | Rule.COPY, policy)
    if is_private(attributes) and not is_private(copy):
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            "A copy of a private object is private; CKA_PRIVATE is false.",
        )
    require_private(copy, policy)
    require_kept(copy, policy)
    return renewed_unique_id(copy)


def require_destroyable(attributes: Attributes) -> None:
    """Raise CKR_ACTION_PROHIBITED when CKA_DESTROYABLE is false."""
    if not is_true(attributes, Cka.DESTROYABLE):
        raise refused(Ckr.ACTION_PROHIBITED, "CKA_DESTROYABLE is false; the object stays.")


def _changed(
    attributes: Attributes, template: Template, permitting: Rule, policy: ObjectPolicy
) -> Attributes:
    schema = schema_of(attributes)
    changes = fit(schema, read_template(template), forbidden=Rule.OWNED)
    for number, value in changes.items():
        _require_change(schema.rows[number], attributes.get(number), value, permitting)
    require_trust(changes, policy)
    return {**attributes, **changes}


def _require_change(row: AttributeRow, old: bytes | None, new: bytes, permitting: Rule) -> None:
    name = name_of(Cka, row.number)
    if not row.rules & permitting:
        raise refused(Ckr.ATTRIBUTE_READ_ONLY, f"{name} is fixed when the object is created.")
    if row.rules & Rule.ONLY_UP and old == TRUE and new == FALSE:
        raise refused(Ckr.ATTRIBUTE_READ_ONLY, f"{name} stays true once it is true.")
    if row.rules & Rule.ONLY_DOWN and old == FALSE and new == TRUE:
        raise refused(Ckr.ATTRIBUTE_READ_ONLY, f"{name} stays false once it is false.")
