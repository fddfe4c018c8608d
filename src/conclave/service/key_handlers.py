"""SIGN, VERIFY, ENCRYPT, DECRYPT and their like: the straight line that all else is laid out for.

Invariant: a private key works only under a proven ticket of the KRCO.  `Session.ready` holds keys
that passed that test under the view's present generation, so a hit there needs no further one.
"""

from __future__ import annotations

from collections.abc import Callable

from conclave.crypto import mechanisms
from conclave.crypto.faults import refused
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cko
from conclave.errors import Ckr, ConclaveError, NotFound
from conclave.service.cache import KeyringView
from conclave.service.core import Core, first_password
from conclave.service.meters import Use, now_ns
from conclave.service.references import Access, resolve
from conclave.service.requests import Caller, args_decoder
from conclave.service.wire import Request, UseKey, VerifySignature

MAX_READY: int = 4096

_decode_use = args_decoder(UseKey)
_decode_verify = args_decoder(VerifySignature)
_sign = mechanisms.sign
_verify = mechanisms.verify
_encrypt = mechanisms.encrypt
_decrypt = mechanisms.decrypt
_SIGN, _VERIFY, _ENCRYPT, _DECRYPT = Use.SIGN, Use.VERIFY, Use.ENCRYPT, Use.DECRYPT


def sign(core: Core, caller: Caller, request: Request) -> bytes:
    """Sign data, or a digest."""
    args = _decode_use(request.args)
    key = _key(core, caller, core.view(args.keyring_id), request.ticket, args.reference)
    started = now_ns()
    try:
        signature = _sign(args.mechanism, args.parameter, key, args.data, args.prehashed, core.rows)
    except ConclaveError:
        core.meters.failed(_SIGN, args.mechanism)
        raise
    core.meters.done(_SIGN, args.mechanism, started)
    return signature


def verify(core: Core, caller: Caller, request: Request) -> None:
    """Raise unless a signature is right."""
    args = _decode_verify(request.args)
    key = _key(core, caller, core.view(args.keyring_id), request.ticket, args.reference)
    started = now_ns()
    try:
        _verify(
            args.mechanism,
            args.parameter,
            key,
            args.data,
            args.signature,
            args.prehashed,
            core.rows,
        )
    except ConclaveError:
        core.meters.failed(_VERIFY, args.mechanism)
        raise
    core.meters.done(_VERIFY, args.mechanism, started)


def encrypt(core: Core, caller: Caller, request: Request) -> bytes:
    """Encrypt data."""
    args = _decode_use(request.args)
    key = _key(core, caller, core.view(args.keyring_id), request.ticket, args.reference)
    started = now_ns()
    try:
        result = _encrypt(args.mechanism, args.parameter, key, args.data, core.rows)
    except ConclaveError:
        core.meters.failed(_ENCRYPT, args.mechanism)
        raise
    core.meters.done(_ENCRYPT, args.mechanism, started)
    return result


def decrypt(core: Core, caller: Caller, request: Request) -> bytes:
    """Decrypt data."""
    args = _decode_use(request.args)
    key = _key(core, caller, core.view(args.keyring_id), request.ticket, args.reference)
    started = now_ns()
    try:
        result = _decrypt(args.mechanism, args.parameter, key, args.data, core.rows)
    except ConclaveError:
        core.meters.failed(_DECRYPT, args.mechanism)
        raise
    core.meters.done(_DECRYPT, args.mechanism, started)
    return result


def sign_recover(core: Core, caller: Caller, request: Request) -> bytes:
    """Sign data so that the signature gives them back."""
    return _recovering(core, caller, request, mechanisms.sign_recover, _SIGN)


def verify_recover(core: Core, caller: Caller, request: Request) -> bytes:
    """Return the data of a signature."""
    return _recovering(core, caller, request, mechanisms.verify_recover, _VERIFY)


def _recovering(
    core: Core, caller: Caller, request: Request, operate: Callable[..., bytes], use: Use
) -> bytes:
    args = _decode_use(request.args)
    key = _key(core, caller, core.view(args.keyring_id), request.ticket, args.reference)
    started = now_ns()
    try:
        result = operate(args.mechanism, args.parameter, key, args.data, core.rows)
    except ConclaveError:
        core.meters.failed(use, args.mechanism)
        raise
    core.meters.done(use, args.mechanism, started)
    return result


def _key(
    core: Core, caller: Caller, view: KeyringView, ticket: bytes | None, reference: bytes
) -> ReadyKey:
    session = view.sessions.get(ticket) if ticket is not None else None
    if (
        session is not None
        and session.client_id == caller.client_id
        and core.now_ms < session.renew_ms
    ):
        ready = session.ready.get(reference)
        if ready is not None:
            return ready
    return _load(core, caller, view, ticket, reference)


def _load(
    core: Core, caller: Caller, view: KeyringView, ticket: bytes | None, reference: bytes
) -> ReadyKey:
    session = core.session(view, ticket, caller.client_id)
    if session is not None and session.unlocked is None:
        raise first_password()
    try:
        key = resolve(Access(core, caller, view, session), reference).ready_key()
    except NotFound as error:
        raise refused(Ckr.KEY_HANDLE_INVALID, error.message) from error
    if key.object_class != Cko.PUBLIC_KEY:
        core.watch.require_private_use()
    if session is not None:
        if len(session.ready) >= MAX_READY:
            session.ready.clear()
        session.ready[reference] = key
    return key
