"""Find and read objects."""

from __future__ import annotations

from conclave.crypto.ready_key import is_key
from conclave.crypto.refusals import refusals
from conclave.crypto.standard import Cka
from conclave.errors import CredentialRefused, NotFound
from conclave.keyring.attributes import EVER_SECRET, Attributes, key_type
from conclave.keyring.objects import (
    AttributeAnswer,
    described,
    key_info,
    matches,
    object_size,
    readable,
    search_terms,
)
from conclave.service.cache import ObjectEntry, Session
from conclave.service.core import Core, first_password
from conclave.service.references import Access, resolve
from conclave.service.requests import Caller, args_decoder, bad_argument, check_template
from conclave.service.wire import (
    MAX_FIND_RESULTS,
    MAX_TEMPLATE_ATTRIBUTES,
    MAX_TOLD_BYTES,
    MAX_TOLD_OBJECT_BYTES,
    MAX_TOLD_OBJECTS,
    OBJECT_ID_BYTES,
    Find,
    GetAttributes,
    KeyInfo,
    ObjectReference,
    Request,
)

_decode_find = args_decoder(Find)
_decode_get = args_decoder(GetAttributes)
_decode_reference = args_decoder(ObjectReference)


def reading(core: Core, caller: Caller, request: Request, keyring_id: bytes) -> Access:
    """Return what the caller may read: public objects at least, but nothing on a first password."""
    view = core.view(keyring_id)
    session = core.session(view, request.ticket, caller.client_id)
    _refuse_first_password(session)
    return Access(core, caller, view, session)


def _refuse_first_password(session: Session | None) -> None:
    if session is not None and session.unlocked is None:
        raise first_password()


def find(
    core: Core, caller: Caller, request: Request
) -> list[bytes] | list[tuple[bytes, list[AttributeAnswer]]]:
    """Return the ids of the token objects that match a template, or tell of some."""
    args: Find = _decode_find(request.args)
    check_template(args.template)
    access = reading(core, caller, request, args.keyring_id)
    if args.told:
        return _told(access, args.told)
    if args.limit < 0:
        raise bad_argument(f"Limit must be 0 (no limit) or more, not {args.limit}.")
    limit = min(args.limit or MAX_FIND_RESULTS, MAX_FIND_RESULTS)
    terms = search_terms(args.template)
    found = access.view.find(terms, access.session)
    if not core.object_policy.extractable_keys and not EVER_SECRET.isdisjoint(terms):
        found = [name for name in found if _shows(access, name, terms)]
    found += core.profiles.find(terms)
    return found[:limit]  # type: ignore[return-value]


def _told(access: Access, names: list[bytes]) -> list[tuple[bytes, list[AttributeAnswer]]]:
    """Return attributes of objects, without those that are absent, not to be seen, or large."""
    if len(names) > MAX_TOLD_OBJECTS or any(len(name) != OBJECT_ID_BYTES for name in names):
        raise bad_argument(f"At most {MAX_TOLD_OBJECTS} token objects are told of at once.")
    told, room = [], MAX_TOLD_BYTES
    for name in names:
        try:
            attributes = resolve(access, name).attributes
        except (NotFound, CredentialRefused):
            continue
        size = object_size(attributes)
        if size <= min(room, MAX_TOLD_OBJECT_BYTES):
            room -= size
            told.append((name, described(attributes, access.core.object_policy)))
    return told


def _shows(access: Access, name: bytes, terms: Attributes) -> bool:
    """Return whether the policy lets an object be found by what is secret in it."""
    return matches(resolve(access, name).attributes, terms, access.core.object_policy)


def get_attributes(core: Core, caller: Caller, request: Request) -> list[AttributeAnswer]:
    """Return attributes of an object, each with the reason if it has no value."""
    args: GetAttributes = _decode_get(request.args)
    if len(args.types) > MAX_TEMPLATE_ATTRIBUTES:
        raise bad_argument(f"At most {MAX_TEMPLATE_ATTRIBUTES} attributes may be asked for.")
    access = reading(core, caller, request, args.keyring_id)
    attributes = resolve(access, args.reference).attributes
    return readable(attributes, args.types, core.object_policy)


def get_size(core: Core, caller: Caller, request: Request) -> int:
    """Return the bytes that an object's values take."""
    return object_size(_named(core, caller, request).attributes)


def get_key_info(core: Core, caller: Caller, request: Request) -> KeyInfo:
    """Return what a module must know before it works with a key."""
    entry = _named(core, caller, request)
    attributes = entry.attributes
    if not attributes.get(Cka.ALLOWED_MECHANISMS) and (
        not is_key(attributes) or key_type(attributes) not in core.restricted
    ):
        return key_info(attributes)
    return key_info(attributes, refusals(entry.ready_key(), core.rows))


def _named(core: Core, caller: Caller, request: Request) -> ObjectEntry:
    args: ObjectReference = _decode_reference(request.args)
    return resolve(reading(core, caller, request, args.keyring_id), args.reference)
