"""The rules that every implementation must enforce, through both doors, on real appliances.

They are numbered as section 8 of the notes on the original's shells numbers them.  Rules 8, 13, 15,
16 and 23 are about clients and stand in their tests, under the same names but for 23; 17 to 20 are
about backups; 21 and 24 stand in the tests of their families.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from conclave.appliance.initialize import initialize_appliance
from conclave.appliance.paths import StatePaths
from conclave.client import Client, Role
from conclave.cluster.ca import MEMBER_LIFE
from conclave.demo import appliance_steps as steps
from conclave.demo.appliance_steps import PARTITION, Passwords
from conclave.demo.daemon import start_daemon
from conclave.demo.options import SSH_PORT, DemoOptions, free_loopback_addresses
from conclave.demo.rest import RestClient
from conclave.errors import CredentialRefused
from conclave.settings import PackageSettings
from tests.support.appliances import SERVICE, Appliance, Registered, create_cluster, street
from tests.support.ssh_house import FAILED_TRAILER, SshTarget, run_ssh

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DOMAIN: Final = "Domain-of-the-cluster-1"
WRONG: Final = "Wrong-password-1"
Request = tuple[str, str, object]
START: Final[Request] = ("POST", f"{SERVICE}/actions/start", {})
START_LINE: Final = "service start cluster"


# ---------------------------------------------------------------- the two doors


def by_ssh(at: Appliance, line: str) -> tuple[int, str]:
    host_key = StatePaths(at.daemon.state_dir).ssh / "host_key.pub"
    target = SshTarget(at.address, SSH_PORT, host_key, at.options.directory)
    answer = run_ssh(target, at.admin_password, line)
    return answer.status, answer.out


def shown(at: Appliance, line: str) -> Any:
    status, out = by_ssh(at, f"{line} -json")
    assert status == 0, out
    return json.loads(out)


def refused(at: Appliance, request: Request, line: str, words: str) -> None:
    """Expect a refusal that says so, through either door."""
    answer = at.finished(at.call(*request))
    assert answer.status_code >= 400, f"{request} was done"
    told = answer.json()
    assert told["returnCode"] == answer.status_code
    assert all(told[name] for name in ("id", "message"))
    assert words in told["details"]
    status, out = by_ssh(at, line)
    assert (status, FAILED_TRAILER in out) == (1, True), out
    assert words in out


# ---------------------------------------------------------------- before there is a cluster


@dataclass
class Bare:
    """An appliance with two addresses, as it comes, and its administrator's session."""

    at: Appliance
    rest: RestClient
    addresses: list[str]

    @property
    def hsm(self) -> str:
        return str(self.rest.get("/api/lunasa/hsms")["hsms"][0]["url"])

    def make_partition(self, name: str, version: int) -> str:
        body = {"name": name, "hasPso": True, "size": 100_000, "version": version}
        return self.rest.call("POST", f"{self.hsm}/partitions", body).location

    def start_is_refused(self, words: str) -> None:
        refused(self.at, START, START_LINE, words)
        assert shown(self.at, "cluster status")["state"] == "stopped"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    passwords = Passwords(domain=DOMAIN)
    options = DemoOptions(directory=tmp_path / "bare", low_cost=True)
    options.directory.mkdir(mode=0o700)
    addresses = free_loopback_addresses(2)
    settings = msgspec.structs.replace(
        steps.settings(options, 1, addresses[0]),
        interfaces={"eth0": addresses[0], "eth1": addresses[1]},
        workers=1,
        packages=PackageSettings(cluster_service="preinstalled"),
    )
    initialize_appliance(settings)
    daemon = start_daemon(settings.state_dir, outlives_us=False)
    rest = steps.rest_client(settings.state_dir, addresses[0], lambda _told: None)
    steps.log_in(rest, passwords)
    trust = ssl.create_default_context(cafile=str(steps.certificate_file(settings.state_dir)))
    http = httpx.Client(base_url=f"https://{addresses[0]}:8443", verify=trust, timeout=90)
    at = Appliance(options, addresses[0], passwords, passwords.admin, daemon, http)
    yield Bare(at, rest, addresses)
    rest.close()
    at.close()


def test_section_8_rules_2_and_3_the_service_starts_on_one_finished_v1_partition_alone(
    bare: Bare,
) -> None:
    rest, passwords = bare.rest, bare.at.passwords
    bare.start_is_refused("not initialised")
    hsm = steps.initialize_hsm(rest, passwords)
    bare.start_is_refused("there is none: create one of version 1")
    old = bare.make_partition("old", 0)
    bare.start_is_refused("old has version 0")
    rest.call("DELETE", old)
    partition = bare.make_partition(PARTITION, 1)
    other = bare.make_partition("other", 1)
    bare.start_is_refused("a cluster needs exactly one")
    rest.call("DELETE", other)
    body = {"label": PARTITION, "password": passwords.po, "domain": passwords.domain}
    rest.call("PUT", partition, body)
    bare.start_is_refused("policy 40")
    rest.call("POST", f"{partition}/login", {"password": passwords.po, "role": "so"})
    rest.call("PUT", f"{partition}/policies/40", {"value": 0})
    bare.start_is_refused("Crypto Officer of partition clusterpar is not initialised")
    rest.call("PUT", f"{partition}/roles/co", {"password": passwords.first_co})
    bare.start_is_refused("must be changed")
    change = {"oldPassword": passwords.first_co, "newPassword": passwords.co}
    rest.call("PATCH", f"{partition}/roles/co", change)
    bare.start_is_refused("core address")
    assert rest.get(hsm)["initialized"]


CORE: Final = "/api/cluster/config"


def test_section_8_rule_4_the_core_address_is_the_appliances_and_stays(bare: Bare) -> None:
    def core(address: str) -> tuple[Request, str]:
        body = {"service": "core", "IpAddress": address}
        return ("PUT", CORE, body), f"cluster config -service core -ipaddress {address}"

    refused(bare.at, *core("192.0.2.1"), "one of the appliance's")
    bare.at.done(*core(bare.addresses[0])[0])
    refused(bare.at, *core(bare.addresses[1]), "factory reset")
    found = shown(bare.at, "cluster config show")["data"]
    assert bare.addresses[0] in {each.get("IpAddress") for each in found}


@pytest.mark.parametrize("service", ["admin", "crypto"])
def test_section_8_rule_5_each_listener_has_ports_of_its_own(bare: Bare, service: str) -> None:
    allowed, others = {"admin": (50079, 50055), "crypto": (50059, 50075)}[service]
    for port in (others, allowed + 1, 8443, 22):
        body = {"service": service, "port": port}
        line = f"cluster config -service {service} -port {port}"
        refused(bare.at, ("PUT", CORE, body), line, f"port {port} is not allowed for {service}")
    bare.at.done("PUT", CORE, {"service": service, "port": allowed})
    assert by_ssh(bare.at, f"cluster config -service {service} -port {allowed - 1}")[0] == 0


def test_section_8_rule_22_a_package_is_opened_by_16_characters(bare: Bare) -> None:
    name = "lnh_cluster-1.0.4-1.spkg"
    for code, words in (("short", "16"), ("A" * 17, "16"), ("not-of-these-!!!", "character")):
        body = {"fileName": name, "authCode": code, "useEvp": True}
        line = f"package verify {name} -authcode {code} -useevp"
        path = "/api/lunasa/packageFiles?VerifyOnly=true"
        refused(bare.at, ("POST", path, body), line, words)


# ---------------------------------------------------------------- in a cluster


@dataclass
class Place:
    """A cluster of two, an appliance that is in none, and one of another domain."""

    first: Appliance
    second: Appliance
    ready: Appliance
    stranger: Appliance


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with street(tmp_path_factory.mktemp("rules")) as built:
        first, second, ready = (built.build(DOMAIN) for _ in range(3))
        stranger = built.build("Another-domain-1")
        create_cluster(first)
        second.join(first)
        built.members[:] = [first, second]
        built.settle()
        yield Place(first, second, ready, stranger)


def join_refused(joiner: Appliance, at: Appliance, words: str, *, admin: str = "") -> None:
    """Expect that an appliance cannot join another's cluster, and is in none afterwards."""
    cluster, password = at.cluster(), admin or at.admin_password
    line = (
        f"cluster join -clusterid {cluster.rpartition('/')[2]} -clusteripaddress {at.address}"
        f" -remotepassword {password} -partition {PARTITION}"
        f" -copassword {joiner.passwords.co} -force"
    )
    body = joiner.join_request(at, remoteAdminPassword=password)
    refused(joiner, ("PUT", cluster, body), line, words)
    assert shown(joiner, "cluster list") == {"data": []}


def test_section_8_rule_1_an_appliance_is_in_one_cluster(place: Place) -> None:
    at, so = place.first, place.first.passwords.hsm_so
    body = {"authentication": [{"type": "SO", "password": so}], "clusterLabel": "two"}
    line = f"cluster create -label two -password {so}"
    refused(at, ("POST", "/api/clusters", body), line, "is in the cluster")
    other = str(uuid.uuid4())
    line = (
        f"cluster join -clusterid {other} -clusteripaddress {place.ready.address} -remotepassword"
        f" {WRONG} -partition {PARTITION} -copassword {at.passwords.co} -force"
    )
    request = ("PUT", f"/api/clusters/{other}", at.join_request(place.ready))
    refused(at, request, line, "in a cluster already")


def test_section_8_rule_3_the_service_starts_within_its_certificates_validity(
    place: Place,
) -> None:
    at = place.second
    at.done("POST", f"{SERVICE}/actions/stop", {})
    try:
        set_clock(at, MEMBER_LIFE + timedelta(days=1))
        refused(at, START, START_LINE, "certificate")
    finally:
        set_clock(at, timedelta())
        at.done(*START)


def set_clock(at: Appliance, ahead: timedelta) -> None:
    wanted = datetime.now(UTC) + ahead
    body = {"date": f"{wanted:%Y-%m-%d}", "time": f"{wanted:%H:%M:%S}", "timeZone": "UTC"}
    at.done("PUT", "/api/lunasa/time", body)


def test_section_8_rule_6_a_join_needs_one_clock_one_domain_and_the_passwords(
    place: Place,
) -> None:
    set_clock(place.ready, timedelta(seconds=60))
    join_refused(place.ready, place.first, "30 s")
    set_clock(place.ready, timedelta())
    join_refused(place.stranger, place.first, "domain")
    join_refused(place.ready, place.first, "password", admin=WRONG)


def test_section_8_rules_7_and_9_a_new_member_is_local_authorized_and_not_primary(
    place: Place,
) -> None:
    for seen in (
        list(place.first.members().values()),
        shown(place.second, "cluster member list")["data"],
    ):
        assert sorted(each["primaryNode"] for each in seen) == [False, True]
        (joined,) = (each for each in seen if each["ipAddress"] == place.second.address)
        assert (joined["group"], joined["memberActive"]) == ("local", True)
    url = place.first.member(place.second)["url"]
    line = f"cluster member config -memberid {url.rpartition('/')[2]} -group {'g' * 65}"
    body = {"action": "config", "group": "g" * 65}
    refused(place.first, ("PUT", url, body), line, "64")


def test_section_8_rule_10_the_local_member_leaves_and_an_invisible_one_is_deleted(
    place: Place,
) -> None:
    at, co = place.first, place.first.passwords.co
    own, other = at.member()["url"], at.member(place.second)["url"]
    own_id, other_id = (url.rpartition("/")[2] for url in (own, other))
    leave = {"action": "leave", "authentication": at.co()}
    line = f"cluster leave -memberid {other_id} -partition {PARTITION} -copassword {co}"
    refused(at, ("PATCH", other, leave), line, other_id)
    delete = {"authentication": at.co(label=False)}
    for url, member, words in ((other, other_id, "visible"), (own, own_id, "is this one")):
        line = f"cluster member delete -memberid {member} -copassword {co}"
        refused(at, ("DELETE", url, delete), line, words)
    assert len(shown(at, "cluster member list")["data"]) == 2


def test_section_8_rule_11_a_member_is_authorized_by_the_co_of_its_partition(
    place: Place,
) -> None:
    at, url = place.first, place.first.member()["url"]
    for label, password, words in (
        ("nonsense", at.passwords.co, "is another"),
        (PARTITION, WRONG, "password of role co is wrong"),
    ):
        co = [{"type": "CO", "password": password, "partitionLabel": label}]
        body = {"action": "authorize", "authentication": co}
        line = f"cluster member authorize -partition {label} -copassword {password}"
        refused(at, ("PUT", url, body), line, words)
    assert at.done("PUT", url, {"action": "authorize", "authentication": at.co()})


def test_section_8_rule_12_a_call_makes_a_hundred_keyrings_or_none(place: Place) -> None:
    at = place.first
    before = at.keyrings()
    usual = {
        "authentication": at.co(),
        "keyRingLabel": "many",
        "keyRingPassword": "first-password",
        "index": 1,
    }
    for total in (0, 101):
        line = (
            f"keyring create -label many -password first-password -partition {PARTITION}"
            f" -total {total} -index 1 -copassword {at.passwords.co}"
        )
        words = f"total must lie between 1 and 100; it is {total}"
        refused(at, ("POST", "/api/keyrings", usual | {"total": total}), line, words)
    assert at.keyrings() == before


def test_section_8_rule_14_ten_wrong_passwords_lock_a_keyring_until_admin_and_co_unlock_it(
    place: Place, tmp_path: Path
) -> None:
    at = place.first
    registered = Registered(tmp_path / "locked", at)
    label = registered.keyring.label
    url = f"/api/keyrings/{at.keyrings()[label]}"
    body = {"action": "unlock", "authentication": at.co(label=False)}
    line = f"keyring unlock -label {label} -copassword {at.passwords.co}"
    with Client.from_environment(registered.environment) as client:
        for unlock in (lambda: at.done("PATCH", url, body), lambda: by_ssh(at, line)):
            session = client.open(client.token(label))
            for _ in range(10):
                assert not is_locked(at, url, label)
                # Six characters are no attempt.
                for password in (b"wrong6", WRONG.encode()):
                    with pytest.raises(CredentialRefused):
                        session.login(Role.KRCO, password)
            assert is_locked(at, url, label)
            wrong = {"action": "unlock", "authentication": at.co(label=False, password=WRONG)}
            told = "password of role co is wrong"
            refused(at, ("PATCH", url, wrong), f"keyring unlock -label {label} -c {WRONG}", told)
            with pytest.raises(CredentialRefused):
                session.login(Role.KRCO, registered.keyring.pin.encode())
            unlock()
            assert not is_locked(at, url, label)
            session.login(Role.KRCO, registered.keyring.pin.encode())
            session.logout()


def is_locked(at: Appliance, url: str, label: str) -> bool:
    """Return what both doors say."""
    by_rest, by_shell = at.get(url)["locked"], shown(at, f"keyring show -label {label}")["locked"]
    assert by_rest == by_shell
    return bool(by_rest)
