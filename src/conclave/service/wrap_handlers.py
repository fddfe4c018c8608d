"""WRAP_KEY, UNWRAP_KEY and DERIVE_KEY: keys that leave under another one, or come of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from conclave.crypto.derivation import derive_key as derived
from conclave.crypto.faults import refused
from conclave.crypto.ready_key import is_key
from conclave.crypto.standard import Cka, Cko
from conclave.crypto.wrapping import unwrap_key as unwrapped
from conclave.crypto.wrapping import wrap_key as wrapped
from conclave.errors import BadInput, Ckr, NotAllowed, NotFound
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.service.cache import ObjectEntry
from conclave.service.core import Core
from conclave.service.meters import Use, now_ns
from conclave.service.new_objects import (
    changing,
    in_pool,
    made_later,
    made_once,
    place,
    says,
)
from conclave.service.object_handlers import reading
from conclave.service.references import Access, resolve
from conclave.service.requests import Caller, args_decoder, check_template
from conclave.service.wire import DeriveKey, Request, UnwrapKey, WrapKey

_decode_wrap = args_decoder(WrapKey)
_decode_unwrap = args_decoder(UnwrapKey)
_decode_derive = args_decoder(DeriveKey)


def wrap_key(core: Core, caller: Caller, request: Request) -> bytes:
    """Return a key of the keyring or a session wrapped under another one."""
    args: WrapKey = _decode_wrap(request.args)
    access = reading(core, caller, request, args.keyring_id)
    wrapping = key_of(access, args.reference, Ckr.WRAPPING_KEY_HANDLE_INVALID)
    key = key_of(access, args.key, Ckr.KEY_HANDLE_INVALID)
    core.watch.require_private_use()
    work = partial(
        wrapped,
        args.mechanism,
        args.parameter,
        wrapping.ready_key(),
        key.attributes,
        wrapping=wrapping.attributes,
        policy=core.object_policy,
        rows=core.rows,
    )
    return core.meters.measured(Use.WRAP, args.mechanism, work)


def unwrap_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key of what was wrapped."""
    args: UnwrapKey = _decode_unwrap(request.args)
    template = args.template
    check_template(template)
    access = making(core, caller, request, args)

    def prepare() -> Callable[[], Attributes]:
        entry = key_of(access, args.reference, Ckr.UNWRAPPING_KEY_HANDLE_INVALID)
        core.watch.require_private_use()
        return partial(
            unwrapped,
            args.mechanism,
            args.parameter,
            entry.ready_key(),
            args.wrapped,
            template,
            core.object_policy,
            unwrapping=entry.attributes,
            rows=core.rows,
        )

    if args.write is None and says(template, Cka.CLASS, ulong(Cko.SECRET_KEY)):
        made = core.meters.measured(Use.UNWRAP, args.mechanism, prepare())
        return place(access, request, None, [made], pair=False)

    async def work() -> list[Attributes]:
        # A private key's parts are checked, which takes up to 40 ms.
        unwrap = prepare()
        try:
            made, spent_ns = await in_pool(core, partial(_timed, unwrap))
        except (BadInput, NotAllowed):
            core.meters.failed(Use.UNWRAP, args.mechanism)
            raise
        # Counted here, since a worker's counts have one writer: its event loop.
        core.meters.done(Use.UNWRAP, args.mechanism, now_ns() - spent_ns)
        return [made]

    return made_later(access, request, args.write, work(), pair=False)


def _timed(work: Callable[[], Attributes]) -> tuple[Attributes, int]:
    """Return what work gives, and how many nanoseconds it took."""
    started = now_ns()
    made = work()
    return made, now_ns() - started


def derive_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key of another one."""
    args: DeriveKey = _decode_derive(request.args)
    check_template(args.template)
    access = making(core, caller, request, args)

    def find(reference: bytes) -> Attributes:
        return key_of(access, reference, Ckr.KEY_HANDLE_INVALID).attributes

    def make() -> list[Attributes]:
        core.watch.require_private_use()
        work = partial(
            derived,
            args.mechanism,
            args.parameter,
            find,
            args.reference,
            args.template,
            core.object_policy,
            rows=core.rows,
        )
        return [core.meters.measured(Use.DERIVE, args.mechanism, work)]

    return made_once(access, request, args.write, make)


def making(core: Core, caller: Caller, request: Request, args: UnwrapKey | DeriveKey) -> Access:
    """Return where the new key of a request goes."""
    return changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=says(args.template, Cka.TOKEN, TRUE),
        private=not says(args.template, Cka.PRIVATE, FALSE),
        fresh=True,
    )


def key_of(access: Access, reference: bytes, ckr: Ckr) -> ObjectEntry:
    """Return the key that a reference names; raise `ckr` when there is none."""
    try:
        entry = resolve(access, reference)
    except NotFound as error:
        raise refused(ckr, error.message) from error
    if not is_key(entry.attributes):
        raise refused(ckr, "The object is a certificate or data; a key is needed.")
    return entry
