"""Whoever has one line to the network is one source of connections, logins and joins."""

from __future__ import annotations

import pytest

from conclave.appliance.login_delays import SOURCE_RULE, KeyDelays, LoginDelays
from conclave.cluster.join_limiter import JoinLimiter
from conclave.errors import Unavailable
from conclave.source_networks import network_of


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("unknown", "unknown"),
    ],
)
def test_a_source_is_an_ipv4_address_or_64_bits_of_ipv6(source: str, network: str) -> None:
    assert network_of(source) == network


def test_another_address_of_the_same_network_ends_no_delay() -> None:
    passwords, keys = LoginDelays(now_ms=lambda: 0), KeyDelays(now_ms=lambda: 0)
    for number in range(SOURCE_RULE.free_failures + 1):
        passwords.failed(f"user{number}", f"2001:db8::{number:x}")
        keys.failed(f"user{number}", f"2001:db8::{number:x}")
    for delays in (passwords, keys):
        assert list(delays.waiting_sources()) == ["2001:db8::/64"]
        with pytest.raises(Unavailable):
            delays.check("admin", "2001:db8::ffff")
        delays.check("admin", "2001:db8:0:1::ffff")


def test_a_network_has_one_attempt_to_join_at_a_time() -> None:
    limiter = JoinLimiter(now_ms=lambda: 0)
    with limiter.attempt("2001:db8::1"):
        with pytest.raises(Unavailable), limiter.attempt("2001:db8::2"):
            pass
        with limiter.attempt("2001:db8:0:1::2"):
            pass
