"""CONTEXT_LOGIN and USE_IN_CONTEXT: keys with CKA_ALWAYS_AUTHENTICATE (rule C14).

Invariant: such a key has no use outside a context (`load_key`), so only what is here signs or
decrypts with it, after the member that issued the context ticket has taken its id, and on the same
ground as before it was asked.  A use that is sent again, since no answer came, is the same use;
another one is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from conclave.crypto import mechanisms
from conclave.crypto.faults import refused
from conclave.crypto.ready_key import ReadyKey
from conclave.errors import Ckr, ConclaveError, CredentialRefused, NotFound
from conclave.ids import KeyringId, LoginId
from conclave.service import meters
from conclave.service.cache import ObjectEntry
from conclave.service.context_tickets import Use, context_refused, open_context
from conclave.service.core import Core
from conclave.service.ground import Ground, ground_of, require_ground
from conclave.service.login_handlers import client_login
from conclave.service.messages import ContextLogin, ContextResult, SpendContext
from conclave.service.references import Access, resolve
from conclave.service.requests import Caller, Rest, args_decoder, bad_argument
from conclave.service.wire import ContextLogin as WireContextLogin
from conclave.service.wire import Login, Operation, Request, Role, UseInContext

SPEND_MS: Final = 5000

_decode_login = args_decoder(WireContextLogin)
_decode_use = args_decoder(UseInContext)

Operate = Callable[[ReadyKey, UseInContext, mechanisms.Rows], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class _Permitted:
    """What a use was let through with, before its proof was taken."""

    key: ReadyKey
    login_id: LoginId
    ground: Ground


def _sign(key: ReadyKey, args: UseInContext, rows: mechanisms.Rows) -> bytes:
    return mechanisms.sign(args.mechanism, args.parameter, key, args.data, args.prehashed, rows)


def _sign_recover(key: ReadyKey, args: UseInContext, rows: mechanisms.Rows) -> bytes:
    return mechanisms.sign_recover(args.mechanism, args.parameter, key, args.data, rows)


def _decrypt(key: ReadyKey, args: UseInContext, rows: mechanisms.Rows) -> bytes:
    return mechanisms.decrypt(args.mechanism, args.parameter, key, args.data, rows)


_USES: Final[dict[int, tuple[Operate, meters.Use]]] = {
    int(Operation.SIGN): (_sign, meters.Use.SIGN),
    int(Operation.SIGN_RECOVER): (_sign_recover, meters.Use.SIGN),
    int(Operation.DECRYPT): (_decrypt, meters.Use.DECRYPT),
}


def context_login(core: Core, caller: Caller, request: Request) -> Rest:
    """Check the KRCO's password and bring a context ticket for one use of a key."""
    args: WireContextLogin = _decode_login(request.args)
    view = core.view(args.keyring_id)
    session = core.krco(view, request.ticket, caller.client_id)
    entry = _key(Access(core, caller, view, session), args.reference, args.operation)
    login = Login(args.keyring_id, Role.KRCO, args.password, args.attempt_id)
    params = ContextLogin(
        login=client_login(core, caller, login),
        login_id=session.login_id,
        object_id=entry.object_id,
        operation=args.operation,
    )
    return _log_in(core, params)


async def _log_in(core: Core, params: ContextLogin) -> bytes:
    result: ContextResult = await core.call("context_login", params)
    return result.context


def use_in_context(core: Core, caller: Caller, request: Request) -> Rest:
    """Sign or decrypt, once, as a context login has permitted."""
    args: UseInContext = _decode_use(request.args)
    view = core.view(args.keyring_id)
    session = core.krco(view, request.ticket, caller.client_id)
    entry = _key(Access(core, caller, view, session), args.reference, args.operation)
    core.watch.require_private_use()
    keys = core.require_keys_of(args.context)
    use = Use(
        cluster_id=keys.cluster_id,
        keyring_id=args.keyring_id,
        client_id=caller.client_id,
        login_id=session.login_id,
        object_id=entry.object_id,
        operation=args.operation,
        now_ms=core.page.cluster_time_ms(),
    )
    context = open_context(args.context, keys.tickets, use)
    spend = SpendContext(
        member_id=context.member_id,
        context_id=context.context_id,
        use_digest=hashlib.sha256(bytes(request.args)).digest(),
    )
    permitted = _Permitted(entry.ready_key(), session.login_id, ground_of(core, view, caller))
    return _spend_and_use(core, args, spend, permitted)


async def _spend_and_use(
    core: Core, args: UseInContext, spend: SpendContext, permitted: _Permitted
) -> bytes:
    try:
        await core.call("spend_context", spend, deadline_ms=core.page.cluster_time_ms() + SPEND_MS)
    except CredentialRefused:
        raise context_refused("this proof was used, or is not known any more") from None
    # What was acknowledged while the issuer was asked holds.
    require_ground(core, permitted.ground, KeyringId(args.keyring_id))
    core.watch.require_private_use()
    core.require_live(permitted.login_id)
    operate, use = _USES[args.operation]
    key, started = permitted.key, meters.now_ns()
    try:
        result = operate(replace(key, usage=key.context_usage), args, core.rows)
    except ConclaveError:
        core.meters.failed(use, args.mechanism)
        raise
    core.meters.done(use, args.mechanism, started)
    return result


def _key(access: Access, reference: bytes, operation: int) -> ObjectEntry:
    if operation not in _USES:
        raise bad_argument(f"Operation {operation} has no context.")
    try:
        entry = resolve(access, reference)
        key = entry.ready_key()
    except NotFound as error:
        raise refused(Ckr.KEY_HANDLE_INVALID, error.message) from error
    if not key.context_usage:
        raise bad_argument("The key asks for no password before each use.")
    return entry
