"""The rules of the cluster service's configuration (S5, S6, K1), as functions."""

from __future__ import annotations

import msgspec
import pytest

from conclave.appliance import cluster_config
from conclave.appliance.cluster_config import Setup, StoredClusterConfig
from conclave.errors import BadInput, Conflict, NotAllowed

INTERFACES = {"eth0": "127.9.9.1", "eth1": "127.9.9.2"}
NOTHING = StoredClusterConfig()


def test_s6_core_address_must_be_one_of_the_interfaces() -> None:
    with pytest.raises(BadInput, match=r"eth0 127\.9\.9\.1.*eth1 127\.9\.9\.2"):
        cluster_config.with_core_address(NOTHING, "127.9.9.3", INTERFACES)
    with pytest.raises(BadInput, match="IP address"):
        cluster_config.with_core_address(NOTHING, "eth0", INTERFACES)


def test_s6_core_address_is_fixed_once_set() -> None:
    first = cluster_config.with_core_address(NOTHING, "127.9.9.1", INTERFACES)
    assert cluster_config.with_core_address(first, "127.9.9.1", INTERFACES) == first
    with pytest.raises(Conflict, match="factory reset"):
        cluster_config.with_core_address(first, "127.9.9.2", INTERFACES)


def test_s6_start_needs_a_core_address_that_still_exists() -> None:
    config = cluster_config.effective(NOTHING, 50070, 50052)
    with pytest.raises(NotAllowed, match="set it"):
        cluster_config.require_core_address(config, INTERFACES)
    stored = StoredClusterConfig(core_address="127.9.9.1")
    moved = cluster_config.effective(stored, 50070, 50052)
    with pytest.raises(NotAllowed, match="no address of the appliance any more"):
        cluster_config.require_core_address(moved, {"eth0": "127.9.9.7"})


@pytest.mark.parametrize(
    ("service", "port", "allowed"),
    [
        *(("admin", port, True) for port in (50070, 50075, 50079)),
        *(("crypto", port, True) for port in (50052, 50055, 50059)),
        ("crypto", 50075, False),
        ("crypto", 50070, False),
        ("admin", 50055, False),
        ("admin", 50080, False),
        ("admin", 0, False),
        ("crypto", 443, False),
    ],
)
def test_ports_outside_their_range_are_refused_naming_both(
    service: str, port: int, allowed: bool
) -> None:
    if allowed:
        stored = cluster_config.with_listener(NOTHING, service, None, port, INTERFACES)
        config = cluster_config.effective(stored, 50070, 50052)
        assert getattr(config, service).port == port
        return
    with pytest.raises(BadInput, match=r"50075 to 50079.*50055 to 50059"):
        cluster_config.with_listener(NOTHING, service, None, port, INTERFACES)


def test_s7_a_former_crypto_port_stays_open_until_its_time_is_over() -> None:
    stored = cluster_config.with_former_port(NOTHING, 50052, 50055, until_ms=1000)
    assert cluster_config.with_former_port(stored, 50055, 50055, until_ms=3000) is stored
    stored = cluster_config.with_former_port(stored, 50055, 50056, until_ms=2000)
    stored = cluster_config.with_listener(stored, "crypto", None, 50056, INTERFACES)
    config = cluster_config.effective(stored, 50070, 50052)
    assert cluster_config.open_ports(config, 999) == [50056, 50052, 50055]
    assert cluster_config.open_ports(config, 1000) == [50056, 50055]
    assert cluster_config.open_ports(config, 2000) == [50056]
    back = cluster_config.with_former_port(stored, 50056, 50052, until_ms=4000)
    assert [each.port for each in back.former_crypto_ports] == [50055, 50056]


def test_listener_needs_a_known_interface_and_something_to_set() -> None:
    with pytest.raises(BadInput, match="eth0, eth1"):
        cluster_config.with_listener(NOTHING, "admin", "eth7", None, INTERFACES)
    with pytest.raises(BadInput, match="interface or a port"):
        cluster_config.with_listener(NOTHING, "admin", None, None, INTERFACES)
    with pytest.raises(BadInput, match="core, admin, crypto or identity"):
        cluster_config.with_listener(NOTHING, "other", "eth0", None, INTERFACES)


def test_listen_address_is_the_interface_or_the_only_address_or_all() -> None:
    assert cluster_config.listen_address("eth1", INTERFACES) == "127.9.9.2"
    assert cluster_config.listen_address(None, {"eth0": "127.9.9.1"}) == "127.9.9.1"
    assert cluster_config.listen_address(None, INTERFACES) == "0.0.0.0"  # noqa: S104
    assert cluster_config.listen_address(None, INTERFACES | {"eth2": "::1"}) == "::"


def test_k1_identity_is_chosen_before_the_cluster_exists() -> None:
    dual = cluster_config.with_identity(NOTHING, "dual")
    assert dual.identity == "dual"
    with pytest.raises(BadInput, match="single or dual"):
        cluster_config.with_identity(NOTHING, "triple")
    made = msgspec.structs.replace(dual, cluster_created=True)
    assert cluster_config.with_identity(made, "dual") == made
    with pytest.raises(Conflict, match="factory reset"):
        cluster_config.with_identity(made, "single")


def setup(certificate: str = "one", version: str = "1.0", **stored: object) -> Setup:
    config = cluster_config.effective(msgspec.structs.replace(NOTHING, **stored), 50070, 50052)
    return Setup(config, certificate, version)


def test_s5_what_runs_as_configured_asks_for_no_restart() -> None:
    assert cluster_config.restart_causes(setup(), setup()) == ()
    assert cluster_config.restart_causes(setup(), setup(on_boot=True, identity="dual")) == ()


@pytest.mark.parametrize(
    ("wanted", "cause"),
    [
        (setup(admin_port=50075), "admin port"),
        (setup(admin_interface="eth1"), "admin interface"),
        (setup(crypto_port=50055), "crypto port"),
        (setup(crypto_interface="eth1"), "crypto interface"),
        (setup(certificate="another"), "certificate"),
        (setup(version="1.1"), "package version"),
    ],
)
def test_s5_each_difference_is_a_cause_of_a_restart(wanted: Setup, cause: str) -> None:
    assert cluster_config.restart_causes(setup(), wanted) == (cause,)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("somewhere", "an IP address"),
        ("127.0.0.1", "another appliance's"),
        ("0.0.0.0", "one member"),  # noqa: S104 - refused, not bound
        ("::", "one member"),
        ("224.0.0.1", "one member"),
    ],
)
def test_the_address_of_a_member_to_join_names_one_other_appliance(address: str, rule: str) -> None:
    with pytest.raises(BadInput, match=f"{rule}; .*{address}|{rule}; {address}"):
        cluster_config.check_remote_address(address, "127.0.0.1")
    cluster_config.check_remote_address("127.0.0.2", "127.0.0.1")
