"""Clocks: an offset is changed, never the host (rule T1)."""

from __future__ import annotations

import time

from conclave.clock import ApplianceClock, ClusterClock, boot_time_ms, host_time_ms


def test_rule_t1_the_offset_moves_appliance_time_and_not_the_host() -> None:
    offset = 0
    clock = ApplianceClock(lambda: offset, lambda: 1_000_000)
    assert clock.now_ms() == 1_000_000
    offset = -500
    assert clock.now_ms() == 999_500
    assert clock.now().timestamp() == 999.5
    assert clock.now().utcoffset() is not None


def test_cluster_time_is_boot_time_and_an_offset() -> None:
    assert ClusterClock(lambda: 5, lambda: 10).now_ms() == 15


def test_the_hosts_clocks_are_in_milliseconds() -> None:
    assert abs(host_time_ms() / 1000 - time.time()) < 5
    first = boot_time_ms()
    assert boot_time_ms() >= first
