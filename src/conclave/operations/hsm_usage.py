"""How much an HSM was used, in the shape that billing agents read, and what it is licensed for."""

from __future__ import annotations

from collections import Counter
from typing import Final

from conclave import faults
from conclave.operations.hsm import HSM, check_hsm
from conclave.operations.model import READERS, Call, NoArguments, Reply, Result, operation
from conclave.operations.reveals import Reveals
from conclave.service.meters import Use

_CLUSTER_PARTITION_VERSION: Final = 1


class UsageCounter(Result, frozen=True):
    """One count: `REQUESTS` are all that were tried, `ERRORS` those of them that failed."""

    counter_id: str
    count: int


class UsageBin(Result, frozen=True):
    """Counts of one kind of operation."""

    bin_id: str
    counters: list[UsageCounter]


class PartitionUsage(Result, frozen=True):
    """What a partition was used for."""

    partition_id: str
    label: str
    bins: list[UsageBin]


class HsmUsage(Result, frozen=True):
    """Counts of this appliance since the start of its cluster service, by partition."""

    metrics: list[PartitionUsage]


class License(Result, frozen=True):
    """One licence."""

    id: str
    description: str


class Licenses(Result, frozen=True):
    """What the HSM is licensed for."""

    licenses: list[License]


@operation(
    "hsm.metrics",
    "GET",
    f"{HSM}/metrics",
    summary="Show what this appliance's partitions did since the start of the cluster service.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.USE,
    statuses=(200,),
    result=HsmUsage,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    paged=True,
    only="REST: billing agents read it; people read /metrics through their monitoring",
)
async def show_metrics(call: Call, _arguments: NoArguments) -> Reply:
    """Show the counts; keyrings, which do all cryptography, live on the V1 partition."""
    used, unused = _bins(_counts(call)), _bins(Counter())
    return Reply(
        body=HsmUsage(
            metrics=[
                PartitionUsage(
                    partition_id=each.partition_id,
                    label=each.label or each.name,
                    bins=used if each.version == _CLUSTER_PARTITION_VERSION else unused,
                )
                for each in call.appliance.hsm.partitions()
            ]
        )
    )


@operation(
    "hsm.licenses",
    "GET",
    f"{HSM}/licenses",
    summary="List the HSM's licences: software under the Apache License needs no other.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.NOTHING,
    statuses=(200,),
    result=Licenses,
    checks=(check_hsm,),
    faults=(faults.INVALID_HSM,),
    paged=True,
    only="REST: monitoring programs read it; it says the same of every appliance",
)
async def list_licenses(_call: Call, _arguments: NoArguments) -> Reply:
    """List the licence of the software."""
    ours = License(
        id="Apache-2.0", description="Conclave; no licence limits its functions, size or clients."
    )
    return Reply(body=Licenses(licenses=[ours]))


def _counts(call: Call) -> Counter[tuple[Use, str]]:
    counts: Counter[tuple[Use, str]] = Counter()
    processes = call.appliance.cluster.processes
    for readings in () if processes is None else processes.readings().values():
        for each in readings:
            counts[each.use, "REQUESTS"] += sum(each.classes) + each.failures
            counts[each.use, "ERRORS"] += each.failures
    return counts


def _bins(counts: Counter[tuple[Use, str]]) -> list[UsageBin]:
    return [
        UsageBin(
            bin_id=use.name,
            counters=[
                UsageCounter(counter_id=name, count=counts[use, name])
                for name in ("REQUESTS", "ERRORS")
            ],
        )
        for use in Use
    ]
