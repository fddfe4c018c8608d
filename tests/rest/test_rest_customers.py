"""Customers of a service provider: what monitor users of clients may read, and nothing of others.

Every GET of the OpenAPI document is tried as such a user, on every door that has it: it stands in
the table of what a customer may read, or it is refused; and no answer names what is another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest

from conclave.rest.openapi import OPERATIONS
from tests.rest.conftest import CUSTOMER_PASSWORD, Town, make_customer, make_keyring
from tests.rest.test_rest_generated import media_type
from tests.rest.test_rest_guide import expect, make_request
from tests.support.rest_house import (
    AUDITOR,
    DOCUMENT,
    MONITOR,
    Client,
    House,
    make_cluster,
)

OF_THE_CLUSTER = {
    "assignment.show",
    "cluster.ca",
    "cluster.config.show",
    "cluster.list",
    "cluster.show",
    "group.list",
    "member.list",
    "member.show",
}
"""Where the cluster is, and by which rules it serves: clients are told the same."""
OF_THE_APPLIANCE = {
    "appliance.cluster",
    "appliance.show",
    "document.openapi",
    "firmware.actions",
    "firmware.show",
    "hsm.licenses",
    "hsm.list",
    "hsm.policies",
    "hsm.policy",
    "hsm.role",
    "hsm.roles",
    "hsm.show",
    "hsm.storage",
    "hsm.time",
    "ntp.servers",
    "ntp.show",
    "ntp.status",
    "package.list",
    "partition.list",
    "partition.policies",
    "partition.policy",
    "partition.show",
    "role.list",
    "role.show",
    "service.actions",
    "service.list",
    "service.show",
    "syslog.remote_hosts",
    "syslog.show",
    "time.show",
    "time.zones",
    "web_server.show",
}
"""What the appliance is and how it is set up."""
OF_THE_HOST = {
    "cpu.show",
    "disk.partitions",
    "disk.show",
    "memory.show",
    "network.device",
    "network.device.stats",
    "network.devices",
    "network.show",
    "sensor.list",
}
"""The host's own numbers, of which keyrings are a part among others."""
OF_ONESELF = {
    "client.keyrings",
    "client.list",
    "client.show",
    "enrolment.list",
    "file.download",
    "file.list",
    "file.show",
    "keyring.list",
    "keyring.show",
    "task.actions",
    "task.list",
    "task.response",
    "task.show",
    "user.certificates",
    "user.keys",
    "user.show",
}
"""What is the customer's; of lists, the part that is."""
MAY_READ = OF_THE_CLUSTER | OF_THE_APPLIANCE | OF_THE_HOST | OF_ONESELF
LISTS = {"client.list", "enrolment.list", "keyring.list", "client.keyrings"}
READINGS = sorted(
    (path, methods["get"]["operationId"])
    for path, methods in DOCUMENT["paths"].items()
    if "get" in methods
)
KINDS = {each.path: media_type(each) for each in OPERATIONS if each.method == "GET"}
"""The header that each path takes."""
METRICS = "/metrics"
CLIENTS = "/api/clusters/{clusterid}/clients"
LOG = "/api/lunasa/logs/messages"


@dataclass
class Holding:
    """What a customer has."""

    user: str
    client: dict[str, Any]
    keyring: dict[str, str]
    token: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Return all that tells of it."""
        ring, client = self.keyring, self.client
        of_client = [client["clientID"], client["clientLabel"], client["commonName"]]
        of_keyring = [ring["keyRingLabel"], ring["keyRingUUID"]]
        return [self.user, *of_client, *of_keyring, self.token["tokenID"]]


@dataclass
class Market:
    """A customer, another one, and the doors as the first one comes through them."""

    town: Town
    own: Holding
    other: Holding
    doors: dict[int, Client] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """What stands for the placeholders of paths."""

    def fill(self, path: str, **others: str) -> str:
        known = self.places | others
        return re.sub(r"\{([a-z]+)\}", lambda found: known[found[1]], path)

    def read(self, port: int, path: str, **others: str) -> httpx.Response:
        return self.doors[port].get(self.fill(path, **others), headers=KINDS[path])


def make_holding(town: Town, name: str) -> Holding:
    """Make a customer with a client, which came by a token, and a keyring of that client's."""
    make_customer(town, name)
    admin, cluster = town.house.client(), f"/api/clusters/{town.cluster_id}"
    bound = {"monitorUser": name, "label": f"label-{name}"}
    token = expect(admin.post(f"{cluster}/enrolmentTokens", bound), 201).json()
    body = {"token": token.pop("token"), "csr": make_request(f"host-{name}")}
    enrolled = town.house.admin_client(None).post(f"{cluster}/clients/actions/enrol", body)
    client = expect(enrolled, 201).json()
    keyring = make_keyring(town, f"ring-{name}")
    assigned = {"keyrings": [keyring["keyRingUUID"]]}
    expect(admin.post(f"{client['url']}/keyrings", assigned), 204)
    return Holding(name, client, keyring, token)


def first_of(client: Client, path: str, list_name: str, key: str = "id") -> str:
    found: str = expect(client.get(path), 200).json()[list_name][0][key]
    return found


@pytest.fixture(scope="module")
def market(town: Town) -> Iterator[Market]:
    own, other = (make_holding(town, f"cust-{uuid4().hex[:8]}") for _ in range(2))
    made, admin = Market(town, own, other), town.house.client()
    login = (own.user, CUSTOMER_PASSWORD)
    made.doors = {8443: town.house.client(login), 50070: town.house.admin_client(login)}
    hsm = town.house.hsm_url
    file = {"file": ("notes.txt", b"mine")}
    form = {"Content-Type": None}
    sent = made.doors[8443].post(f"/users/{own.user}/files", files=file, headers=form)
    expect(sent, 204)
    partition = first_of(admin, f"{hsm}/partitions", "partitions")
    made.places = {
        "clientid": own.client["clientID"],
        "clusterid": town.cluster_id,
        "deviceid": first_of(admin, "/api/lunasa/network/devices", "devices"),
        "fileid": "notes.txt",
        "hsmid": hsm.rpartition("/")[2],
        "keyringid": own.keyring["keyRingLabel"],
        "memberid": first_of(
            admin, f"/api/clusters/{town.cluster_id}/members", "data", key="memberUUID"
        ),
        "partitionid": partition,
        "policyid": first_of(admin, f"{hsm}/policies", "policies"),
        "roleid": "so",
        "serviceid": "cluster",
        "taskid": "1",
        "userid": own.user,
    }
    yield made
    for each in (own, other):
        expect(admin.delete(f"/users/{each.user}"), 204)


def doors_of(path: str) -> list[int]:
    doors: list[int] = DOCUMENT["paths"][path]["get"]["x-doors"]
    return doors


@pytest.mark.parametrize(("path", "name"), READINGS, ids=[name for _, name in READINGS])
def test_a_customer_reads_what_the_table_says_and_nothing_of_another(
    market: Market, path: str, name: str
) -> None:
    for port in doors_of(path):
        answer = market.read(port, path)
        if name not in MAY_READ:
            assert (answer.status_code, answer.json()["id"]) == (403, "FRAMEWORK_NO_ACL_RULE")
        elif name.startswith("task.") and "{taskid}" in path:
            assert answer.status_code in (404, 410)  # a customer has made none
        elif name in ("partition.policy", "role.show"):
            assert answer.status_code in (200, 404)  # of this partition
        else:
            assert answer.status_code == 200, answer.text
        if name in LISTS:
            assert any(each in answer.text for each in market.own.names)
        for foreign in market.other.names:
            assert foreign not in answer.text


@pytest.mark.parametrize("path", [path for path, name in READINGS if name in OF_ONESELF])
def test_what_is_anothers_is_answered_as_what_is_not_there(market: Market, path: str) -> None:
    other = market.other
    names = {
        "{clientid}": [other.client["clientID"]],
        "{keyringid}": [other.keyring["keyRingLabel"], other.keyring["keyRingUUID"]],
        "{userid}": [other.user],
    }
    for placeholder, foreign in names.items():
        for each in foreign if placeholder in path else ():
            for port in doors_of(path):
                key = placeholder.strip("{}")
                answer = market.read(port, path, **{key: each})
                nobodys = str(uuid4()) if len(each) == 36 else "x" * len(each)
                made_up = market.read(port, path, **{key: nobodys})
                assert answer.status_code == made_up.status_code
                assert answer.status_code in (403, 404)
                assert answer.text.replace(each, nobodys) == made_up.text


def test_the_table_names_nothing_that_is_not_there() -> None:
    assert {name for _, name in READINGS} >= MAY_READ


def test_a_plain_monitor_reads_all_that_monitors_may(market: Market) -> None:
    """The built-in user is nobody's customer here, and sees everybody's."""
    monitor = market.town.house.client(MONITOR)
    for path, _ in READINGS:
        if "monitor" in DOCUMENT["paths"][path]["get"]["x-roles"] and "{" not in path:
            expect(monitor.get(path, headers=KINDS[path]), 200)
    expect(monitor.post(LOG, {"entries": 1}), 200)
    for name in (market.own, market.other):
        assert name.client["clientID"] in monitor.get(f"{market.fill(CLIENTS)}").text


def test_a_customer_reads_no_log_and_is_recorded_as_refused(market: Market) -> None:
    refused = expect(market.doors[8443].post(LOG, {"entries": 1}), 403)
    assert "is the monitor user of a client or an enrolment token" in refused.text
    lines, _ = market.town.house.loop.run(market.town.house.appliance.audit.page(0, 5))
    assert any(
        b'"syslog.tail"' in line and market.own.user.encode() in line and b'"refused"' in line
        for line in lines
    )


def test_the_keyrings_of_a_customer_follow_assignment_and_revocation(
    town: Town, customer: Client, customer_name: str
) -> None:
    theirs = make_keyring(town, f"ring-{customer_name}")
    seen = customer.get("/api/keyrings").json()["data"]
    assert theirs in seen  # nobody's customer yet
    admin, clients = town.house.client(), f"/api/clusters/{town.cluster_id}/clients"
    new = {"csr": make_request(f"host-{customer_name}"), "monitorUser": customer_name}
    own = expect(admin.post(clients, new), 201).json()
    assert customer.get("/api/keyrings").json()["data"] == []
    expect(admin.post(f"{own['url']}/keyrings", {"keyrings": [theirs["keyRingLabel"]]}), 204)
    assert customer.get("/api/keyrings").json()["data"] == [theirs]
    expect(admin.delete(f"{own['url']}/keyrings/{theirs['keyRingLabel']}"), 204)
    assert customer.get("/api/keyrings").json()["data"] == []
    expect(customer.get(f"/api/keyrings/{theirs['keyRingLabel']}"), 404)
    expect(admin.post(f"{own['url']}/keyrings", {"keyrings": [theirs["keyRingUUID"]]}), 204)
    assert customer.get("/api/keyrings").json()["data"] == [theirs]
    expect(admin.delete(own["url"]), 204)
    assert customer.get("/api/keyrings").json()["data"] == []


def test_who_was_a_customer_once_stays_one(
    town: Town, customer: Client, customer_name: str
) -> None:
    expect(customer.post(LOG, {"entries": 1}), 200)
    expect(customer.get(METRICS), 200)
    admin, tokens = town.house.client(), f"/api/clusters/{town.cluster_id}/enrolmentTokens"
    bound = expect(admin.post(tokens, {"monitorUser": customer_name}), 201).json()
    expect(admin.delete(bound["url"]), 204)
    assert customer.get("/api/keyrings").json()["data"] == []
    expect(customer.post(LOG, {"entries": 1}), 403)
    expect(customer.get(METRICS), 403)
    expect(admin.post(LOG, {"entries": 1}), 200)
    expect(admin.get(METRICS), 200)


def test_a_rule_of_a_custom_role_shows_a_customer_no_log(
    town: Town, customer: Client, customer_name: str
) -> None:
    """What a role grants by name, its users have, but for what tells of everybody."""
    admin, role = town.house.client(), f"role_{uuid4().hex[:8]}"
    tokens = f"/api/clusters/{town.cluster_id}/enrolmentTokens"
    expect(admin.post(tokens, {"monitorUser": customer_name}), 201)
    granted = ("GET:/users", "POST:/api/lunasa/syslog/actions/tarlogs", "GET:/metrics")
    expect(admin.post("/roles", {"roleId": role}), 204)
    octets = {"Content-Type": "application/vnd.safenetinc.lunasa+octet-stream;version="}
    rules = "\n".join(granted)
    expect(admin.put(f"/roles/{role}/resources", content=rules, headers=octets), 204)
    expect(admin.patch(f"/users/{customer_name}", {"role": role}), 204)
    try:
        expect(customer.get("/users"), 200)
        expect(customer.get(METRICS), 403)
        expect(customer.post("/api/lunasa/syslog/actions/tarlogs"), 403)
    finally:
        expect(admin.patch(f"/users/{customer_name}", {"role": "monitor"}), 204)
        expect(admin.delete(f"/roles/{role}"), 204)


def test_while_the_service_is_stopped_monitors_read_what_tells_of_nobody(
    house: House,
) -> None:
    """Only the cluster process knows who is a customer; without it the logs are shut to both."""
    usage = f"{house.hsm_url}/information"
    monitor = house.client(MONITOR)
    expect(monitor.post(LOG, {"entries": 1}), 200)  # there is no cluster
    make_cluster(house)
    for path in (METRICS, usage):
        expect(monitor.get(path), 200)
    house.loop.run(house.appliance.cluster.stop())
    for path in (METRICS, usage, "/api/lunasa/cpu", "/api/lunasa/services/cluster"):
        expect(monitor.get(path), 200)
    refused = expect(monitor.post(LOG, {"entries": 1}), 409)
    assert refused.json()["id"] == "CLUSTERPLUGIN_SERVICE_NOT_RUNNING"
    expect(house.client().post(LOG, {"entries": 1}), 200)
    expect(house.client(AUDITOR).get("/api/lunasa/audit/records"), 200)
