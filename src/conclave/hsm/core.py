"""The shell around the HSM's rules: state in memory and on disk, one thread, one attempt at a time.

Invariant: the answer to a wrong password leaves only after its failure is counted on disk; if the
disk does not take it, the failure counts in memory and the answer says neither right nor wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeVar

from conclave import faults
from conclave.crypto.password_hash import Argon2Cost, new_salt
from conclave.errors import CredentialRefused, Unavailable
from conclave.hsm import keys, rules
from conclave.hsm.counts import HsmCounts
from conclave.hsm.keys import MasterKeys
from conclave.hsm.model import HsmState, Owner
from conclave.hsm.storage import (
    MASTER_KEY_NAME,
    STATE_NAME,
    StateFile,
    make_master_key,
    read_master_key,
)
from conclave.hsm.views import CredentialVersion
from conclave.keyed_locks import KeyedLocks

PasswordHasher = Callable[[bytes, bytes, str], Awaitable[bytes]]
"""hasher(password, salt, source) -> 32 bytes of Argon2id, made by the login process (C8)."""
_LONGEST_QUEUE: Final = 16
"""Attempts that wait at one credential: failures are counted one after the other."""
SoLockout = Literal["zeroize", "backoff"]
Result = TypeVar("Result")
Transition = Callable[[HsmState], HsmState]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Proof:
    """What a right password gave, and the version of the credential that it belongs to."""

    secret: bytes
    version: CredentialVersion


class HsmCore:
    """State, keys and attempts of one HSM."""

    def __init__(
        self,
        hasher: PasswordHasher,
        cost: Argon2Cost,
        so_lockout: SoLockout,
        boot_ms: Callable[[], int],
    ) -> None:
        self._hasher = hasher
        self._cost = cost
        self._zeroizes = so_lockout == "zeroize"
        self._boot_ms = boot_ms
        self._gates = KeyedLocks[Owner](longest_queue=_LONGEST_QUEUE)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hsm")
        self._changing = asyncio.Lock()
        self._so_waits_until_ms = 0
        self.on_smk_lost: Callable[[], None] = _nothing
        """Called after a change that destroyed or replaced a partition's SMK."""
        self.counts: Final = HsmCounts()
        self._file: StateFile
        self.keys: MasterKeys
        self.state: HsmState

    async def open(self, directory: Path, new_serial: str) -> None:
        """Open the HSM in `directory`, or make one with `new_serial`."""
        await self._on_thread(lambda: self._open(directory, new_serial))
        self._delay_so()

    async def close(self) -> None:
        """Close the state's file and end its thread."""
        await self._on_thread(self._close)
        self._thread.shutdown(wait=False)

    async def apply(self, transition: Transition, *, tell: bool = True) -> None:
        """Replace the state by what `transition` makes of it, durably, one at a time.

        `tell` False keeps a replaced SMK from the listener: its caller replaced it on purpose.
        """
        with self.counts.counting():
            await self._apply(transition, tell=tell)

    async def _apply(self, transition: Transition, *, tell: bool = True) -> None:
        async with self._changing:
            before = self.state
            changed = transition(before)
            if changed is not before:
                await self._on_thread(lambda: self._file.save(changed))
                self.state = changed
                if tell:
                    self._tell(before, changed)

    async def password_key(self, password: bytes, source: str) -> tuple[bytes, bytes]:
        """Return a new salt of the configured cost and the key that a new password gives."""
        salt = new_salt(self._cost)
        return salt, await self._hasher(password, salt, source)

    async def prove(self, owner: Owner, password: bytes, source: str) -> Proof:
        """Return what the right password opens; count the failure of a wrong one.

        Raises CredentialRefused, NotAllowed when locked or zeroized, Unavailable when busy or when
        the credential was replaced meanwhile.
        """
        rules.check_password("password", password, shortest=1)
        with self.counts.counting():
            async with self._gates.hold(owner):
                return await self._prove_alone(owner, password, source)

    async def _prove_alone(self, owner: Owner, password: bytes, source: str) -> Proof:
        rules.require_unlocked(self.state, owner)
        self._require_so_may_try(owner)
        credential = rules.find_credential(self.state, owner)
        key = await self._hasher(password, credential.salt, source)
        secret = keys.open_credential(self.keys, owner, credential, key)
        if secret is None:
            await self._refuse(owner, credential.version)

        def transition(state: HsmState) -> HsmState:
            rules.require_version(state, owner, credential.version)
            return rules.after_success(state, owner)

        await self._apply(transition)
        return Proof(secret, credential.version)

    async def _refuse(self, owner: Owner, version: CredentialVersion) -> NoReturn:
        async with self._changing:
            # In memory first: a disk that takes no more must not give free guesses.
            before = self.state
            rules.require_version(before, owner, version)
            counted = rules.after_failure(before, owner, zeroizes=self._zeroizes)
            self.state = counted
            self._tell(before, counted)
            self._delay_so()
            await self._on_thread(lambda: self._file.save(counted))
        if owner.is_so:
            _log.warning("HSM Admin Login: incorrect password or PED key")
        if counted.zeroized:
            _log.error("HSM Admin Login: HSM Zeroized due to three consecutive bad login attempts.")
            message = "The HSM SO password was wrong too often: the HSM is zeroized."
            raise CredentialRefused(faults.HSM_ZEROIZED, message)
        left = rules.attempts_left(counted, owner, rules.find_credential(counted, owner))
        message = f"The password of role {owner.role.value} is wrong; {left} attempts are left."
        raise CredentialRefused(faults.CREDENTIAL_INCORRECT, message)

    def _tell(self, before: HsmState, after: HsmState) -> None:
        if rules.smks_lost(before, after):
            self.on_smk_lost()

    def _delay_so(self) -> None:
        failures = self.state.so.failures if self.state.so else 0
        self._so_waits_until_ms = self._boot_ms() + 1000 * rules.backoff_seconds(failures)

    def _require_so_may_try(self, owner: Owner) -> None:
        remaining_ms = self._so_waits_until_ms - self._boot_ms()
        if owner.is_so and remaining_ms > 0:
            seconds = -(-remaining_ms // 1000)
            message = f"After wrong HSM SO passwords the next try is possible in {seconds} s."
            raise Unavailable(faults.BUSY, message)

    async def _on_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _close(self) -> None:
        self._file.close()

    def _open(self, directory: Path, new_serial: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        state_path = directory / STATE_NAME
        if not state_path.exists():
            make_master_key(directory / MASTER_KEY_NAME)
        self.keys = MasterKeys.derive(read_master_key(directory / MASTER_KEY_NAME))
        self._file = StateFile(state_path, self.keys)
        found = self._file.load()
        if found is None:
            found = HsmState(serial=new_serial)
            self._file.save(found)
        self.state = found


def _nothing() -> None:
    """Serve as the listener of an HSM that nobody listens to."""
