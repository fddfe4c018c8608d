"""Turn an application's template into a new object, or refuse it with the standard's reason.

Invariant: an object that leaves this module has every attribute its schema promises, material that
has been checked, and no secret key that may be read without a login unless a policy allows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.material import complete_material
from conclave.crypto.standard import Cka, Ckk, Cko, name_of
from conclave.errors import Ckr
from conclave.keyring.attributes import (
    FALSE,
    TRUE,
    AttributeRow,
    Attributes,
    Kind,
    Rule,
    Schema,
    boolean,
    is_true,
    known,
    normalized,
    object_class,
    read_inner_template,
    schema_of,
    ulong,
)

Template = Iterable[tuple[int, bytes]]
"""What an application gives: pairs of attribute type and value, in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPolicy:
    """What a keyring allows beyond the strict default."""

    clear_token_keys: bool = False
    """Secret and private token keys may have CKA_PRIVATE false (rule C6)."""
    extractable_keys: bool = True
    """Secret and private keys may have CKA_EXTRACTABLE true."""
    security_officer: bool = False
    """The caller is the KRSO, who alone may trust a key."""


STRICT: Final = ObjectPolicy()
_GUARDED: Final = frozenset({Cko.PRIVATE_KEY, Cko.SECRET_KEY})


def read_template(template: Template) -> Attributes:
    """Return a template as a dictionary; raise for unknown attributes and contradictions."""
    fields: Attributes = {}
    for number, value in template:
        if not known(number):
            raise refused(Ckr.ATTRIBUTE_TYPE_INVALID, f"{name_of(Cka, number)} is not supported.")
        if fields.setdefault(number, value) != value:
            raise refused(
                Ckr.TEMPLATE_INCONSISTENT, f"{name_of(Cka, number)} is given twice and differs."
            )
    return fields


def joined_template(
    template: Template,
    number: Cka,
    makers: Iterable[Attributes],
    ckr: Ckr = Ckr.TEMPLATE_INCONSISTENT,
) -> Template:
    """Return a template with what the keys that make the new one say of it.

    `number` is CKA_UNWRAP_TEMPLATE or its like, `ckr` what a contradiction is.  Where the object
    lies is the caller's to say: he holds a reference to it, or does not.
    """
    joined = list(template)
    given = dict(joined)
    for maker in makers:
        for inside, value in read_inner_template(maker[number]) if number in maker else ():
            held = given.get(inside, FALSE if inside == Cka.TOKEN else value)
            if held != value:
                raise refused(
                    ckr, f"{name_of(Cka, inside)} contradicts the key's {name_of(Cka, number)}."
                )
            if inside not in given:
                given[inside] = value
                joined.append((inside, value))
    return joined


def build_object(template: Template, *, policy: ObjectPolicy = STRICT) -> Attributes:
    """Return the object that C_CreateObject makes of a template, its material checked once."""
    fields = read_template(template)
    schema = schema_of(fields)
    given = fit(schema, fields, forbidden=Rule.OWNED)
    for number in schema.needed:
        if number not in given:
            raise refused(Ckr.TEMPLATE_INCOMPLETE, f"{name_of(Cka, number)} is missing.")
    return _finish({**schema.defaults, **given}, policy)


def plan_key(
    template: Template,
    wanted_class: Cko,
    wanted_type: Ckk,
    *,
    policy: ObjectPolicy = STRICT,
) -> Attributes:
    """Return what a key to be generated will hold, without its material.

    Everything that can be refused is refused here, before a key is made.
    """
    fields = read_template(template)
    for number, wanted in ((Cka.CLASS, wanted_class), (Cka.KEY_TYPE, wanted_type)):
        if fields.setdefault(number, ulong(wanted)) != ulong(wanted):
            raise refused(
                Ckr.TEMPLATE_INCONSISTENT,
                f"The mechanism makes a {wanted.name}; {name_of(Cka, number)} says otherwise.",
            )
    schema = schema_of(fields)
    planned = {**schema.defaults, **fit(schema, fields, forbidden=Rule.OWNED | Rule.MATERIAL)}
    check_policy(planned, policy)
    return planned


def complete_key(planned: Attributes, material: Attributes, mechanism: int) -> Attributes:
    """Return a planned key with the material that `mechanism` made for it."""
    _require_agreement(planned, material)
    born: Attributes = {Cka.LOCAL: TRUE, Cka.KEY_GEN_MECHANISM: ulong(mechanism)}
    if Cka.SENSITIVE in planned:
        born[Cka.ALWAYS_SENSITIVE] = planned[Cka.SENSITIVE]
        born[Cka.NEVER_EXTRACTABLE] = boolean(value=planned[Cka.EXTRACTABLE] == FALSE)
    return _with_unique_id({**planned, **material, **born})


def plan_unwrapped_key(template: Template, *, policy: ObjectPolicy = STRICT) -> Attributes:
    """Return what a key to be unwrapped will hold, without its material.

    Unlike another key it is extractable by default, as the standard has it (C_UnwrapKey), if the
    policy lets it.
    """
    fields = read_template(template)
    schema = schema_of(fields)
    given = fit(schema, fields, forbidden=Rule.OWNED | Rule.MATERIAL)
    extractable = boolean(value=policy.extractable_keys)
    planned = {**schema.defaults, Cka.EXTRACTABLE: extractable, **given}
    if object_class(planned) not in _GUARDED:
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            f"Secret and private keys are unwrapped; {name_of(Cka, Cka.CLASS)} says otherwise.",
        )
    check_policy(planned, policy)
    return planned


def complete_unwrapped_key(planned: Attributes, material: Attributes) -> Attributes:
    """Return a planned key with the material that was unwrapped, checked once."""
    _require_agreement(planned, material)
    whole = {**planned, **material}
    return _with_unique_id({**whole, **complete_material(whole)})


def plan_derived(
    template: Template,
    wanted_class: Cko,
    protecting: Sequence[Attributes],
    *,
    policy: ObjectPolicy = STRICT,
) -> Attributes:
    """Return what a derived object will hold, without its value.

    It is as well protected as each of `protecting`.  For a data object CKA_VALUE_LEN is here too.
    """
    fields = read_template(template)
    if fields.setdefault(Cka.CLASS, ulong(wanted_class)) != ulong(wanted_class):
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            f"The mechanism makes a {wanted_class.name}; CKA_CLASS says otherwise.",
        )
    length: Attributes = {}
    if wanted_class == Cko.SECRET_KEY:
        fields.setdefault(Cka.KEY_TYPE, ulong(Ckk.GENERIC_SECRET))
    elif Cka.VALUE_LEN in fields:
        length[Cka.VALUE_LEN] = normalized(Kind.ULONG, Cka.VALUE_LEN, fields.pop(Cka.VALUE_LEN))
    if Cka.VALUE in fields:
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT, "Derivation makes CKA_VALUE; it must not be given."
        )
    schema = schema_of(fields)
    given = fit(schema, fields, forbidden=Rule.OWNED | Rule.MATERIAL)
    planned = {**schema.defaults, **_protected(given, protecting), **length}
    check_policy(planned, policy)
    return planned


def _protected(given: Attributes, protecting: Sequence[Attributes]) -> Attributes:
    kept = dict(given)
    for number, strict in ((Cka.SENSITIVE, TRUE), (Cka.EXTRACTABLE, FALSE)):
        guarded = any(source[number] == strict for source in protecting)
        if guarded and kept.setdefault(number, strict) != strict:
            raise refused(
                Ckr.TEMPLATE_INCONSISTENT,
                f"{name_of(Cka, number)} contradicts that of a key it is derived from.",
            )
    return kept


def complete_derived(
    planned: Attributes, value: bytes, sources: Sequence[Attributes]
) -> Attributes:
    """Return a planned object with its derived value, checked once."""
    if object_class(planned) == Cko.DATA:
        kept = {number: held for number, held in planned.items() if number != Cka.VALUE_LEN}
        return _with_unique_id({**kept, Cka.VALUE: value})
    whole = {**planned, Cka.VALUE: value}
    # PKCS #11: always so only if the keys it came from always were.
    for number, now, strict in (
        (Cka.ALWAYS_SENSITIVE, Cka.SENSITIVE, TRUE),
        (Cka.NEVER_EXTRACTABLE, Cka.EXTRACTABLE, FALSE),
    ):
        always = whole[now] == strict and all(is_true(source, number) for source in sources)
        whole[number] = boolean(value=always)
    return _with_unique_id({**whole, **complete_material(whole)})


def _require_agreement(planned: Attributes, material: Attributes) -> None:
    for number, value in material.items():
        if planned.get(number, value) != value:
            raise refused(
                Ckr.TEMPLATE_INCONSISTENT,
                f"{name_of(Cka, number)} contradicts the key that the mechanism makes.",
            )


def fit(schema: Schema, fields: Attributes, *, forbidden: Rule) -> Attributes:
    """Return fields in their one form; raise when one does not belong or is not the caller's."""
    fitted: Attributes = {}
    for number, value in fields.items():
        row = schema.rows.get(number)
        if row is None:
            raise refused(
                Ckr.ATTRIBUTE_TYPE_INVALID,
                f"{name_of(Cka, number)} does not belong to an object of this class and type.",
            )
        if row.rules & forbidden:
            raise _not_the_callers(row)
        fitted[number] = normalized(row.kind, number, value)
    return fitted


def check_policy(attributes: Attributes, policy: ObjectPolicy) -> None:
    """Raise when a new object must not exist in this form."""
    require_private(attributes, policy)
    require_trust(attributes, policy)
    require_kept(attributes, policy)
    if is_true(attributes, Cka.ALWAYS_AUTHENTICATE) and not is_true(attributes, Cka.PRIVATE):
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            "CKA_ALWAYS_AUTHENTICATE is true and CKA_PRIVATE false; nobody logs in for such a key.",
        )


def require_private(attributes: Attributes, policy: ObjectPolicy) -> None:
    """Raise when a secret or private key would be readable without a login (rule C6)."""
    guarded = object_class(attributes) in _GUARDED
    in_clear = guarded and is_true(attributes, Cka.TOKEN) and not is_true(attributes, Cka.PRIVATE)
    if in_clear and not policy.clear_token_keys:
        raise refused(
            Ckr.ATTRIBUTE_VALUE_INVALID,
            "CKA_PRIVATE must be true or absent for private and secret keys on the token; it is"
            " false.",
        )


def require_kept(attributes: Attributes, policy: ObjectPolicy) -> None:
    """Raise when a key would be extractable where none may be."""
    if is_true(attributes, Cka.EXTRACTABLE) and not policy.extractable_keys:
        raise refused(
            Ckr.ATTRIBUTE_VALUE_INVALID,
            "CKA_EXTRACTABLE must be false: by the cluster's policy no key leaves its keyring.",
        )


def require_trust(fields: Attributes, policy: ObjectPolicy) -> None:
    """Raise when somebody else than the KRSO sets CKA_TRUSTED to true."""
    if is_true(fields, Cka.TRUSTED) and not policy.security_officer:
        raise refused(Ckr.ATTRIBUTE_READ_ONLY, "Only the KRSO makes CKA_TRUSTED true.")


def renewed_unique_id(attributes: Attributes) -> Attributes:
    """Return a copy of an object under a CKA_UNIQUE_ID of its own."""
    return _with_unique_id(attributes)


def _finish(attributes: Attributes, policy: ObjectPolicy) -> Attributes:
    check_policy(attributes, policy)
    return _with_unique_id({**attributes, **complete_material(attributes)})


def _with_unique_id(attributes: Attributes) -> Attributes:
    # An empty check value means that the application wants none (PKCS #11, CKA_CHECK_VALUE).
    kept = {n: v for n, v in attributes.items() if v or n != Cka.CHECK_VALUE}
    return {**kept, Cka.UNIQUE_ID: str(uuid.uuid4()).encode()}


def _not_the_callers(row: AttributeRow) -> Exception:
    if row.rules & Rule.OWNED:
        return refused(Ckr.ATTRIBUTE_READ_ONLY, f"Only the token sets {name_of(Cka, row.number)}.")
    return refused(
        Ckr.TEMPLATE_INCONSISTENT,
        f"Generation makes {name_of(Cka, row.number)}; it must not be given.",
    )
