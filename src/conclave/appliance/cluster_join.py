"""The daemon's steps of a join, in their order.

Invariant: until the members are asked to take this one in (`join_commit`), every failure leaves
HSM, identity and store as they were.  The SMK enters the partition last before that, when all that
could be refused was accepted; a certificate outlives the join only if there is a cluster.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from conclave import faults
from conclave.appliance.cluster_config import ClusterConfig
from conclave.appliance.member_identity import MemberIdentity
from conclave.errors import ConclaveError, Unavailable
from conclave.hsm.hsm import Hsm
from conclave.hsm.rules import DEFAULT_DOMAIN
from conclave.service.messages import ClusterList, JoinPrepare, JoinPrepared, JoinProgress
from conclave.service.quiet import Nothing, Quiet

LIMIT_SECONDS: Final = 24 * 3600.0
"""Longest time of one step, however much it moves on."""
STALL_SECONDS: Final = 300.0
"""A step that does not move on for so long has failed."""
POLL_SECONDS: Final = 0.5
CALL_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]


class Processes(Protocol):
    """What a join needs of the processes of the service."""

    async def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Quiet:
        """Call the cluster process."""

    def keep_smk(self, smk: bytes, domain: bytes) -> None:
        """Hold SMK and domain."""

    def forget_smk(self) -> None:
        """Wipe them."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JoinRequest:
    """What an administrator gives for a join."""

    cluster_id: str
    remote_address: str
    remote_admin_password: bytes
    remote_fingerprint: str
    partition_label: str
    co_password: bytes
    source: str = "local"


class Join:
    """One attempt to join."""

    def __init__(
        self,
        request: JoinRequest,
        *,
        hsm: Hsm,
        identity: MemberIdentity,
        processes: Processes,
        config: ClusterConfig,
        tell: Tell,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._request = request
        self._hsm = hsm
        self._identity = identity
        self._processes = processes
        self._config = config
        self._tell = tell
        self._stall_seconds = stall_seconds

    async def run(self) -> JoinPrepared:
        """Join, and return what the cluster gave; the caller presents the certificate."""
        request = self._request
        await self._hsm.verify_cluster_co(
            request.co_password, request.partition_label, source=request.source
        )
        domain = self._hsm.cluster_domain()
        try:
            prepared = cast(
                JoinPrepared, await self._followed("join_prepare", self._preparation(domain))
            )
            await self._identity.set_certificate(
                prepared.member_certificate_pem, prepared.ca_certificate_pem, prepared.member_id
            )
            await self._hsm.import_smk(
                request.partition_label,
                request.co_password,
                prepared.smk,
                source=request.source,
            )
            self._processes.keep_smk(prepared.smk, domain)
            await self._commit(prepared)
        except BaseException:
            await self._undo()
            raise
        return prepared

    def _preparation(self, domain: bytes) -> JoinPrepare:
        request, config = self._request, self._config
        return JoinPrepare(
            cluster_id=request.cluster_id,
            remote_address=request.remote_address,
            remote_admin_password=request.remote_admin_password,
            remote_fingerprint=request.remote_fingerprint,
            domain=domain,
            default_domain=domain == DEFAULT_DOMAIN,
            member_id=str(uuid.uuid4()),
            member_name=f"LNH-{self._hsm.info().serial}",
            address=config.core_address or "",
            admin_port=config.admin.port,
            crypto_port=config.crypto.port,
        )

    async def _commit(self, prepared: JoinPrepared) -> None:
        try:
            await self._followed("join_commit", Nothing())
        except Unavailable as failure:
            # The process may have died after the members had taken this one in.
            if failure.fault is not faults.OUTCOME_UNKNOWN or not await self._is_in(prepared):
                raise

    async def _is_in(self, prepared: JoinPrepared) -> bool:
        try:
            answer = await self._processes.call(
                "list_clusters", Nothing(), timeout_seconds=CALL_SECONDS
            )
        except ConclaveError as failure:
            # Should it be in after all, the cluster process tells so once it can.
            _log.warning("what became of the join is not known: %s", failure.message)
            return False
        found = cast(ClusterList, answer).clusters
        return any(cluster.cluster_id == prepared.cluster_id for cluster in found)

    async def _undo(self) -> None:
        self._processes.forget_smk()
        await self._identity.forget_certificate()
        try:
            await self._processes.call("join_abort", Nothing(), timeout_seconds=CALL_SECONDS)
        except ConclaveError as failure:
            _log.warning("the join could not be called off: %s", failure.message)

    # ---- a call that takes long

    async def _followed(self, method: str, params: Quiet) -> Quiet:
        """Call a method and tell how far it is; raise Unavailable when it does not move on."""
        working = asyncio.create_task(
            self._processes.call(method, params, timeout_seconds=LIMIT_SECONDS)
        )
        try:
            await self._until_done(working)
            return working.result()
        finally:
            working.cancel()
            await asyncio.wait({working})

    async def _until_done(self, working: asyncio.Task[Quiet]) -> None:
        loop = asyncio.get_running_loop()
        last, moved = None, loop.time()
        while not (await asyncio.wait({working}, timeout=POLL_SECONDS))[0]:
            progress = await self._progress()
            if progress is not None and progress != last:
                last, moved = progress, loop.time()
                self._tell(f"{progress.step} ({progress.fraction:.0%})")
            elif loop.time() - moved > self._stall_seconds:
                step = last.step if last is not None else "its first step"
                message = f"The join did not move on for {self._stall_seconds:.0f} s in: {step}"
                raise Unavailable(faults.OUTCOME_UNKNOWN, message)

    async def _progress(self) -> JoinProgress | None:
        try:
            answer = await self._processes.call("join_progress", Nothing(), timeout_seconds=5.0)
        except ConclaveError:
            return None  # the call that is followed says what is wrong
        return cast(JoinProgress, answer)
