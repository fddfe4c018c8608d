"""What a request was let through on, for those that must wait before they use it.

Invariant: what waits goes on only if client, keyring and member are still as they were when it was
let through (rule C15); asked again, it is let through anew, or not.
"""

from __future__ import annotations

from typing import NamedTuple

from conclave import faults
from conclave.errors import Unavailable
from conclave.ids import KeyringId
from conclave.service.cache import KeyringView
from conclave.service.core import Core
from conclave.service.requests import Caller


class Ground(NamedTuple):
    """The generations under which a request was let through."""

    everything: int
    clients: int
    keyring: int


def ground_of(core: Core, view: KeyringView, caller: Caller) -> Ground:
    """Return what a request was let through on."""
    return Ground(core.global_generation, caller.client_generation, view.generation)


def require_ground(core: Core, ground: Ground, keyring_id: KeyringId) -> None:
    """Look at the page again after a wait; raise Unavailable when anything has changed."""
    core.begin_batch()
    core.require_serving()
    now = Ground(
        core.global_generation,
        core.page.client_generation(),
        core.page.keyring_generation(keyring_id),
    )
    if now != ground:
        message = "Client, keyring or member changed while this was waited for; try again."
        raise Unavailable(faults.BUSY, message)
