"""Refused SSH keys: counted by source, and never against a user elsewhere."""

from __future__ import annotations

from conclave.appliance.login_delays import SOURCE_RULE, USER_RULE, KeyDelays

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
