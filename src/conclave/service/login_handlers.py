"""Logins and changes of passwords: forwarded to the cluster process, which alone decides.

Every one of them carries a key of its own (an attempt id or an idempotency key), so when the
cluster process is away or its answer is lost, BUSY tells the client to repeat with the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from conclave import faults
from conclave.errors import CredentialRefused, NotAllowed, Unavailable
from conclave.ids import LoginId
from conclave.service.core import KEYRING_ID_BYTES, Core, first_password, keyring_not_found
from conclave.service.messages import (
    ChangePassword,
    ClientLogin,
    ClientLogout,
    InitializeKrco,
    InitializeToken,
    TicketResult,
)
from conclave.service.requests import (
    Caller,
    Rest,
    WithTicket,
    WrongRole,
    args_decoder,
    bad_argument,
    check_write,
)
from conclave.service.tickets import Bearer, open_ticket
from conclave.service.wire import (
    MAX_PASSWORD_BYTES,
    Empty,
    InitPin,
    InitToken,
    Login,
    Request,
    Role,
    SetPin,
)

ATTEMPT_ID_BYTES: Final = 16
MAX_LABEL_CHARACTERS: Final = 255
LOGOUT_SECONDS: Final = 2.0

_decode_login = args_decoder(Login)
_decode_empty = args_decoder(Empty)
_decode_set_pin = args_decoder(SetPin)
_decode_init_pin = args_decoder(InitPin)
_decode_init_token = args_decoder(InitToken)


def login(core: Core, caller: Caller, request: Request) -> Rest:
    """Check a password and bring a ticket."""
    return _login(core, client_login(core, caller, _decode_login(request.args)))


def client_login(core: Core, caller: Caller, args: Login) -> ClientLogin:
    """Return a login as the cluster process takes it; refuse one that is malformed."""
    _check_keyring(core, args.keyring_id)
    _check_role(args.role)
    _check_passwords(args.password)
    if len(args.attempt_id) != ATTEMPT_ID_BYTES:
        raise bad_argument(f"An attempt id has {ATTEMPT_ID_BYTES} bytes.")
    return ClientLogin(
        client_id=caller.client_id,
        source=caller.source,
        keyring_id=args.keyring_id,
        role=args.role,
        password=args.password,
        attempt_id=args.attempt_id,
    )


async def _login(core: Core, params: ClientLogin) -> WithTicket:
    result: TicketResult = await core.call("login", params)
    return WithTicket(None, result.ticket)


def logout(core: Core, caller: Caller, request: Request) -> Rest:
    """End a login here at once, and on the other workers and members as far as they are there."""
    _decode_empty(request.args)
    if request.ticket is None:
        raise CredentialRefused(faults.NOT_LOGGED_IN, "Nobody is logged in.")
    keys = core.require_keys_of(request.ticket)
    bearer = Bearer(keys.cluster_id, caller.client_id, core.page.cluster_time_ms())
    ticket = open_ticket(request.ticket, keys.tickets, bearer)
    core.deny(LoginId(ticket.login_id))
    return _logout(core, ClientLogout(client_id=caller.client_id, ticket=request.ticket))


async def _logout(core: Core, params: ClientLogout) -> None:
    # Best effort (rule C13): the module has forgotten its ticket whatever we answer.
    with contextlib.suppress(Unavailable, TimeoutError):
        async with asyncio.timeout(LOGOUT_SECONDS):
            await core.call("logout", params)


def set_pin(core: Core, caller: Caller, request: Request) -> Rest:
    """Change a role's password, proving the old one."""
    args: SetPin = _decode_set_pin(request.args)
    _check_keyring(core, args.keyring_id)
    _check_role(args.role)
    _check_passwords(args.old_password, args.new_password)
    write = check_write(args.write, core.now_ms)
    core.require_writable()
    params = ChangePassword(
        client_id=caller.client_id,
        source=caller.source,
        ticket=request.ticket,
        keyring_id=args.keyring_id,
        role=args.role,
        old_password=args.old_password,
        new_password=args.new_password,
        idempotency_key=write.idempotency_key,
        deadline_ms=write.deadline_ms,
    )
    return _changed(core, "change_password", params, wants_ticket=request.ticket is not None)


def init_pin(core: Core, caller: Caller, request: Request) -> Rest:
    """Initialise the KRCO under the KRSO's ticket."""
    args: InitPin = _decode_init_pin(request.args)
    _check_keyring(core, args.keyring_id)
    _check_passwords(args.new_password)
    write = check_write(args.write, core.now_ms)
    core.require_writable()
    if request.ticket is None:
        raise CredentialRefused(faults.NOT_LOGGED_IN, "The KRSO is not logged in.")
    # A repetition comes with a ticket that its own first run has voided, so the cluster process
    # judges it, after it has looked for the record.
    session = None
    with contextlib.suppress(CredentialRefused):
        view = core.view(args.keyring_id)
        session = core.session(view, request.ticket, caller.client_id)
    if session is not None and session.unlocked is None:
        raise first_password()
    if session is not None and session.ticket.role != Role.KRSO:
        raise WrongRole("The KRCO is logged in; this needs the KRSO.")
    params = InitializeKrco(
        client_id=caller.client_id,
        source=caller.source,
        ticket=request.ticket,
        keyring_id=args.keyring_id,
        new_password=args.new_password,
        idempotency_key=write.idempotency_key,
        deadline_ms=write.deadline_ms,
    )
    return _changed(core, "initialize_krco", params, wants_ticket=True)


def init_token(core: Core, caller: Caller, request: Request) -> Rest:
    """Destroy a keyring's objects and its KRCO, proving the KRSO's password."""
    args: InitToken = _decode_init_token(request.args)
    _check_keyring(core, args.keyring_id)
    _check_passwords(args.password)
    if len(args.label) > MAX_LABEL_CHARACTERS:
        raise bad_argument(f"A label has at most {MAX_LABEL_CHARACTERS} characters.")
    write = check_write(args.write, core.now_ms)
    core.require_writable()
    params = InitializeToken(
        client_id=caller.client_id,
        source=caller.source,
        keyring_id=args.keyring_id,
        password=args.password,
        label=args.label,
        idempotency_key=write.idempotency_key,
        deadline_ms=write.deadline_ms,
    )
    return _initialize(core, params)


async def _initialize(core: Core, params: InitializeToken) -> None:
    await core.call("initialize_token", params, deadline_ms=params.deadline_ms)


async def _changed(
    core: Core, method: str, params: ChangePassword | InitializeKrco, *, wants_ticket: bool
) -> Any:
    result: TicketResult = await core.call(method, params, deadline_ms=params.deadline_ms)
    return WithTicket(None, result.ticket or None if wants_ticket else None)


def _check_keyring(core: Core, keyring_id: bytes) -> None:
    core.require_serving()
    if len(keyring_id) != KEYRING_ID_BYTES:
        raise keyring_not_found(keyring_id)


def _check_role(role: int) -> None:
    if role not in (Role.KRSO, Role.KRCO):
        raise bad_argument(f"Role must be 0 (KRSO) or 1 (KRCO), not {role}.")


def _check_passwords(*passwords: bytes) -> None:
    for password in passwords:
        if len(password) > MAX_PASSWORD_BYTES:
            message = f"A password has at most {MAX_PASSWORD_BYTES} bytes, not {len(password)}."
            raise NotAllowed(faults.KEYRING_PASSWORD, message)
