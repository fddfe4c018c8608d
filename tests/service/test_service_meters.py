"""Counts of a worker: exact, shared, and kept over a respawn."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from conclave.service.meters import BUCKETS_S, UNKNOWN, Meters, Use, now_ns

RSA, ECDSA = 0x1, 0x1041


@pytest.fixture
def daemon() -> Iterator[Meters]:
    meters = Meters.create()
    yield meters
    meters.close()


def writer(daemon: Meters) -> Meters:
    return Meters(os.dup(daemon.fd), writable=True)


def test_the_daemon_reads_what_a_worker_counts(daemon: Meters) -> None:
    worker = writer(daemon)
    assert list(daemon.readings()) == []
    worker.done(Use.SIGN, RSA, now_ns() - 2_000_000_000)
    worker.done(Use.SIGN, RSA, now_ns())
    worker.failed(Use.VERIFY, ECDSA)
    worker.close()
    signed, verified = daemon.readings()
    assert (signed.use, signed.mechanism, signed.failures) == (Use.SIGN, RSA, 0)
    assert sum(signed.classes) == 2
    assert signed.classes[len(BUCKETS_S)] == 1
    assert signed.seconds >= 2
    assert (verified.use, verified.mechanism, verified.failures) == (Use.VERIFY, ECDSA, 1)


def test_a_respawned_worker_goes_on_counting(daemon: Meters) -> None:
    for _ in range(3):
        worker = writer(daemon)
        worker.failed(Use.DECRYPT, RSA)
        worker.failed(Use.ENCRYPT, RSA)
        worker.close()
    assert [(each.use, each.failures) for each in daemon.readings()] == [
        (Use.DECRYPT, 3),
        (Use.ENCRYPT, 3),
    ]


def test_numbers_that_name_no_mechanism_share_a_row(daemon: Meters) -> None:
    worker = writer(daemon)
    for number in range(3000):
        worker.failed(Use.DECRYPT, (1 << 64) - 1 - number)
    worker.done(Use.SIGN, RSA, now_ns())
    worker.close()
    readings = list(daemon.readings())
    assert [(each.use, each.mechanism, each.failures) for each in readings] == [
        (Use.DECRYPT, UNKNOWN, 3000),
        (Use.SIGN, RSA, 0),
    ]
