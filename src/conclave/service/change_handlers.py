"""Create, change, copy, destroy and generate objects, in the keyring or in a session.

Handlers begin with what can be refused at once; what must be committed is a coroutine of
`TokenChange`.  What takes milliseconds (RSA keys, made or checked) runs in a small thread pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from conclave.crypto import mechanisms
from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.ids import ObjectId
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.objects import apply_changes, copy_attributes, is_token, require_destroyable
from conclave.keyring.templates import build_object
from conclave.service.core import Core
from conclave.service.messages import ObjectDelete
from conclave.service.new_objects import (
    change_of,
    changing,
    in_pool,
    made_later,
    place,
    says,
    trusting_policy,
)
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
from conclave.service.token_writes import Planned, new_object, sealed
from conclave.service.wire import (
    OBJECT_ID_BYTES,
    ChangeObject,
    CreateObject,
    DestroyObject,
    GenerateKey,
    GenerateKeyPair,
    ObjectResult,
    Request,
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
    access = changing(core, caller, request, args.keyring_id, token=says(template, Cka.TOKEN, TRUE))
    policy = core.object_policy
    if set(template) >= _RSA_PRIVATE:
        # Its primes are checked here, once: 40 ms.
        work = in_pool(core, lambda: [build_object(template, policy=policy)])
        return made_later(access, request, args.write, work, pair=False)
    return place(access, request, args.write, [build_object(template, policy=policy)], pair=False)


def generate_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a secret key."""
    args: GenerateKey = _decode_generate(request.args)
    check_template(args.template)
    access = changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=says(args.template, Cka.TOKEN, TRUE),
        private=not says(args.template, Cka.PRIVATE, FALSE),
    )

    policy = core.object_policy

    def make() -> list[Attributes]:
        return [
            mechanisms.generate_key(
                args.mechanism, args.parameter, args.template, policy=policy, rows=core.rows
            )
        ]

    return _generate(access, request, args, make, pair=False)


def generate_key_pair(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key pair."""
    args: GenerateKeyPair = _decode_generate_pair(request.args)
    public, private = args.public_template, args.private_template
    check_template(public)
    check_template(private)
    access = changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=says(public, Cka.TOKEN, TRUE) or says(private, Cka.TOKEN, TRUE),
        private=not says(private, Cka.PRIVATE, FALSE) or says(public, Cka.PRIVATE, TRUE),
    )

    policy = core.object_policy

    def make() -> list[Attributes]:
        pair = mechanisms.generate_key_pair(
            args.mechanism, args.parameter, public, private, policy=policy, rows=core.rows
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
        policy = trusting_policy(access)
        changed = apply_changes(entry.attributes, args.template, policy=policy)
        return session_object(access, changed, entry.object_id)
    trusting = [number for number, _ in args.template] == [Cka.TRUSTED]
    access = changing(
        core, caller, request, args.keyring_id, token=True, fresh=True, trusting=trusting
    )
    object_id = ObjectId(args.reference)

    def plan(access: Access) -> Planned:
        held = resolve(access, object_id).attributes
        changed = apply_changes(held, args.template, policy=trusting_policy(access))
        old = access.view.rows[object_id]
        row = sealed(access, object_id, old.version + 1, changed, expected_revision=old.revision)
        return Planned(ObjectResult(object_id, row.private, []), writes=[row])

    return change_of(access, request, args.write).carry_out(access, plan)


def copy_object(core: Core, caller: Caller, request: Request) -> Any:
    """Copy an object, changing attributes on the way."""
    args: ChangeObject = _decode_change(request.args)
    check_template(args.template)

    def plan(access: Access) -> Planned:
        old = resolve(access, args.reference).attributes
        copy = copy_attributes(old, args.template, policy=core.object_policy)
        if not is_token(copy):
            return Planned(session_object(access, copy))
        row, result = new_object(access, copy)
        return Planned(result, writes=[row])

    if args.write is not None:
        access = changing(core, caller, request, args.keyring_id, token=True, fresh=True)
        return change_of(access, request, args.write).carry_out(access, plan)
    access = reading(core, caller, request, args.keyring_id)
    old = resolve(access, args.reference).attributes
    copy = copy_attributes(old, args.template, policy=core.object_policy)
    if is_token(copy):
        check_write(None, core.now_ms)
    return session_object(access, copy)


def destroy_object(core: Core, caller: Caller, request: Request) -> Rest:
    """Destroy a token object; session objects die in the client."""
    args: DestroyObject = _decode_destroy(request.args)
    if len(args.reference) != OBJECT_ID_BYTES:
        raise bad_argument(f"The id of a token object has {OBJECT_ID_BYTES} bytes.")
    access = changing(core, caller, request, args.keyring_id, token=True, fresh=True)
    object_id = ObjectId(args.reference)

    def plan(access: Access) -> Planned:
        require_destroyable(resolve(access, object_id).attributes)
        revision = access.view.rows[object_id].revision
        return Planned(None, deletes=[ObjectDelete(object_id, revision)])

    return change_of(access, request, args.write).carry_out(access, plan)


def _generate(
    access: Access,
    request: Request,
    args: GenerateKey | GenerateKeyPair,
    make: Callable[[], list[Attributes]],
    *,
    pair: bool,
) -> Any:
    if not mechanisms.takes_long(args.mechanism):
        return place(access, request, args.write, make(), pair=pair)
    return made_later(access, request, args.write, in_pool(access.core, make), pair=pair)
