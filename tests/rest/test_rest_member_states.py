"""Each call of the OpenAPI document in the states of a member, as its x-member-states say.

Two appliances of their own, since one alone is never Read-Only nor deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conclave.cluster.member_states import State
from tests.native.waiting import wait_until
from tests.rest.test_rest_guide import CO, co
from tests.rest.test_rest_negative import (
    Case,
    alternatives,
    content_of,
    described,
    example,
    require_refusal,
)
from tests.support.appliances import SERVICE, Appliance, cluster_of, street
from tests.support.rest_house import House, make_cluster

KEYRING = "a-keyring"
WITH_A_CLUSTER = [
    case for case in described() if case[1].startswith(("/api/clusters/", "/api/keyrings"))
]
"""Calls that mean nothing without a cluster."""


def carried_out(case: Case, state: State) -> bool:
    """Tell whether any part of a call is carried out in a state."""
    return any(state.value in states for states in case[2]["x-member-states"].values())


def bodies(case: Case, authentication: list[dict[str, str]]) -> Iterator[Any]:
    """Yield a body of each shape that a call takes, with the CO's password where it belongs."""
    schemas = alternatives(content_of(case[2])[1]) if "requestBody" in case[2] else []
    for schema in schemas:
        body = example(schema)
        if "authentication" in body:
            body["authentication"] = authentication
        yield body
    if not schemas:
        yield None


def path_of(case: Case, **ids: str) -> str:
    """Return a call's path with ids that exist, as far as they are given."""
    return re.sub(r"\{([a-z]+)\}", lambda found: ids.get(found[1], "operator"), case[1])


def asked(at: Appliance, case: Case, ids: dict[str, str]) -> Iterator[httpx.Response]:
    """Make a call with each body."""
    for body in bodies(case, at.co()):
        yield at.call(case[0], path_of(case, **ids), body)


def lists(at: Appliance, cluster: str) -> dict[str, Any]:
    """Return what changes could change, but for how the members stand."""
    paths = ("/users", "/roles", "/api/keyrings", f"{cluster}/clients", f"{cluster}/groups")
    return {path: at.get(path) for path in paths}


def service_state(at: Appliance) -> str:
    return str(at.get(SERVICE)["state"])


@pytest.mark.system
def test_a_read_only_member_answers_reads_and_a_removed_one_nothing(tmp_path: Path) -> None:
    with street(tmp_path) as built:
        first = cluster_of(built, 2)
        second = built.members[1]
        first.make_keyring(KEYRING)
        assert wait_until(lambda: KEYRING in second.keyrings(), 60)
        cluster, own = second.cluster(), second.member()["memberUUID"]
        ids = {"clusterid": cluster.rpartition("/")[2], "keyringid": KEYRING, "memberid": own}
        ids["hsmid"] = second.get("/api/lunasa/hsms")["hsms"][0]["id"]

        first.kill()
        assert wait_until(lambda: second.member()["mode"] == "Read-Only", 60)
        before = lists(second, cluster)
        refused_for_it, unchanged = set(), []
        for case in described():
            reads = case[0] == "GET" and "admin" in case[2]["x-roles"]
            if reads and carried_out(case, State.READ_ONLY) and "client" not in case[1]:
                (answer,) = asked(second, case, ids)
                assert answer.status_code == 200, answer.text
            elif case[2]["x-member-states"] and not carried_out(case, State.READ_ONLY):
                for answer in asked(second, case, ids):
                    if answer.status_code < 300:  # such as removing keys where there are none
                        unchanged.append(case[2]["operationId"])
                        continue
                    body = require_refusal(answer, 400, 403, 404, 409, 422, 503)
                    if body["id"] == "CLUSTERPLUGIN_MEMBER_READ_ONLY":
                        refused_for_it.add(case[2]["operationId"])
        assert {"keyring.create", "keyring.delete", "user.enable"} <= refused_for_it
        assert lists(second, cluster) == before, unchanged

        first.start()
        built.settle()
        second.kill()
        url = f"{cluster}/members/{own}"
        assert wait_until(lambda: first.delete(url).status_code < 300, 60)
        second.start()
        assert wait_until(lambda: service_state(second) == "removed", 60)
        for case in WITH_A_CLUSTER:
            for answer in asked(second, case, ids):
                body = require_refusal(answer, 400, 403, 404, 409, 422)
                if case[0] == "GET":
                    assert body["id"] == "CLUSTERPLUGIN_MEMBER_REMOVED"


def test_a_stopped_service_refuses_and_an_unauthorized_member_makes_nothing(house: House) -> None:
    cluster_id = make_cluster(house)
    cluster = house.appliance.cluster
    client = house.client()
    (member,) = client.get(f"/api/clusters/{cluster_id}/members").json()["data"]
    ids = {"clusterid": cluster_id, "keyringid": KEYRING, "memberid": member["memberUUID"]}

    house.loop.run(cluster.stop())
    for case in WITH_A_CLUSTER:
        for body in bodies(case, co("par", CO)):
            answer = client.call(case[0], path_of(case, **ids), body)
            refusal = require_refusal(answer, 400, 403, 404, 409, 422)
            if case[0] == "GET":
                assert refusal["id"] == "CLUSTERPLUGIN_SERVICE_NOT_RUNNING"

    house.loop.run(cluster.start())
    new = {"keyRingLabel": KEYRING, "keyRingPassword": "Secret-Words-1"}
    refused = client.post("/api/keyrings", {"authentication": co("par", CO), **new})
    assert require_refusal(refused, 404, 409)["id"] == "CLUSTERPLUGIN_MEMBER_NOT_AUTHORIZED"
    assert client.get("/api/keyrings").json()["data"] == []
