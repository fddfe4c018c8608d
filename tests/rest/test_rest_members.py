"""Members over REST, as far as one appliance goes: refusals, shapes, and what each answer says."""

from __future__ import annotations

from typing import Any

import pytest

from conclave import __version__
from conclave.operations.members import DeletionView, deletion_reply
from conclave.operations.model import Reply
from conclave.service.messages import DeletedMember
from tests.rest.conftest import Town
from tests.rest.test_rest_guide import (
    chapter_2_partition,
    chapter_2_service,
    co,
    expect,
    follow_task,
)
from tests.support.rest_house import Client, House

OTHER = "528b9b72-c305-4dd1-bebc-a4ca24f8c28b"
NOBODY = "127.255.255.254"


def join(**changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "action": "join",
        "authentication": co(),
        "remoteClusterIpAddress": NOBODY,
        "remoteAdminPassword": "Remote-Admin-1",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def member_of(client: Client, cluster: str) -> dict[str, Any]:
    (member,) = client.get(f"{cluster}/members").json()["data"]
    shown: dict[str, Any] = member
    return shown


def test_a_member_shows_every_field(town: Town) -> None:
    client = town.house.client()
    cluster = f"/api/clusters/{town.cluster_id}"
    member = member_of(client, cluster)
    assert client.get(member["url"]).json() == member
    (own,) = town.house.appliance.config.interfaces.values()
    known = {
        "ipAddress": own,
        "adminPort": 50070,
        "cryptoPort": 50052,
        "primaryNode": True,
        "memberActive": True,
        "visibleToServicingNode": True,
        "restartService": False,
        "mode": "Read-Write",
        "group": "local",
        "local": True,
        "version": __version__,
        "lastContact": None,
        "memberId": member["memberUUID"],
        "memberLabel": member["memberName"],
        "url": f"{cluster}/members/{member['memberUUID']}",
    }
    assert known.items() <= member.items()
    assert member.keys() - known.keys() == {"memberUUID", "memberName"}


def test_s5_a_member_asks_for_a_restart_while_its_port_is_another_one(town: Town) -> None:
    client, cluster = town.house.client(), f"/api/clusters/{town.cluster_id}"
    try:
        expect(client.put("/api/cluster/config", {"service": "crypto", "port": 50055}), 204)
        member = member_of(client, cluster)
        assert (member["restartService"], member["cryptoPort"]) == (True, 50052)
    finally:
        expect(client.put("/api/cluster/config", {"service": "crypto", "port": 50052}), 204)
    assert member_of(client, cluster)["restartService"] is False


def joins(client: Client) -> list[dict[str, Any]]:
    """Return the tasks of joins."""
    listed: list[dict[str, Any]] = client.get("/tasks").json()["tasks"]
    return [task for task in listed if task["sourceUrl"] == f"/api/clusters/{OTHER}"]


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"remoteClusterIpAddress": "x"}, 400, "remoteClusterIpAddress"),
        ({"remoteClusterIpAddress": "1:2"}, 400, "must be an IP address; it is '1:2'"),
        ({"remoteAdminPassword": ""}, 400, "remoteAdminPassword"),
        ({"remoteAdminPassword": None}, 400, "remoteAdminPassword"),
        ({"remoteFingerprint": "AA:BB"}, 400, "remoteFingerprint"),
        ({"authentication": co(None)}, 400, "partitionLabel is required to join"),
        ({"authentication": [{"type": "SO", "password": "p"}]}, 400, "must be 'CO'"),
        ({"action": "leave"}, 400, "action"),
    ],
)
def test_a_bad_join_is_refused_by_field_and_makes_no_task(
    house: House, changes: dict[str, object], status: int, told: str
) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    refused = expect(client.put(f"/api/clusters/{OTHER}", join(**changes)), status)
    assert told in refused.json()["details"]
    assert joins(client) == []


def test_a_join_is_refused_at_once_until_everything_is_there(house: House) -> None:
    client = house.client().open_session()

    def refused() -> str:
        return str(expect(client.put(f"/api/clusters/{OTHER}", join()), 409).json()["id"])

    assert refused() == "CLUSTERPLUGIN_SERVICE_NOT_RUNNING"
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    own = client.get("/api/cluster/config").json()["data"][0]["IpAddress"]
    same = client.put(f"/api/clusters/{OTHER}", join(remoteClusterIpAddress=own))
    assert "is this one's" in expect(same, 400).json()["details"]
    assert joins(client) == []


def test_a_join_is_refused_where_a_cluster_exists(town: Town) -> None:
    client = town.house.client()
    refused = expect(client.put(f"/api/clusters/{OTHER}", join()), 409)
    assert refused.json()["id"] == "CLUSTERPLUGIN_CLUSTER_EXISTS"
    assert joins(client) == []


def test_a_join_with_a_wrong_co_password_is_answered_as_such_and_changes_nothing(
    house: House,
) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    wrong = join(authentication=co(password="wrong-password"))
    refused = client.put(f"/api/clusters/{OTHER}", wrong)
    assert expect(refused, 401).json()["id"] == "HSMPLUGIN_CREDENTIAL_INCORRECT"
    (task,) = joins(client)
    assert (task["state"], task["details"]) == ("Error", refused.json()["details"])
    assert client.get("/api/clusters").json() == {"data": []}


def test_a_join_that_finds_nobody_ends_in_an_error_with_its_cause(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    answered = client.put(f"/api/clusters/{OTHER}", join())
    if answered.status_code == 202:
        answered = follow_task(client, answered.headers["Location"])
    assert answered.status_code >= 400
    (task,) = joins(client)
    assert task["state"] == "Error"
    assert task["details"] == answered.json()["details"]
    assert client.get("/api/clusters").json() == {"data": []}


@pytest.mark.parametrize(
    ("method", "body", "told"),
    [
        ("PUT", {"action": "config"}, "either group or primary"),
        ("PUT", {"action": "config", "group": "a", "primary": True}, "either group or primary"),
        ("PUT", {"action": "config", "primary": False}, "primary"),
        ("PUT", {"action": "config", "group": ""}, "group"),
        ("PUT", {"action": "config", "group": "a/b"}, "group"),
        ("PUT", {"action": "config", "group": "g" * 65}, "group"),
        ("PUT", {"action": "demote"}, "action"),
        ("PUT", {"action": "authorize", "authentication": co(None)}, "required to authorize"),
        ("PATCH", {"action": "leave", "authentication": co(None)}, "required to leave"),
        ("PATCH", {"action": "leave"}, "authentication"),
        ("DELETE", {}, "authentication"),
        ("DELETE", {"authentication": co(None), "force": "yes"}, "force"),
        ("DELETE", {"authentication": [{"type": "SO", "password": "p"}]}, "must be 'CO'"),
    ],
)
def test_bad_changes_of_a_member_are_refused_by_field(
    town: Town, method: str, body: dict[str, object], told: str
) -> None:
    client = town.house.client()
    member = member_of(client, f"/api/clusters/{town.cluster_id}")
    refused = expect(client.call(method, member["url"], body), 400)
    assert told in refused.json()["details"]
    assert member_of(client, f"/api/clusters/{town.cluster_id}") == member


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PUT", {"action": "config", "group": "a"}),
        ("PUT", {"action": "config", "primary": True}),
        ("PUT", {"action": "authorize", "authentication": co()}),
        ("PATCH", {"action": "leave", "authentication": co()}),
        ("DELETE", {"authentication": co(None)}),
    ],
)
def test_a_member_that_does_not_exist_is_named(
    town: Town, method: str, body: dict[str, object]
) -> None:
    client = town.house.client()
    nobody = f"/api/clusters/{town.cluster_id}/members/{OTHER}"
    refused = expect(client.call(method, nobody, body), 404).json()
    assert refused["id"] == "CLUSTERPLUGIN_MEMBER_NOT_FOUND"
    assert OTHER in refused["details"]


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PATCH", {"action": "leave", "authentication": co("par", "wrong-password")}),
        ("DELETE", {"authentication": co(None, "wrong-password")}),
    ],
)
def test_the_co_password_comes_first(town: Town, method: str, body: dict[str, object]) -> None:
    client = town.house.client()
    member = member_of(client, f"/api/clusters/{town.cluster_id}")
    refused = expect(client.call(method, member["url"], body), 401).json()
    assert refused["id"] == "HSMPLUGIN_CREDENTIAL_INCORRECT"
    assert member_of(client, f"/api/clusters/{town.cluster_id}") == member


def test_a_deletion_without_consequences_is_answered_without_a_body() -> None:
    assert deletion_reply(DeletedMember("", [], 1_000)) == Reply()


@pytest.mark.parametrize(("promoted", "not_reached"), [(OTHER, []), ("", ["a"]), (OTHER, ["a"])])
def test_a_deletion_says_what_is_to_be_known_of_it(promoted: str, not_reached: list[str]) -> None:
    told = deletion_reply(DeletedMember(promoted, not_reached, 1_700_000_000_999))
    view = DeletionView(
        promoted_member=promoted or None,
        last_contact="2023-11-14T22:13:20Z",
        not_reached=not_reached,
    )
    assert told == Reply(body=view, status=200)
