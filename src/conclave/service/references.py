"""From a reference on the wire to an object: ids of token objects, blobs of session objects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.crypto.seal import SealBroken
from conclave.errors import CredentialRefused, NotFound
from conclave.ids import ObjectId
from conclave.keyring.attributes import Attributes, decode_attributes, encode_attributes
from conclave.keyring.objects import disclosed, is_private
from conclave.service.cache import KeyringView, ObjectEntry, Session, object_not_found
from conclave.service.core import Core
from conclave.service.requests import Caller, WrongRole
from conclave.service.session_objects import (
    KIND_PRIVATE,
    Holder,
    SessionSeal,
    public_session_seal,
)
from conclave.service.wire import OBJECT_ID_BYTES, ObjectResult

MAX_OPEN_BLOBS: Final = 256
_PRIVATE_HEAD: Final = bytes([KIND_PRIVATE])


@dataclass(slots=True, repr=False)
class Access:
    """Who asks (`caller`, with the proven `session` of a ticket, if any) for what (`view`)."""

    core: Core
    caller: Caller
    view: KeyringView
    session: Session | None


def resolve(access: Access, reference: bytes) -> ObjectEntry:
    """Return the object that a reference names, if the caller may see it.

    Raises NotFound, or CredentialRefused when somebody who is not logged in asks for what a login
    might let him see.
    """
    try:
        if len(reference) == OBJECT_ID_BYTES:
            object_id = ObjectId(reference)
            profile = access.core.profiles.get(object_id)
            return profile or access.view.entry(object_id, access.session)
        if reference[:1] == _PRIVATE_HEAD:
            return _private_session_object(access.session, reference)
        return _public_session_object(access, reference)
    except (NotFound, SealBroken) as error:
        if access.session is None:
            message = "There is no such public object, and nobody is logged in."
            raise CredentialRefused(faults.NOT_LOGGED_IN, message) from error
        if isinstance(error, NotFound):
            raise
        raise object_not_found(reference) from error


def _private_session_object(session: Session | None, blob: bytes) -> ObjectEntry:
    if session is None or session.objects is None:
        raise object_not_found(blob)
    entry = session.blobs.get(blob)
    return entry if entry is not None else _open(session.objects, session.blobs, blob)


def _public_session_object(access: Access, blob: bytes) -> ObjectEntry:
    opened = access.caller.public_blobs
    entry = opened.get(blob)
    return entry if entry is not None else _open(public_seal(access), opened, blob)


def _open(seal: SessionSeal, opened: dict[bytes, ObjectEntry], blob: bytes) -> ObjectEntry:
    object_id, plain = seal.unseal(blob)
    entry = ObjectEntry(object_id, decode_attributes(plain), b"")
    if len(opened) >= MAX_OPEN_BLOBS:
        del opened[next(iter(opened))]
    opened[blob] = entry
    return entry


def public_seal(access: Access) -> SessionSeal:
    """Return the seal of the public session objects of the caller's process."""
    caller, keyring_id = access.caller, access.view.keyring_id
    seal = caller.public_seals.get(keyring_id)
    if seal is None:
        keys = access.core.require_serving()
        holder = Holder(keys.cluster_id, keyring_id, caller.client_id)
        seal = public_session_seal(keys.public_key, holder, caller.process_id)
        if len(caller.public_seals) >= MAX_OPEN_BLOBS:
            del caller.public_seals[next(iter(caller.public_seals))]
        caller.public_seals[keyring_id] = seal
    return seal


def session_object(
    access: Access, attributes: Attributes, object_id: ObjectId | None = None
) -> ObjectResult:
    """Seal attributes as a session object, under its old id or a new one."""
    private = is_private(attributes)
    if private:
        seal = access.session.objects if access.session is not None else None
        if seal is None:
            message = "A private object needs the KRCO's login."
            if access.session is not None:
                raise WrongRole(message)
            raise CredentialRefused(faults.NOT_LOGGED_IN, message)
    else:
        seal = public_seal(access)
    name = object_id or ObjectId(os.urandom(OBJECT_ID_BYTES))
    blob = seal.seal(name, encode_attributes(attributes))
    return ObjectResult(blob, private, disclosed(attributes, access.core.object_policy))
