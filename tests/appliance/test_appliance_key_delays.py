"""Refused SSH keys: counted by source, and never against a user elsewhere."""

from __future__ import annotations

import tracemalloc

import pytest

from conclave import faults
from conclave.appliance.login_delays import SOURCE_RULE, USER_RULE, KeyDelays, LoginDelays
from conclave.errors import Unavailable

HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_refused_keys_of_one_user_from_one_source_are_delayed() -> None:
    now = [0]
    delays = KeyDelays(now_ms=lambda: now[0])
    for _ in range(USER_RULE.free_failures):
        delays.failed("admin", HERE)
        assert not delays.waits("admin", HERE)
    delays.failed("admin", HERE)
    assert delays.waits("admin", HERE)
    assert not delays.waits("admin", THERE)
    assert not delays.waits("operator", HERE)
    now[0] += USER_RULE.first_ms
    assert not delays.waits("admin", HERE)
    delays.failed("admin", HERE)
    now[0] += USER_RULE.first_ms
    assert delays.waits("admin", HERE)


def test_refused_keys_of_many_names_delay_their_source_alone() -> None:
    delays = KeyDelays(now_ms=lambda: 0)
    for number in range(SOURCE_RULE.free_failures + 1):
        delays.failed(f"user{number}", HERE)
    assert delays.waits("admin", HERE)
    assert not delays.waits("admin", THERE)


def test_a_proven_key_is_forgiven_what_came_before() -> None:
    delays = KeyDelays(now_ms=lambda: 0)
    for _ in range(USER_RULE.free_failures):
        delays.failed("admin", HERE)
    delays.succeeded("admin", HERE)
    delays.failed("admin", HERE)
    assert not delays.waits("admin", HERE)


def test_a_key_that_must_wait_is_told_for_how_long() -> None:
    delays = KeyDelays(now_ms=lambda: 0)
    for _ in range(USER_RULE.free_failures + 2):
        delays.failed("admin", HERE)
    with pytest.raises(Unavailable, match=r"refused keys.* 2 s\.$") as refusal:
        delays.check("admin", HERE)
    assert refusal.value.fault is faults.LOGIN_DELAYED
    delays.check("admin", THERE)
    assert delays.waiting_sources() == {}
    for _ in range(SOURCE_RULE.free_failures):
        delays.failed("", HERE)
    assert list(delays.waiting_sources()) == [HERE]


def test_long_names_are_told_apart_and_take_no_memory() -> None:
    delays = LoginDelays(now_ms=lambda: 0)
    names = [f"{number:04}" + "x" * 100_000 for number in range(20)]
    tracemalloc.start()
    try:
        for name in names:
            for number in range(USER_RULE.free_failures + 1):
                delays.failed("".join([name, "y"]), f"192.0.2.{number}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
    with pytest.raises(Unavailable):
        delays.check(names[0] + "y", THERE)
    delays.check(names[0] + "z", THERE)
    delays.forget(names[0] + "y")
    delays.check(names[0] + "y", THERE)
