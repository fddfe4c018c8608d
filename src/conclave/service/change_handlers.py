"""Create, change, copy, destroy and generate objects, in the keyring or in a session.

Handlers begin with what can be refused at once; what must be committed is a coroutine of
`TokenChange`.  What takes milliseconds (RSA keys, made or checked) runs in a small thread pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from conclave import faults
from conclave.crypto import mechanisms
from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.errors import Unavailable
from conclave.ids import KeyringId, ObjectId
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.objects import apply_changes, copy_attributes, is_token, require_destroyable
from conclave.keyring.templates import ObjectPolicy, build_object
from conclave.service.core import MAX_KEY_GENERATIONS, Core
from conclave.service.messages import ObjectDelete
from conclave.service.object_handlers import reading
from conclave.service.references import Access, resolve, session_object
from conclave.service.requests import (
    Caller,
    Rest,
    args_decoder,
    bad_argument,
    check_template,
    check_write,
)
from conclave.service.token_writes import Planned, TokenChange, new_object, sealed
from conclave.service.wire import (
    OBJECT_ID_BYTES,
    ChangeObject,
    CreateObject,
    DestroyObject,
    GenerateKey,
    GenerateKeyPair,
    ObjectResult,
    Request,
    Template,
    Write,
)

T = TypeVar("T")

_decode_create = args_decoder(CreateObject)
_decode_change = args_decoder(ChangeObject)
_decode_destroy = args_decoder(DestroyObject)
_decode_generate = args_decoder(GenerateKey)
_decode_generate_pair = args_decoder(GenerateKeyPair)

_RSA_PRIVATE: Final = {
    (int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)),
    (int(Cka.KEY_TYPE), ulong(Ckk.RSA)),
}


def create_object(core: Core, caller: Caller, request: Request) -> Any:
    """Make an object of an application's template."""
    args: CreateObject = _decode_create(request.args)
    template = args.template
    check_template(template)
    access = _changing(
        core, caller, request, args.keyring_id, token=_says(template, Cka.TOKEN, TRUE)
    )
    policy = _policy(core)
    if set(template) >= _RSA_PRIVATE:
        # Its primes are checked here, once: 40 ms.
        work = _in_pool(core, lambda: [build_object(template, policy=policy)])
        return _made_later(access, request, args.write, work, pair=False)
    return _place(access, request, args.write, [build_object(template, policy=policy)], pair=False)


def generate_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a secret key."""
    args: GenerateKey = _decode_generate(request.args)
    check_template(args.template)
    access = _changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=_says(args.template, Cka.TOKEN, TRUE),
        private=not _says(args.template, Cka.PRIVATE, FALSE),
    )

    policy = _policy(core)

    def make() -> list[Attributes]:
        return [
            mechanisms.generate_key(args.mechanism, args.parameter, args.template, policy=policy)
        ]

    return _generate(access, request, args, make, pair=False)


def generate_key_pair(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key pair."""
    args: GenerateKeyPair = _decode_generate_pair(request.args)
    public, private = args.public_template, args.private_template
    check_template(public)
    check_template(private)
    access = _changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=_says(public, Cka.TOKEN, TRUE) or _says(private, Cka.TOKEN, TRUE),
        private=not _says(private, Cka.PRIVATE, FALSE) or _says(public, Cka.PRIVATE, TRUE),
    )

    policy = _policy(core)

    def make() -> list[Attributes]:
        pair = mechanisms.generate_key_pair(
            args.mechanism, args.parameter, public, private, policy=policy
        )
        return list(pair)

    return _generate(access, request, args, make, pair=True)


def set_attributes(core: Core, caller: Caller, request: Request) -> Any:
    """Change attributes of an object."""
    args: ChangeObject = _decode_change(request.args)
    check_template(args.template)
    if len(args.reference) != OBJECT_ID_BYTES:
        access = reading(core, caller, request, args.keyring_id)
        entry = resolve(access, args.reference)
        return session_object(
            access, apply_changes(entry.attributes, args.template), entry.object_id
        )
    access = _changing(core, caller, request, args.keyring_id, token=True, fresh=True)
    object_id = ObjectId(args.reference)

    def plan(access: Access) -> Planned:
        changed = apply_changes(resolve(access, object_id).attributes, args.template)
        old = access.view.rows[object_id]
        row = sealed(access, object_id, old.version + 1, changed, expected_revision=old.revision)
        return Planned(ObjectResult(object_id, row.private, []), writes=[row])

    return _change(access, request, args.write).carry_out(access, plan)


def copy_object(core: Core, caller: Caller, request: Request) -> Any:
    """Copy an object, changing attributes on the way."""
    args: ChangeObject = _decode_change(request.args)
    check_template(args.template)

    def plan(access: Access) -> Planned:
        old = resolve(access, args.reference).attributes
        copy = copy_attributes(old, args.template, policy=_policy(core))
        if not is_token(copy):
            return Planned(session_object(access, copy))
        row, result = new_object(access, copy)
        return Planned(result, writes=[row])

    if args.write is not None:
        access = _changing(core, caller, request, args.keyring_id, token=True, fresh=True)
        return _change(access, request, args.write).carry_out(access, plan)
    access = reading(core, caller, request, args.keyring_id)
    old = resolve(access, args.reference).attributes
    copy = copy_attributes(old, args.template, policy=_policy(core))
    if is_token(copy):
        check_write(None, core.now_ms)
    return session_object(access, copy)


def destroy_object(core: Core, caller: Caller, request: Request) -> Rest:
    """Destroy a token object; session objects die in the client."""
    args: DestroyObject = _decode_destroy(request.args)
    if len(args.reference) != OBJECT_ID_BYTES:
        raise bad_argument(f"The id of a token object has {OBJECT_ID_BYTES} bytes.")
    access = _changing(core, caller, request, args.keyring_id, token=True, fresh=True)
    object_id = ObjectId(args.reference)

    def plan(access: Access) -> Planned:
        require_destroyable(resolve(access, object_id).attributes)
        revision = access.view.rows[object_id].revision
        return Planned(None, deletes=[ObjectDelete(object_id, revision)])

    return _change(access, request, args.write).carry_out(access, plan)


# ------------------------------------------------------------------ shared steps


def _policy(core: Core) -> ObjectPolicy:
    return ObjectPolicy(clear_token_keys=core.limits.clear_token_keys)


def _says(template: Template, number: Cka, value: bytes) -> bool:
    return (int(number), value) in template


def _changing(
    core: Core,
    caller: Caller,
    request: Request,
    keyring_id: bytes,
    *,
    token: bool,
    private: bool = False,
    fresh: bool = False,
) -> Access:
    """Return what the caller may change, refusing early who may not.

    A new token object needs no fresh view: the primary checks everything inside the transaction.
    """
    if not token and not private:
        return reading(core, caller, request, keyring_id)
    if token and not fresh:
        view = core.lenient_view(keyring_id, request.ticket)
    else:
        view = core.view(keyring_id)
    return Access(core, caller, view, core.krco(view, request.ticket, caller.client_id))


def _change(access: Access, request: Request, write: Write | None) -> TokenChange:
    core = access.core
    core.require_writable()
    return TokenChange(
        core=core,
        caller=access.caller,
        request=request,
        keyring_id=KeyringId(access.view.keyring_id),
        write=check_write(write, core.page.cluster_time_ms()),
    )


def _generate(
    access: Access,
    request: Request,
    args: GenerateKey | GenerateKeyPair,
    make: Callable[[], list[Attributes]],
    *,
    pair: bool,
) -> Any:
    if not mechanisms.takes_long(args.mechanism):
        return _place(access, request, args.write, make(), pair=pair)
    return _made_later(access, request, args.write, _in_pool(access.core, make), pair=pair)


async def _made_later(
    access: Access, request: Request, write: Write | None, work: Any, *, pair: bool
) -> Any:
    """Make objects in the pool, unless an earlier run of the same request has (rule C21)."""
    if write is not None:
        try:
            recorded = await _change(access, request, write).recorded()
        except BaseException:
            work.close()
            raise
        if recorded is not None:
            work.close()
            return recorded
    placed = _place(access, request, write, await work, pair=pair)
    return await placed if asyncio.iscoroutine(placed) else placed


def _place(
    access: Access,
    request: Request,
    write: Write | None,
    made: list[Attributes],
    *,
    pair: bool,
) -> Any:
    """Put new objects where they belong: blobs for the client, rows for the keyring."""
    if not any(is_token(attributes) for attributes in made):
        results = [session_object(access, attributes) for attributes in made]
        return results if pair else results[0]

    def plan(access: Access) -> Planned:
        writes = []
        results = []
        for attributes in made:
            if is_token(attributes):
                row, result = new_object(access, attributes)
                writes.append(row)
            else:
                result = session_object(access, attributes)
            results.append(result)
        return Planned(results if pair else results[0], writes=writes)

    return _change(access, request, write).carry_out(access, plan)


async def _in_pool(core: Core, work: Callable[[], T]) -> T:
    if core.key_generations >= MAX_KEY_GENERATIONS:
        raise Unavailable(faults.BUSY, "Too many keys are being generated; try again.")
    core.key_generations += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(core.key_generation_pool, work)
    finally:
        core.key_generations -= 1
