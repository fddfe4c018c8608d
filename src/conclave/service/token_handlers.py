"""Operations that need no keyring key: greetings, lists, counts, random bytes."""

from __future__ import annotations

import os
from typing import Final

from conclave.crypto.mechanisms import mechanism_infos
from conclave.ids import KeyringId
from conclave.keyring.roles import LockState, is_locked
from conclave.service.core import KEYRING_ID_BYTES, Core, keyring_not_found
from conclave.service.requests import (
    Caller,
    Later,
    Pins,
    ProtocolBroken,
    args_decoder,
    bad_argument,
)
from conclave.service.store_reader import LoadedToken
from conclave.service.wire import (
    MAX_ATTRIBUTE_BYTES,
    MAX_PASSWORD_BYTES,
    Empty,
    Hello,
    ListTokens,
    MechanismInfo,
    MemberList,
    Random,
    Request,
    Token,
    TokenDetails,
    TokenInfo,
)
from conclave.settings import Limits
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState

PROCESS_ID_BYTES: Final = 16
MAX_SOFTWARE_CHARACTERS: Final = 128
MAX_TOKENS: Final = 4096

CKF_RNG: Final = 0x1
CKF_WRITE_PROTECTED: Final = 0x2
CKF_LOGIN_REQUIRED: Final = 0x4
CKF_USER_PIN_INITIALIZED: Final = 0x8
CKF_TOKEN_INITIALIZED: Final = 0x400
CKF_USER_PIN_COUNT_LOW: Final = 0x10000
CKF_USER_PIN_FINAL_TRY: Final = 0x20000
CKF_USER_PIN_LOCKED: Final = 0x40000
CKF_SO_PIN_TO_BE_CHANGED: Final = 0x800000
_SO_SHIFT: Final = 4
"""The KRSO's three counter flags stand four bits above the KRCO's."""

_decode_hello = args_decoder(Hello)
_decode_empty = args_decoder(Empty)
_decode_list = args_decoder(ListTokens)
_decode_info = args_decoder(TokenInfo)
_decode_random = args_decoder(Random)


def hello(_core: Core, caller: Caller, request: Request) -> None:
    """Learn the process id: once, first."""
    args: Hello = _decode_hello(request.args)
    if caller.process_id or len(args.process_id) != PROCESS_ID_BYTES:
        raise ProtocolBroken("HELLO came twice, or its process id has not 16 bytes")
    if len(args.software) > MAX_SOFTWARE_CHARACTERS:
        raise ProtocolBroken("the name of the client's software is too long")
    caller.process_id = args.process_id  # type: ignore[assignment]
    if not args.direct:
        caller.spread()


def ping(_core: Core, _caller: Caller, request: Request) -> None:
    """Answer."""
    _decode_empty(request.args)


def mechanisms(core: Core, _caller: Caller, request: Request) -> list[MechanismInfo]:
    """List the mechanisms."""
    _decode_empty(request.args)
    return mechanism_infos(core.rows)


def random_bytes(_core: Core, _caller: Caller, request: Request) -> bytes:
    """Return random bytes of the kernel."""
    args: Random = _decode_random(request.args)
    if not 1 <= args.length <= MAX_ATTRIBUTE_BYTES:
        raise bad_argument(f"Length must lie between 1 and {MAX_ATTRIBUTE_BYTES}: {args.length}.")
    return os.urandom(args.length)


def list_tokens(core: Core, caller: Caller, request: Request) -> list[Token]:
    """List the caller's keyrings; an unauthorized member does it too."""
    args: ListTokens = _decode_list(request.args)
    limit = min(max(args.limit, 0) or MAX_TOKENS, MAX_TOKENS)
    rows = [row for row in core.token_list().rows if row.slot >= args.first_slot]
    if caller.keyrings is not None:
        rows = [row for row in rows if row.keyring_id in caller.keyrings]
    return [_token(row, core) for row in rows[:limit]]


def members(core: Core, _caller: Caller, request: Request) -> MemberList:
    """List the members and their states; an unauthorized member does it too."""
    _decode_empty(request.args)
    return core.members.listed(core.watch, core.pinned)


def token_info(core: Core, _caller: Caller, request: Request) -> TokenDetails:
    """Describe one keyring."""
    args: TokenInfo = _decode_info(request.args)
    row, object_count = _read_token(core, args.keyring_id)
    return TokenDetails(
        token=_token(row, core),
        object_count=object_count,
        max_objects=core.limits.max_objects,
        dual_identity=row.krco is not None,
        failed_attempts=max(row.krso.failures, row.krco.failures if row.krco else 0),
    )


def _read_token(core: Core, keyring_id: bytes) -> tuple[KeyringRow, int]:
    """Return a keyring and its object count as they are now; raise Later to read them first.

    An application that looks at each slot must not fill the cache with all their objects.
    """
    core.require_serving()
    view = core.views.views.get(KeyringId(keyring_id))
    if view is not None and view.generation == core.page.words[view.word]:
        return view.row, len(view.rows)
    if len(keyring_id) != KEYRING_ID_BYTES:
        raise keyring_not_found(keyring_id)
    loaded: LoadedToken | None = core.pinned.get(("token", keyring_id))
    if loaded is None:

        async def load(pins: Pins) -> None:
            pins["token", keyring_id] = await core.reader.token(KeyringId(keyring_id))

        raise Later(load)
    if loaded.row is None:
        raise keyring_not_found(keyring_id)
    return loaded.row, loaded.object_count


def _token(row: KeyringRow, core: Core) -> Token:
    limits = core.limits
    # The same flag for all sessions, as a token has it; what a member may do is its lease's.
    protected = 0 if core.watch.read_write else CKF_WRITE_PROTECTED
    return Token(
        slot=row.slot,
        keyring_id=row.keyring_id,
        label=row.label,
        serial=row.serial,
        flags=_flags(row, limits) | protected,
        min_pin_bytes=limits.min_password_characters,
        max_pin_bytes=MAX_PASSWORD_BYTES,
    )


def _flags(row: KeyringRow, limits: Limits) -> int:
    flags = CKF_RNG | CKF_LOGIN_REQUIRED | CKF_TOKEN_INITIALIZED
    if row.state is KeyringState.READY:
        flags |= CKF_USER_PIN_INITIALIZED
    if row.state is KeyringState.INITIAL:
        flags |= CKF_SO_PIN_TO_BE_CHANGED
    flags |= _counter_flags(row.krco or row.krso, limits)
    return flags | _counter_flags(row.krso, limits) << _SO_SHIFT


def _counter_flags(credential: CredentialRow, limits: Limits) -> int:
    if credential.never_locks:
        return 0
    if is_locked(LockState(credential.never_locks, credential.failures), limits):
        return CKF_USER_PIN_LOCKED
    flags = CKF_USER_PIN_COUNT_LOW if credential.failures else 0
    if credential.failures == limits.lock_after - 1:
        flags |= CKF_USER_PIN_FINAL_TRY
    return flags
