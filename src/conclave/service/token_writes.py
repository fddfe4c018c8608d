"""Carry a change of token objects to the cluster process, and its outcome back.

Invariant: a token object exists, changes and goes only by a commit in the cluster process, which
checks ticket, lineage, limits and revisions again inside the transaction (rules C20, C21).  A
repetition under the same idempotency key gets the recorded result, even where the object that it
made or destroyed is gone by now: nobody is told "no such object" before the record was looked for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.errors import ConclaveError, Conflict, InternalFault, Unavailable
from conclave.ids import KeyringId, ObjectId
from conclave.keyring.attributes import Attributes, encode_attributes
from conclave.keyring.objects import is_private
from conclave.service.core import Core, Keys
from conclave.service.messages import (
    LookupWrite,
    ObjectDelete,
    ObjectWrite,
    WriteObjects,
    WriteResult,
)
from conclave.service.object_seal import ObjectName, PrivateSeal
from conclave.service.references import Access
from conclave.service.requests import Caller, Later, Pins
from conclave.service.wire import OBJECT_ID_BYTES, ObjectResult, Request, Write

MAX_TRIES: Final = 4
"""Runs of one change while others change the same object."""
FIRST_VERSION: Final = 1

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True, repr=False)
class Planned:
    """What a change comes to, as far as the view tells; without changes the result is final."""

    result: Any
    writes: list[ObjectWrite] = field(default_factory=list)
    deletes: list[ObjectDelete] = field(default_factory=list)


Plan = Callable[[Access], Planned]


@dataclass(frozen=True, slots=True, repr=False)
class TokenChange:
    """One request that changes token objects."""

    core: Core
    caller: Caller
    request: Request
    keyring_id: KeyringId
    write: Write
    keys: Keys

    async def carry_out(self, access: Access, plan: Plan) -> Any:
        """Plan and commit, planning again when somebody else changed the same object meanwhile."""
        try:
            return await self._commit_plan(access, plan)
        except Unavailable:
            raise
        except ConclaveError:
            recorded = await self.recorded()
            if recorded is None:
                raise
            return recorded

    async def recorded(self) -> msgspec.Raw | None:
        """Return the result of an earlier run of the same request, if there was one."""
        params = LookupWrite(
            client_id=self.caller.client_id,
            idempotency_key=self.write.idempotency_key,
            request_mac=self._request_mac(),
        )
        found: WriteResult = await self.core.call(
            "lookup_write", params, deadline_ms=self.write.deadline_ms
        )
        return msgspec.Raw(found.result) if found.repeated else None

    async def _commit_plan(self, access: Access, plan: Plan) -> Any:
        for attempt in range(1, MAX_TRIES + 1):
            planned = plan(access)
            if not planned.writes and not planned.deletes:
                return planned.result
            try:
                return await self._commit(planned)
            except Conflict as error:
                if error.fault is not faults.WRITE_CONFLICT or attempt == MAX_TRIES:
                    raise
            access = await self._fresh(access)
        raise InternalFault(faults.INTERNAL, "The loop above ends by itself.")

    async def _commit(self, planned: Planned) -> msgspec.Raw:
        params = WriteObjects(
            client_id=self.caller.client_id,
            ticket=self.request.ticket or b"",
            keyring_id=self.keyring_id,
            writes=planned.writes,
            deletes=planned.deletes,
            idempotency_key=self.write.idempotency_key,
            request_mac=self._request_mac(),
            deadline_ms=self.write.deadline_ms,
            result=_encode(planned.result),
        )
        done: WriteResult = await self.core.call(
            "write_objects", params, deadline_ms=self.write.deadline_ms
        )
        return msgspec.Raw(done.result)

    async def _fresh(self, old: Access) -> Access:
        pins: Pins = {}
        await self.core.load_view(self.keyring_id, pins)
        view = pins[self.keyring_id]
        try:
            session = self.core.role(view, self.request.ticket, self.caller.client_id)
        except Later as later:
            message = "The keys of tickets are being replaced; try again."
            raise Unavailable(faults.BUSY, message) from later
        return Access(self.core, old.caller, view, session)

    def _request_mac(self) -> bytes:
        # The keys that the request began with: those of the member may be on their way again.
        keys = self.keys
        text = self.request.operation.to_bytes(4, "big") + bytes(self.request.args)
        return hmac.digest(keys.request_mac_key, text, hashlib.sha256)


def new_object(access: Access, attributes: Attributes) -> tuple[ObjectWrite, ObjectResult]:
    """Return the row of a new token object and what its maker is told."""
    object_id = ObjectId(os.urandom(OBJECT_ID_BYTES))
    row = sealed(access, object_id, FIRST_VERSION, attributes)
    return row, ObjectResult(object_id, row.private, [])


def sealed(
    access: Access,
    object_id: ObjectId,
    version: int,
    attributes: Attributes,
    *,
    expected_revision: int = 0,
) -> ObjectWrite:
    """Return the row that attributes make under an id and a version."""
    name = ObjectName(access.view.keyring_id, object_id, version)
    tenant = _tenant_seal(access)
    private = is_private(attributes)
    plain = encode_attributes(attributes)
    if private:
        blob, mac = tenant.seal(name, plain), b""
    else:
        blob = access.core.require_serving().public_seal.seal(name, plain)
        mac = tenant.mac(name, blob)
    return ObjectWrite(
        object_id=object_id,
        private=private,
        version=version,
        blob=blob,
        mac=mac,
        expected_revision=expected_revision,
    )


def _tenant_seal(access: Access) -> PrivateSeal:
    if access.session is None or access.session.unlocked is None:
        raise InternalFault(faults.INTERNAL, "A token object was changed without a login.")
    return access.session.unlocked.seal
