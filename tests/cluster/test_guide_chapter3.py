"""The guide's chapter 3 by REST: four real appliances, each procedure from a whole cluster to one.

Every test begins and ends with the same four members, so that they may run in any order.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from conclave.service.client_gate import X509_V_FLAG_NO_CHECK_TIME
from tests.native.waiting import wait_until
from tests.support.appliances import (
    SERVICE,
    Appliance,
    Member,
    Registered,
    Signer,
    Street,
    create_cluster,
    street,
)
from tests.support.cluster_bench import client_request

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

DOMAIN, OTHER_DOMAIN = "Domain-of-the-cluster-1", "Domain-of-a-stranger-2"
OTHER_CLUSTER = "/api/clusters/528b9b72-c305-4dd1-bebc-a4ca24f8c28b"
NOBODY = "127.255.255.254"
JOINERS_PASSWORD = "Password-before-join-1"
WAIT_SECONDS = 90.0
ADMIN_PORT, CRYPTO_PORT = 50070, 50052


@dataclass
class Town:
    """Four members, an appliance that is none, and what was seen while the cluster was made."""

    street: Street
    stranger: Appliance
    directory: Path
    listed_alone: list[Member] = field(default_factory=list)
    seen_by_three: list[dict[str, Member]] = field(default_factory=list)
    joins: list[httpx.Response] = field(default_factory=list)
    signers: int = 0

    def signer(self, at: Appliance) -> Signer:
        """Register one more client at a member and let it sign."""
        self.signers += 1
        return Signer(self.directory / f"signer{self.signers}", at)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Make a cluster and let three appliances join, one after another."""
    directory = tmp_path_factory.mktemp("ch3")
    with street(directory) as built:
        first, *joiners = [built.build(DOMAIN) for _ in range(4)]
        made = Town(built, built.build(OTHER_DOMAIN), directory)
        made.listed_alone.append(create_cluster(first))
        built.members.append(first)
        give_user_to(joiners[0])
        for joiner in joiners:
            at = built.members[-1]  # through any Read-Write member (rule B4)
            made.joins.append(joiner.join(at))
            built.members.append(joiner)
            built.settle()
            if len(built.members) == 3:
                made.seen_by_three += [each.members() for each in built.members]
        yield made


@pytest.fixture
def whole(town: Town) -> Iterator[Town]:
    """Begin with four members that serve, and end with four that start with their appliances."""
    assert len(town.street.members) == 4
    town.street.settle()
    yield town
    assert all(each.get(SERVICE)["onBoot"] for each in town.street.members)


def give_user_to(appliance: Appliance) -> None:
    """Make a user that a join is to overwrite."""
    new = {"userId": "localuser", "password": JOINERS_PASSWORD, "role": "monitor"}
    appliance.done("POST", "/users", new)


def refused(response: httpx.Response, status: int, fault: str) -> str:
    """Fail unless an answer is this refusal; return what it says."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["id"] == fault, response.text
    return str(body["details"])


def promote(at: Appliance, target: Appliance) -> None:
    at.done("PUT", at.member(target)["url"], {"action": "config", "primary": True})


def gone(at: Appliance, other: Appliance) -> bool:
    """Tell whether a member is shown as one that is not visible."""
    return not at.member(other)["visibleToServicingNode"]


def wait_until_gone(other: Appliance, *seen_from: Appliance) -> None:
    assert wait_until(lambda: all(gone(at, other) for at in seen_from), WAIT_SECONDS)


def authority(at: Appliance) -> str:
    """Return the certificate of the cluster's CA."""
    shown: str = at.get("/api/cluster/ca")["caCertificate"]
    return shown


def shows_newest(member: Appliance) -> bool:
    """Tell whether a client that knows the newest CA only believes a member's two ports."""
    trust = ssl.create_default_context(cadata=authority(member))
    trust.check_hostname = False
    trust.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    for port in (ADMIN_PORT, CRYPTO_PORT):
        try:
            with socket.create_connection((member.address, port), WAIT_SECONDS) as raw:
                trust.wrap_socket(raw, server_hostname=member.address).close()
        except ssl.SSLCertVerificationError:
            return False
    return True


def return_and_rejoin(town: Town, deleted: Appliance, at: Appliance) -> None:
    """Start a deleted member, see that it serves nothing, reset it, and let it join again."""
    deleted.start()
    assert wait_until(lambda: bool(deleted.get(SERVICE)["state"] == "removed"), WAIT_SECONDS)
    details = refused(deleted.call("GET", "/api/clusters"), 409, "CLUSTERPLUGIN_MEMBER_REMOVED")
    assert "factory-reset" in details
    deleted.factory_reset()
    deleted.join(at)
    town.street.members.append(deleted)
    town.street.settle()


# ---------------------------------------------------------------- create and join


def test_a_cluster_is_created_and_joined_one_after_another(whole: Town) -> None:
    (alone,) = whole.listed_alone
    assert alone["memberName"].startswith("LNH-")
    assert (alone["memberActive"], alone["primaryNode"], alone["local"]) == (False, True, True)
    assert [answer.status_code for answer in whole.joins] == [202, 202, 202]
    assert [len(seen) for seen in whole.seen_by_three] == [3, 3, 3]


def test_every_member_shows_all_members_alike_but_for_itself(whole: Town) -> None:
    members = whole.street.members
    views = [each.members() for each in members]
    primary = whole.street.primary()
    shared = ("memberUUID", "memberName", "group", "adminPort", "cryptoPort", "version")
    for each, seen in zip(members, views, strict=True):
        assert [at for at, member in seen.items() if member["local"]] == [each.address]
        assert [at for at, member in seen.items() if member["primaryNode"]] == [primary.address]
        for address, member in seen.items():
            assert member["mode"] == "Read-Write"
            assert (member["memberActive"], member["visibleToServicingNode"]) == (True, True)
            assert (member["lastContact"] is None) == member["local"]
            assert [member[name] for name in shared] == [views[0][address][name] for name in shared]
            assert each.get(member["url"]).keys() == member.keys()
    assert len({each.cluster() for each in members}) == 1


def test_a_client_learns_first_of_the_member_that_it_registered_at(whole: Town) -> None:
    members, primary = whole.street.members, whole.street.primary()
    at = next(each for each in members if each is not primary)
    client = Registered(whole.directory / "told", at)
    (hints,) = client.options.client_dir.rglob("*.members")
    entry, *others = (line.split() for line in hints.read_text().splitlines())
    assert entry[:4] == [
        "entry",
        at.address,
        str(CRYPTO_PORT),
        at.members()[at.address]["memberUUID"],
    ]
    assert {other[2] for other in others} == {each.address for each in members}


def test_keyrings_made_at_any_member_are_listed_at_all(whole: Town) -> None:
    made = {
        f"at{number}": each.make_keyring(f"at{number}")["keyRingUUID"]
        for number, each in enumerate(whole.street.members)
    }
    for each in whole.street.members:
        assert made.items() <= each.keyrings().items()


# ---------------------------------------------------------------- groups, promotion


def test_a_member_is_moved_to_another_group(whole: Town) -> None:
    first, second, third, fourth = whole.street.members
    url = first.member(third)["url"]
    second.done("PUT", url, {"action": "config", "group": "newgroup"})
    ids = {each.address: each.member()["memberUUID"] for each in whole.street.members}
    expected = {
        "local": sorted(ids[each.address] for each in (first, second, fourth)),
        "newgroup": [ids[third.address]],
    }
    for each in whole.street.members:
        groups = each.get(f"{each.cluster()}/groups")["data"]
        assert {group["group"]: sorted(group["members"]) for group in groups} == expected
        assert each.member(third)["group"] == "newgroup"
    third.done("PUT", url, {"action": "config", "group": "local"})
    assert len(fourth.get(f"{fourth.cluster()}/groups")["data"]) == 1


def test_a_promotion_is_asked_of_another_member_while_a_client_signs(whole: Town) -> None:
    target, asked, entry = whole.street.others()
    with whole.signer(entry) as signer:
        promote(asked, target)
        signer.goes_on()
        whole.street.settle()
        assert whole.street.primary() is target
        promote(asked, asked)
        signer.goes_on()
    whole.street.settle()
    assert whole.street.primary() is asked
    entry.make_keyring("after-promotion")
    assert all("after-promotion" in each.keyrings() for each in whole.street.members)


# ---------------------------------------------------------------- leave, and joins that fail


def test_a_leaver_joins_again_without_a_factory_reset(whole: Town) -> None:
    leaver, at, _ = whole.street.others()
    wrong = {"action": "leave", "authentication": leaver.co(password="wrong-password")}
    refused(
        leaver.call("PATCH", leaver.member()["url"], wrong), 401, "HSMPLUGIN_CREDENTIAL_INCORRECT"
    )
    elsewhere = {"action": "leave", "authentication": at.co()}
    refused(
        at.call("PATCH", at.member(leaver)["url"], elsewhere), 404, "CLUSTERPLUGIN_MEMBER_NOT_FOUND"
    )
    before = leaver.member()["memberUUID"]
    leaver.leave()
    whole.street.members.remove(leaver)
    whole.street.settle()
    assert leaver.get(SERVICE)["state"] == "running"
    assert leaver.get("/api/clusters") == {"data": []}
    at.make_keyring("without-the-leaver")
    leaver.join(at)
    whole.street.members.append(leaver)
    whole.street.settle()
    assert leaver.member()["memberUUID"] != before
    assert "without-the-leaver" in leaver.keyrings()


def shift_clock(appliance: Appliance, seconds: int) -> None:
    """Set an appliance's time as an administrator does, so many seconds from what it shows."""
    shown = appliance.get("/api/lunasa/time")
    now = datetime.fromisoformat(f"{shown['date']}T{shown['time']}") + timedelta(seconds=seconds)
    body = {"date": f"{now:%Y-%m-%d}", "time": f"{now:%H:%M:%S}"}
    appliance.done("PUT", "/api/lunasa/time", body)


def fails_to_join(
    joiner: Appliance, path: str, body: dict[str, object], status: int, fault: str
) -> str:
    """Fail unless a join ends with this refusal, its task tells the same, and nothing changed."""
    answer = joiner.finished(joiner.call("PUT", path, body))
    details = refused(answer, status, fault)
    last = joiner.get("/tasks")["tasks"][-1]
    assert (last["sourceUrl"], last["state"], last["details"]) == (path, "Error", details)
    assert joiner.get("/api/clusters") == {"data": []}
    assert joiner.get(SERVICE)["state"] == "running"
    return details


def test_a_join_that_cannot_be_ends_in_an_error_with_its_cause(whole: Town) -> None:
    members = whole.street.members
    at = whole.street.primary()
    joiner = whole.street.others()[-1]
    cluster = at.cluster()
    joiner.leave()
    members.remove(joiner)
    whole.street.settle()
    good = joiner.join_request(at)
    wrong_co = good | {"authentication": joiner.co(password="wrong-password")}
    fails_to_join(joiner, cluster, wrong_co, 401, "HSMPLUGIN_CREDENTIAL_INCORRECT")
    nowhere = good | {"remoteClusterIpAddress": NOBODY}
    told = fails_to_join(joiner, cluster, nowhere, 409, "CLUSTERPLUGIN_MEMBERS_UNREACHABLE")
    assert NOBODY in told
    fails_to_join(joiner, OTHER_CLUSTER, good, 404, "CLUSTERPLUGIN_CLUSTER_NOT_FOUND")
    wrong_admin = good | {"remoteAdminPassword": "Wrong-Password-1"}
    fails_to_join(joiner, cluster, wrong_admin, 401, "CLUSTERPLUGIN_JOIN_CREDENTIALS_REFUSED")
    shift_clock(joiner, 45)
    told = fails_to_join(joiner, cluster, good, 409, "CLUSTERPLUGIN_CLOCK_SKEW")
    assert "30 s" in told
    joiner.done("POST", "/api/lunasa/ntp/actions/synchronize")
    whole.street.settle()
    assert len(at.members()) == 3
    joiner.join(at)
    members.append(joiner)
    whole.street.settle()


def test_an_appliance_of_another_domain_cannot_join(whole: Town) -> None:
    at, stranger = whole.street.primary(), whole.stranger
    request = stranger.join_request(at)
    fails_to_join(stranger, at.cluster(), request, 409, "CLUSTERPLUGIN_CLONING_DOMAIN_MISMATCH")
    assert len(at.members()) == 4


def test_a_member_cannot_join_again(whole: Town) -> None:
    first, second, *_ = whole.street.members
    tasks = len(second.get("/tasks")["tasks"])
    for cluster in (first.cluster(), OTHER_CLUSTER):
        answer = second.call("PUT", cluster, second.join_request(first))
        refused(answer, 409, "CLUSTERPLUGIN_CLUSTER_EXISTS")
    so = [{"type": "SO", "password": second.passwords.hsm_so}]
    body = {"authentication": so, "clusterLabel": "another"}
    refused(second.call("POST", "/api/clusters", body), 409, "CLUSTERPLUGIN_CLUSTER_EXISTS")
    assert len(second.get("/tasks")["tasks"]) == tasks


# ---------------------------------------------------------------- delete, return, reset


def test_a_killed_primary_is_deleted_and_joins_again_after_its_reset(whole: Town) -> None:
    killed = whole.street.primary()
    asked, other, entry = whole.street.others()
    url = asked.member(killed)["url"]
    former = authority(asked)
    refused(asked.delete(url), 409, "CLUSTERPLUGIN_MEMBER_VISIBLE")
    with whole.signer(entry) as signer:
        killed.kill()
        wait_until_gone(killed, asked, other, entry)
        signer.goes_on()
        answer = asked.finished(asked.delete(url))
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["notReached"] == []
        assert told["lastContact"] is not None
        whole.street.members.remove(killed)
        whole.street.settle()
        assert whole.street.primary().member()["memberUUID"] == told["promotedMember"]
        signer.goes_on()
        # The deleted one knew the CA's key (rule C3): another CA is there, for clients old and new.
        assert authority(asked) != former
        # Whoever registers from now on knows that one only, and is not let in before all show it.
        request = {"csr": client_request("newcomer")}
        other.done("POST", f"{other.cluster()}/clients", request)
        assert all(map(shows_newest, whole.street.members))
        with whole.signer(other) as newer:
            other.make_keyring("after-deletion")
            newer.goes_on()
            signer.goes_on()
        return_and_rejoin(whole, killed, asked)
        assert "after-deletion" in killed.keyrings()
        signer.goes_on()


def test_b3_a_member_that_was_offline_learns_of_a_deletion_on_its_return(whole: Town) -> None:
    asked = whole.street.primary()
    deleted, offline, other = whole.street.others()
    url, offline_id = asked.member(deleted)["url"], offline.member()["memberUUID"]
    for each in (deleted, offline):
        each.kill()
    wait_until_gone(deleted, asked, other)
    wait_until_gone(offline, asked, other)
    told = refused(asked.delete(url), 409, "CLUSTERPLUGIN_MEMBERS_UNREACHABLE")
    assert offline_id in told
    assert deleted.address in asked.members()
    answer = other.delete(url, force=True)
    assert answer.status_code == 200, answer.text
    assert answer.json()["notReached"] == [offline_id]
    whole.street.members.remove(deleted)
    offline.start()
    whole.street.settle()
    return_and_rejoin(whole, deleted, other)


def test_s8_a_factory_reset_waits_and_keeps_hsm_and_partition(whole: Town) -> None:
    member, at, _ = whole.street.others()
    member.leave()
    whole.street.members.remove(member)
    waiting = member.call("POST", f"{SERVICE}/actions/factoryreset")
    assert (waiting.status_code, waiting.json()["state"]) == (202, "Waiting")
    task = waiting.headers["Location"]
    member.done("POST", f"{task}/actions/cancel")
    assert member.get("/api/cluster/config")["data"][0]["IpAddress"] == member.address
    hsm = member.get("/api/lunasa/hsms")["hsms"][0]["url"]
    partitions = member.get(f"{hsm}/partitions")
    member.done("POST", f"{SERVICE}/actions/factoryreset")
    assert member.get(SERVICE)["state"] == "stopped"
    assert member.get("/api/cluster/config")["data"][0]["IpAddress"] == ""
    assert member.get(f"{hsm}/partitions") == partitions
    assert member.get(SERVICE)["onBoot"] is False
    member.done("PATCH", SERVICE, {"onBoot": True})
    body = {"service": "core", "IpAddress": member.address}
    member.done("PUT", "/api/cluster/config", body)
    member.done("POST", f"{SERVICE}/actions/start")
    member.join(at)
    whole.street.members.append(member)
    whole.street.settle()


# ---------------------------------------------------------------- users, ports


def test_a_user_made_on_one_member_logs_in_at_all(whole: Town) -> None:
    members = whole.street.members
    first, second, _, fourth = members
    new = {"userId": "someone", "password": "First-Password-1", "role": "monitor"}
    second.done("POST", "/users", new)
    words = {"currentPassword": "First-Password-1", "password": "Own-Password-1"}
    change = "/users/someone/actions/changePassword"

    def changed() -> bool:
        answer = fourth.call("POST", change, words, user=("someone", "First-Password-1"))
        return answer.status_code == 204

    assert wait_until(changed, WAIT_SECONDS)

    def logs_in() -> list[bool]:
        return [each.login("someone", "Own-Password-1") == 200 for each in members]

    assert wait_until(lambda: all(logs_in()), WAIT_SECONDS)
    first.done("DELETE", "/users/someone")
    assert wait_until(lambda: not any(logs_in()), WAIT_SECONDS)


def test_a_joiners_own_users_were_overwritten(whole: Town) -> None:
    joined = whole.street.appliances[1]
    assert joined.admin_password != joined.passwords.admin
    assert joined.login("admin", joined.passwords.admin) == 401
    assert joined.login("localuser", JOINERS_PASSWORD) == 401
    assert joined.call("GET", "/users/localuser").status_code == 404


def test_s7_clients_and_members_go_on_after_a_change_of_port(whole: Town) -> None:
    changed, entry, _ = whole.street.others()
    with whole.signer(changed) as signer:
        for port in (50055, 50052):
            changed.done("PUT", "/api/cluster/config", {"service": "crypto", "port": port})
            assert changed.member()["restartService"] is True
            assert wait_until(lambda: bool(entry.member(changed)["restartService"]), WAIT_SECONDS)
            changed.done("POST", f"{SERVICE}/actions/restart")
            signer.goes_on()
            whole.street.settle()
            for each in whole.street.members:
                shown = each.member(changed)
                assert (shown["cryptoPort"], shown["restartService"]) == (port, False)
        signer.goes_on()
