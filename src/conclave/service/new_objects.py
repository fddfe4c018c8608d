"""What the handlers that make and change objects have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from conclave import faults
from conclave.crypto.standard import Cka
from conclave.errors import Unavailable
from conclave.ids import KeyringId
from conclave.keyring.attributes import Attributes
from conclave.keyring.objects import is_token
from conclave.keyring.templates import ObjectPolicy
from conclave.service.core import MAX_KEY_GENERATIONS, Core
from conclave.service.object_handlers import reading
from conclave.service.references import Access, session_object
from conclave.service.requests import Caller, check_write
from conclave.service.token_writes import Planned, TokenChange, new_object
from conclave.service.wire import ObjectResult, Request, Template, Write

T = TypeVar("T")


def trusting_policy(access: Access) -> ObjectPolicy:
    """Return what a change may do: only the KRSO makes CKA_TRUSTED true."""
    session = access.session
    return ObjectPolicy(security_officer=session is not None and not session.is_krco)


def says(template: Template, number: Cka, value: bytes) -> bool:
    """Return whether a template gives an attribute this very value."""
    return (int(number), value) in template


def changing(
    core: Core,
    caller: Caller,
    request: Request,
    keyring_id: bytes,
    *,
    token: bool,
    private: bool = False,
    fresh: bool = False,
    trusting: bool = False,
) -> Access:
    """Return what the caller may change, refusing early who may not.

    The KRSO may do one thing, and he alone: with `trusting` he says what is trusted.

    A new token object needs no fresh view: the primary checks everything inside the transaction.
    """
    if not token and not private:
        return reading(core, caller, request, keyring_id)
    if token and not fresh:
        view = core.lenient_view(keyring_id, request.ticket)
    else:
        view = core.view(keyring_id)
    may = core.role if trusting else core.krco
    return Access(core, caller, view, may(view, request.ticket, caller.client_id))


def change_of(access: Access, request: Request, write: Write | None) -> TokenChange:
    """Return the change that a request is, if changes can be made at all."""
    core = access.core
    core.require_writable()
    return TokenChange(
        core=core,
        caller=access.caller,
        request=request,
        keyring_id=KeyringId(access.view.keyring_id),
        write=check_write(write, core.page.cluster_time_ms()),
        keys=core.require_serving(),
    )


def made_once(
    access: Access, request: Request, write: Write | None, make: Callable[[], list[Attributes]]
) -> Any:
    """Make one object in no time: at once, or unless an earlier run of the same request has."""
    if write is None:
        return place(access, request, None, make(), pair=False)

    async def work() -> list[Attributes]:
        return make()

    return made_later(access, request, write, work(), pair=False)


async def made_later(
    access: Access, request: Request, write: Write | None, work: Any, *, pair: bool
) -> Any:
    """Make objects in the pool, unless an earlier run of the same request has (rule C21)."""
    if write is not None:
        try:
            recorded = await change_of(access, request, write).recorded()
        except BaseException:
            work.close()
            raise
        if recorded is not None:
            work.close()
            return recorded
    placed = place(access, request, write, await work, pair=pair)
    return await placed if asyncio.iscoroutine(placed) else placed


def place(
    access: Access,
    request: Request,
    write: Write | None,
    made: list[Attributes],
    *,
    pair: bool,
    ciphertext: bytes | None = None,
) -> Any:
    """Put new objects where they belong: blobs for the client, rows for the keyring.

    A ciphertext that one came with is told before it.
    """

    def told(results: list[ObjectResult]) -> Any:
        if ciphertext is not None:
            return [ciphertext, results[0]]
        return results if pair else results[0]

    if not any(is_token(attributes) for attributes in made):
        return told([session_object(access, attributes) for attributes in made])

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
        return Planned(told(results), writes=writes)

    return change_of(access, request, write).carry_out(access, plan)


async def in_pool(core: Core, work: Callable[[], T]) -> T:
    """Run what takes milliseconds in a thread; refuse it as BUSY when many do already."""
    if core.key_generations >= MAX_KEY_GENERATIONS:
        raise Unavailable(faults.BUSY, "Too many keys are being generated; try again.")
    core.key_generations += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(core.key_generation_pool, work)
    finally:
        core.key_generations -= 1
