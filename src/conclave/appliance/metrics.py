"""What monitoring reads of an appliance, in Prometheus's text format (rule D7)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from cryptography import x509
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import conclave
from conclave.appliance.cluster_service import ClusterService
from conclave.appliance.package_version import ClusterPackage
from conclave.clock import ApplianceClock
from conclave.crypto.standard import Ckm, name_of
from conclave.errors import ConclaveError
from conclave.service.client_messages import ClientList
from conclave.service.messages import KeyringList, ListKeyrings, MemberList, MemberSummary
from conclave.service.meters import BUCKETS_S, Reading
from conclave.service.quiet import Nothing

_KEYRINGS_KEPT_SECONDS: Final = 15.0
_SECONDS_A_DAY: Final = 86_400
_MEMBER: Final = ("member", "name", "group")


@dataclass(frozen=True, slots=True)
class KeyringTotals:
    """Keyrings of the cluster."""

    keyrings: int
    locked: int
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is shown; what cannot be asked while the service is stopped is None or empty."""

    version: str
    package: str
    service_running: bool
    authorized: bool
    certificate_days: float | None
    members: tuple[MemberSummary, ...] = ()
    cluster_time_ms: int = 0
    totals: KeyringTotals | None = None
    clients: int | None = None
    readings: Mapping[int, Iterable[Reading]]


class Metrics:
    """Take snapshots of one appliance."""

    def __init__(
        self, cluster: ClusterService, package: ClusterPackage, clock: ApplianceClock
    ) -> None:
        self._cluster = cluster
        self._package = package
        self._clock = clock
        self._totals: KeyringTotals | None = None
        self._totals_until = 0.0

    async def text(self) -> str:
        """Return all metrics as text."""
        return render(await self._snapshot())

    async def _snapshot(self) -> Snapshot:
        status = self._cluster.status()
        processes = self._cluster.processes
        members: tuple[MemberSummary, ...] = ()
        totals, clients = None, None
        try:
            listed = cast(MemberList, await self._cluster.call("list_members", Nothing()))
            members = tuple(listed.members)
            if members:
                totals = await self._keyring_totals()
                found = cast(ClientList, await self._cluster.call("list_clients", Nothing()))
                clients = len(found.clients)
        except ConclaveError:
            # Stopped, or not authorized: the gauges below say so, the rest is absent.
            pass
        certificate = "" if processes is None else processes.presented
        now = self._clock.now()
        return Snapshot(
            version=conclave.__version__,
            package=self._package.version,
            service_running=status.status == "running",
            authorized=status.authorized,
            certificate_days=_days_left(certificate, now.timestamp()) if certificate else None,
            members=members,
            cluster_time_ms=int(now.timestamp() * 1000),
            totals=totals,
            clients=clients,
            readings={} if processes is None else processes.readings(),
        )

    async def _keyring_totals(self) -> KeyringTotals:
        # Thousands of rows are read: not more often than monitoring needs.
        if self._totals is None or time.monotonic() >= self._totals_until:
            answer = await self._cluster.call("list_keyrings", ListKeyrings())
            keyrings = cast(KeyringList, answer).keyrings
            self._totals = KeyringTotals(
                keyrings=len(keyrings),
                locked=sum(keyring.locked for keyring in keyrings),
                objects=sum(keyring.object_count for keyring in keyrings),
            )
            self._totals_until = time.monotonic() + _KEYRINGS_KEPT_SECONDS
        return self._totals


def render(snapshot: Snapshot) -> str:
    """Return a snapshot in Prometheus's text format, version 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Snapshots(snapshot))
    return generate_latest(registry).decode()


class _Snapshots(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Return all families."""
        yield from _service(self._snapshot)
        yield from _members(self._snapshot)
        yield from _keyrings(self._snapshot)
        yield from _mechanisms(self._snapshot)


def _service(snapshot: Snapshot) -> Iterator[Metric]:
    about = {"version": snapshot.version, "package": snapshot.package}
    yield InfoMetricFamily("conclave", "What runs here.", value=about)
    for name, text, value in (
        ("service_running", "1 while the cluster service runs.", snapshot.service_running),
        ("authorized", "1 while this member holds the SMK.", snapshot.authorized),
        (
            "certificate_days",
            "Days until the member's certificate ends.",
            snapshot.certificate_days,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"conclave_{name}", text, value=float(value))


def _members(snapshot: Snapshot) -> Iterator[Metric]:
    gauges = (
        ("visible", "1 for a member that this one sees.", lambda each: each.visible),
        ("primary", "1 for the primary.", lambda each: each.primary),
        ("read_write", "1 for a member in Read-Write mode.", lambda each: each.read_write),
        ("authorized", "1 for a member that holds the SMK.", lambda each: each.authorized),
        ("restart_required", "1 where a restart is due.", lambda each: each.restart_required),
        (
            "behind_bytes",
            "Log that the member has not replayed, as the primary knows; -1 elsewhere.",
            lambda each: each.behind_bytes,
        ),
        (
            "silent_seconds",
            "Seconds since a member was last heard; 0 for this one and for one never heard.",
            lambda each: _silence(each, snapshot.cluster_time_ms),
        ),
    )
    for name, text, value in gauges:
        family = GaugeMetricFamily(f"conclave_member_{name}", text, labels=_MEMBER)
        for member in snapshot.members:
            family.add_metric([member.member_id, member.name, member.group], float(value(member)))
        yield family


def _keyrings(snapshot: Snapshot) -> Iterator[Metric]:
    if (totals := snapshot.totals) is not None:
        yield GaugeMetricFamily("conclave_keyrings", "Keyrings.", value=totals.keyrings)
        yield GaugeMetricFamily("conclave_keyrings_locked", "Locked ones.", value=totals.locked)
        yield GaugeMetricFamily("conclave_objects", "Token objects.", value=totals.objects)
    if snapshot.clients is not None:
        yield GaugeMetricFamily("conclave_clients", "Registered clients.", value=snapshot.clients)


def _mechanisms(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("use", "mechanism", "worker")
    spent = HistogramMetricFamily(
        "conclave_operation_seconds", "Time inside a mechanism, without waiting.", labels=labels
    )
    failed = CounterMetricFamily(
        "conclave_operation_failures", "Operations that a mechanism refused.", labels=labels
    )
    for worker, readings in snapshot.readings.items():
        for reading in readings:
            row = [reading.use.name.lower(), name_of(Ckm, reading.mechanism), str(worker)]
            spent.add_metric(row, _buckets(reading.classes), reading.seconds)
            failed.add_metric(row, reading.failures)
    yield spent
    yield failed


def _buckets(classes: tuple[int, ...]) -> list[tuple[str, float]]:
    ends = [*(str(end) for end in BUCKETS_S), "+Inf"]
    total = 0
    found: list[tuple[str, float]] = []
    for end, count in zip(ends, classes, strict=True):
        total += count
        found.append((end, total))
    return found


def _silence(member: MemberSummary, now_ms: int) -> float:
    return max(0, now_ms - member.last_contact_ms) / 1000 if member.last_contact_ms else 0.0


def _days_left(certificate_pem: str, now_s: float) -> float:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    return (certificate.not_valid_after_utc.timestamp() - now_s) / _SECONDS_A_DAY
