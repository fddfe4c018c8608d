"""WRAP_KEY and UNWRAP_KEY: keys that leave under another key, and come back."""

from __future__ import annotations

from typing import Any

from conclave.crypto.faults import refused
from conclave.crypto.ready_key import is_key
from conclave.crypto.standard import Cka, Cko
from conclave.crypto.wrapping import unwrap_key as unwrapped
from conclave.crypto.wrapping import wrap_key as wrapped
from conclave.errors import Ckr, NotFound
from conclave.keyring.attributes import FALSE, TRUE, Attributes, is_true, ulong
from conclave.service.cache import ObjectEntry
from conclave.service.core import Core
from conclave.service.new_objects import changing, in_pool, made_later, place, policy_of, says
from conclave.service.object_handlers import reading
from conclave.service.references import Access, resolve
from conclave.service.requests import Caller, args_decoder, check_template
from conclave.service.wire import Request, UnwrapKey, WrapKey

_decode_wrap = args_decoder(WrapKey)
_decode_unwrap = args_decoder(UnwrapKey)


def wrap_key(core: Core, caller: Caller, request: Request) -> bytes:
    """Return a key of the keyring or a session wrapped under another one."""
    args: WrapKey = _decode_wrap(request.args)
    access = reading(core, caller, request, args.keyring_id)
    wrapping = _key(access, args.reference, Ckr.WRAPPING_KEY_HANDLE_INVALID)
    key = _key(access, args.key, Ckr.KEY_HANDLE_INVALID)
    core.watch.require_private_use()
    return wrapped(
        args.mechanism,
        args.parameter,
        wrapping.ready_key(),
        key.attributes,
        trusted=is_true(wrapping.attributes, Cka.TRUSTED),
    )


def unwrap_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key of what was wrapped."""
    args: UnwrapKey = _decode_unwrap(request.args)
    template = args.template
    check_template(template)
    access = changing(
        core,
        caller,
        request,
        args.keyring_id,
        token=says(template, Cka.TOKEN, TRUE),
        private=not says(template, Cka.PRIVATE, FALSE),
        fresh=True,
    )

    def make() -> Attributes:
        entry = _key(access, args.reference, Ckr.UNWRAPPING_KEY_HANDLE_INVALID)
        return unwrapped(
            args.mechanism,
            args.parameter,
            entry.ready_key(),
            args.wrapped,
            template,
            policy_of(core),
        )

    if args.write is None and not says(template, Cka.CLASS, ulong(Cko.PRIVATE_KEY)):
        core.watch.require_private_use()
        return place(access, request, None, [make()], pair=False)

    async def work() -> list[Attributes]:
        core.watch.require_private_use()
        # A private key's parts are checked, which takes up to 40 ms.
        return [await in_pool(core, make)]

    return made_later(access, request, args.write, work(), pair=False)


def _key(access: Access, reference: bytes, ckr: Ckr) -> ObjectEntry:
    try:
        entry = resolve(access, reference)
    except NotFound as error:
        raise refused(ckr, error.message) from error
    if not is_key(entry.attributes):
        raise refused(ckr, "The object is a certificate or data; a key is needed.")
    return entry
