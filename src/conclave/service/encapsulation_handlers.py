"""ENCAPSULATE_KEY and DECAPSULATE_KEY: keys that two parties come to share."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from conclave.crypto.encapsulation import decapsulate_key as decapsulated
from conclave.crypto.encapsulation import encapsulate_key as encapsulated
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes
from conclave.service.core import Core
from conclave.service.meters import Use
from conclave.service.new_objects import change_of, made_once, place
from conclave.service.requests import Caller, args_decoder, check_template
from conclave.service.token_writes import TokenChange
from conclave.service.wire import DecapsulateKey, EncapsulateKey, Request
from conclave.service.wrap_handlers import key_of, making

_decode_encapsulate = args_decoder(EncapsulateKey)
_decode_decapsulate = args_decoder(DecapsulateKey)


def encapsulate_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make a key that is shared with the owner of a private key, and the ciphertext for him."""
    args: EncapsulateKey = _decode_encapsulate(request.args)
    check_template(args.template)
    access = making(core, caller, request, args)

    def make() -> Any:
        entry = key_of(access, args.reference, Ckr.KEY_HANDLE_INVALID)
        work = partial(
            encapsulated,
            args.mechanism,
            args.parameter,
            entry.ready_key(),
            args.template,
            encapsulating=entry.attributes,
            policy=core.object_policy,
            rows=core.rows,
        )
        ciphertext, attributes = core.meters.measured(Use.ENCAPSULATE, args.mechanism, work)
        return place(access, request, args.write, [attributes], pair=False, ciphertext=ciphertext)

    async def unless_recorded(change: TokenChange) -> Any:
        # A repetition under the same key gets the first run's ciphertext (rule C21).
        recorded = await change.recorded()
        if recorded is not None:
            return recorded
        made = make()
        return await made if asyncio.iscoroutine(made) else made

    if args.write is None:
        return make()
    return unless_recorded(change_of(access, request, args.write))


def decapsulate_key(core: Core, caller: Caller, request: Request) -> Any:
    """Make the key that a ciphertext stands for."""
    args: DecapsulateKey = _decode_decapsulate(request.args)
    check_template(args.template)
    access = making(core, caller, request, args)

    def make() -> list[Attributes]:
        entry = key_of(access, args.reference, Ckr.KEY_HANDLE_INVALID)
        core.watch.require_private_use()
        work = partial(
            decapsulated,
            args.mechanism,
            args.parameter,
            entry.ready_key(),
            args.wrapped,
            args.template,
            decapsulating=entry.attributes,
            policy=core.object_policy,
            rows=core.rows,
        )
        return [core.meters.measured(Use.DECAPSULATE, args.mechanism, work)]

    return made_once(access, request, args.write, make)
