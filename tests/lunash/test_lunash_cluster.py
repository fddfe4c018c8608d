"""The cluster, keyring and service families over ssh, as the guide's chapters 2, 3 and 5 have them.

One appliance serves all tests of this file; its HSM and partition are there at the beginning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from conclave.appliance.user_rules import UserRole
from conclave.service.client_messages import RegisterClient
from tests.support.appliance_bench import make_cluster_partition_of
from tests.support.cluster_bench import client_request
from tests.support.hsm_bench import CO, SO
from tests.support.ssh_house import TRAILER, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
OTHER = "528b9b72-c305-4dd1-bebc-a4ca24f8c28b"
CO_PASSWORD = CO.decode()
SO_PASSWORD = SO.decode()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    """Open an appliance with a partition, and nothing of a cluster."""
    with open_ssh_house(tmp_path_factory.mktemp("cluster")) as opened:
        opened.loop.run(make_cluster_partition_of(opened.appliance))
        yield opened


@pytest.fixture(scope="module")
def house(bare: SshHouse) -> SshHouse:
    """Go from there to an authorized cluster by the guide's commands, and look at each answer."""
    chapter_2(bare)
    chapter_3(bare)
    return bare


def well(house: SshHouse, line: str, **options: Any) -> Answer:
    answer = house.ssh(line, **options)
    assert answer.status == 0, answer
    assert TRAILER in answer.out + answer.err
    return answer


def shown(house: SshHouse, line: str) -> Any:
    return json.loads(well(house, f"{line} -json").out)


def told(answer: Answer) -> str:
    """Return the sentence of a refusal."""
    assert answer.status == 1, answer
    (*_, sentence) = [line for line in answer.lines if line.startswith("Error:")]
    return sentence.removeprefix("Error:").strip()


def fact(answer: Answer, title: str) -> str:
    """Return the value of one of the fields that a show prints."""
    (line,) = [each for each in answer.lines if each.startswith(f"   {title}:")]
    return line.partition(":")[2].strip()


def chapter_2(house: SshHouse) -> None:
    (address,) = house.appliance.config.interfaces.values()
    assert "core address" in told(house.ssh("cluster enable"))
    assert not house.appliance.cluster.status().on_boot
    assert "Success" in well(house, f"cluster config -service core -ipaddress {address}").lines
    enabled = well(house, "cluster enable")
    assert "   The cluster service is starting." in enabled.lines
    assert "Success" in enabled.lines
    status = well(house, "cluster status")
    assert (fact(status, "Status"), fact(status, "On Boot")) == ("running", "enabled")
    well(house, "cluster config -service admin -interface eth0 -port 50075")
    well(house, "CLUSTER CONFIG -SERVICE admin -INTERFACE eth0 -PORT 50070")
    config = {part["service"]: part for part in shown(house, "cluster config show")["data"]}
    assert config["core"]["IpAddress"] == address
    assert (config["admin"]["port"], config["admin"]["interface"]) == (50070, "eth0")
    well(house, "service restart cluster")


def chapter_3(house: SshHouse) -> None:
    assert "There is no cluster on this appliance." in well(house, "cluster list").lines
    created = well(house, "cluster create -label testCluster", stdin=SO_PASSWORD + "\n")
    assert "Success" in created.lines
    assert SO_PASSWORD not in created.out
    (cluster,) = shown(house, "cluster list")["data"]
    assert cluster["clusterLabel"] == "testCluster"
    (member,) = shown(house, f"cluster member list -clusterid {cluster['clusterUUID']}")["data"]
    assert member["memberName"] == f"LNH-{house.appliance.hsm.info().serial}"
    authorize = f"cluster member authorize -partition par -memberid {member['memberUUID']}"
    assert "Success" in well(house, authorize, stdin=CO_PASSWORD + "\n").lines


# ---------------------------------------------------------------- chapter 3


def test_s2_starting_is_shown_as_the_state(house: SshHouse) -> None:
    assert shown(house, "cluster status")["state"] == "running"
    lines = well(house, "cluster member list").lines
    (row,) = [line for line in lines if "LNH-" in line]
    assert row.startswith("*P ")
    show = well(house, "cluster member show")
    assert fact(show, "Mode") == "Read-Write"
    for title in ("Primary", "Local", "Visible", "Authorized"):
        assert fact(show, title) == "True", title


def test_a_member_moves_to_a_group_and_is_promoted(house: SshHouse) -> None:
    member = shown(house, "cluster member show")["memberUUID"]
    well(house, f"cluster member config -memberid {member} -group newgroup")
    assert {"group": "newgroup", "members": [member]} in shown(house, "cluster group list")["data"]
    assert member in well(house, "cluster group list").out
    well(house, f"cluster member config -memberid {member} -primary")
    both = told(house.ssh(f"cluster member config -memberid {member} -group x -primary"))
    assert both == "Give either -group or -primary, and not both."


def test_what_the_guide_forbids_is_refused_and_nothing_changes(house: SshHouse) -> None:
    member = shown(house, "cluster member show")["memberUUID"]
    second = house.ssh(f"cluster create -label second -password {SO_PASSWORD}")
    assert "cluster" in told(second)
    leave = f"cluster leave -memberid {member} -partition par -copassword {CO_PASSWORD}"
    assert "last" in told(house.ssh(leave))
    delete = f"cluster member delete -memberid {member} -copassword {CO_PASSWORD}"
    assert "it can leave, not delete itself" in told(house.ssh(delete))
    unknown = told(house.ssh(f"cluster member show -memberid {OTHER}"))
    assert unknown == f"The cluster has no member '{OTHER}'."
    join = (
        f"cluster join -clusterid {OTHER} -clusteripaddress 127.255.255.254"
        f" -remotepassword Remote-Admin-1 -partition par -copassword {CO_PASSWORD}"
    )
    assert "aborted by the user" in house.ssh(join, stdin="quit\n").out
    assert "cluster" in told(house.ssh(f"{join} -force"))
    assert "-ipaddress must be given" in told(house.ssh("cluster config -service core"))
    core = told(house.ssh("cluster config -service core -port 50070"))
    assert core == "-port does not go with the other options of 'cluster config'."
    assert "50075" in told(house.ssh("cluster config -service admin -port 50060"))
    assert len(shown(house, "cluster member list")["data"]) == 1


def test_the_authority_is_shown_to_compare_its_fingerprint(house: SshHouse) -> None:
    shows = shown(house, "cluster ca show")
    lines = well(house, "cluster ca show", user="monitor").lines
    assert any(line.endswith(shows["fingerprint"]) for line in lines)
    assert "-----BEGIN CERTIFICATE-----" in lines


def test_clients_are_listed_shown_and_revoked(house: SshHouse) -> None:
    request = client_request("app.example", ec.generate_private_key(ec.SECP256R1()))
    call = RegisterClient(request_pem=request, label="billing", monitor_user="")
    house.loop.run(house.appliance.cluster.call("register_client", call))
    listed = shown(house, "cluster client list")["data"]
    (client,) = [each for each in listed if each["commonName"] == "app.example"]
    (row,) = [line for line in well(house, "cluster client list").lines if "app.example" in line]
    assert row.split() == [client["clientID"], "app.example", "billing", "False"]
    revoke = f"cluster client revoke -clientid {client['clientID']}"
    assert "aborted by the user" in house.ssh(revoke, stdin="quit\n").out
    well(house, f"{revoke} -force")
    show = well(house, f"cluster client show -clientid {client['clientID']}")
    assert (fact(show, "Label"), fact(show, "Revoked")) == ("billing", "True")


def test_tokens_are_made_listed_and_revoked(house: SshHouse) -> None:
    made = well(house, "cluster client token create -commonname app1 -label billing -minutes 5")
    token = fact(made, "Token")
    assert token.startswith("enrol-")
    assert "The token is not shown again. It registers one client, once." in made.lines
    (row,) = shown(house, "cluster client token list")["data"]
    assert (row["commonName"], row["clientLabel"], row["state"]) == ("app1", "billing", "open")
    listed = well(house, "cluster client token list", user="monitor")
    assert row["tokenID"] in listed.out
    assert token not in listed.out
    refused = house.ssh("cluster client token create", user="operator")
    assert "no rule that lets the role 'operator'" in told(refused)
    well(house, f"cluster client token revoke -tokenid {row['tokenID']}")
    assert shown(house, "cluster client token list")["data"][0]["state"] == "revoked"


def test_keyrings_are_assigned_to_clients_and_taken_away(house: SshHouse) -> None:
    request = client_request("app2", ec.generate_private_key(ec.SECP256R1()))
    call = RegisterClient(request_pem=request, label="", monitor_user="")
    house.loop.run(house.appliance.cluster.call("register_client", call))
    listed = shown(house, "cluster client list")["data"]
    (client_id,) = [each["clientID"] for each in listed if each["commonName"] == "app2"]
    create = "keyring create -label mine -password first-password -partition par"
    well(house, f"{create} -copassword {CO_PASSWORD}")
    client = f"-clientid {client_id}"
    well(house, f"cluster client keyring assign {client} -keyring mine")
    (row,) = shown(house, f"cluster client keyring list {client}")["data"]
    assert row["keyRingLabel"] == "mine"
    assert "Keyrings: 1" in well(house, f"cluster client keyring list {client}").lines
    well(house, f"cluster client keyring remove {client} -keyring {row['keyRingUUID']}")
    assert shown(house, f"cluster client keyring list {client}")["data"] == []
    assert shown(house, "cluster client assignment show") == {"mode": "open"}
    well(house, "cluster client assignment set -mode assigned")
    assert fact(well(house, "cluster client assignment show"), "Assignment Mode") == "assigned"
    well(house, "cluster client assignment set -mode open")
    well(house, f"keyring delete -label mine -copassword {CO_PASSWORD}")


def test_a_customer_is_shown_the_own_and_nothing_of_everybodys(house: SshHouse) -> None:
    users, name, password = house.appliance.users, "customer", "Customer-Cust-1"
    first = "First-Password-1"
    made = users.create(name, first, role=UserRole.MONITOR, source="127.0.0.1")
    house.loop.run(made)
    changed = users.change_own_password(name, first, password, source="127.0.0.1")
    house.loop.run(changed)
    for monitor_user in (name, ""):
        host = f"host of {monitor_user or 'nobody'}"
        request = client_request(host, ec.generate_private_key(ec.SECP256R1()))
        call = RegisterClient(request_pem=request, label="", monitor_user=monitor_user)
        house.loop.run(house.appliance.cluster.call("register_client", call))
    listed = well(house, "cluster client list", user=name, password=password).out
    assert f"host of {name}" in listed
    assert "host of nobody" not in listed
    for line in ("hsm information show", "syslog tail -logname messages", "syslog list"):
        refused = told(house.ssh(line, user=name, password=password))
        assert refused.startswith(f"User {name} is the monitor user of a client")
        well(house, line, user="monitor")
    well(house, "cluster member list", user=name, password=password)


# ---------------------------------------------------------------- chapter 5


def test_keyrings_are_created_listed_shown_unlocked_and_deleted(house: SshHouse) -> None:
    create = "keyring create -label ring -password first-password -partition par -total 2 -index 7"
    created = well(house, create, stdin=CO_PASSWORD + "\n")
    assert "Success" in created.lines
    assert CO_PASSWORD not in created.out
    rings = {ring["keyRingLabel"]: ring for ring in shown(house, "keyring list")["data"]}
    assert {"ring7", "ring8"} <= rings.keys()
    ring = rings["ring7"]["keyRingUUID"]
    assert ring in well(house, "keyring list").out
    show = well(house, f"keyring show -keyringid {ring}")
    assert (fact(show, "Label"), fact(show, "Locked")) == ("ring7", "False")
    well(house, f"keyring unlock -keyringid {ring} -copassword {CO_PASSWORD}")
    well(house, "keyring unlock -label ring8", stdin=CO_PASSWORD + "\n")
    wrong = told(house.ssh("keyring delete -label ring8 -copassword wrong-password"))
    assert "wrong-password" not in wrong
    well(house, f"keyring delete -label ring8 -copassword {CO_PASSWORD}")
    well(house, f"keyring delete -keyringid {ring} -copassword {CO_PASSWORD}")
    left = {each["keyRingLabel"] for each in shown(house, "keyring list")["data"]}
    assert not left & {"ring7", "ring8"}


def test_a_new_keyring_password_is_asked_for_twice(house: SshHouse) -> None:
    create = f"keyring create -label twice -partition par -copassword {CO_PASSWORD}"
    differ = house.ssh(create, stdin="first-password\nother-password\n")
    assert told(differ) == "The two answers for -password differ; nothing was changed."
    well(house, create, stdin="first-password\nfirst-password\n")
    well(house, f"keyring delete -label twice -copassword {CO_PASSWORD}")


def test_a_keyring_is_named_by_label_or_by_id(house: SshHouse) -> None:
    neither = told(house.ssh(f"keyring delete -copassword {CO_PASSWORD}"))
    needs = "'keyring delete' needs -keyringid <UUID> or -label <keyringlabel>."
    assert neither == needs
    both = told(house.ssh(f"keyring show -keyringid {OTHER} -label ring"))
    assert both == "'keyring show' takes -keyringid or -label, not both."


def test_roles_see_clusters_and_keyrings_but_change_nothing(house: SshHouse) -> None:
    for line in ("cluster member list", "keyring list", "cluster status", "service list"):
        well(house, line, user="monitor")
    for line in ("keyring create -label x -partition par", "cluster create -label x"):
        refused = house.ssh(line, user="operator", stdin="")
        assert "no rule that lets the role 'operator'" in told(refused)
        assert "Please enter" not in refused.out


# ---------------------------------------------------------------- services


def test_services_are_listed_with_their_states(house: SshHouse) -> None:
    services = {each["id"]: each for each in shown(house, "service list")["services"]}
    assert services["cluster"]["state"] == "running"
    (row,) = [line for line in well(house, "service list").lines if line.startswith("cluster ")]
    assert row.split() == ["cluster", "Cluster", "running", "enabled"]
    assert "   cluster is running" in well(house, "service status cluster").lines
    assert "   ntls is not running" in well(house, "service status ntls").lines
    unknown = told(house.ssh("service status nothing"))
    assert unknown.startswith("There is no service 'nothing'; there are cluster, ")
    assert "has no action 'start'" in told(house.ssh("service start ntls"))


def test_s3_disable_leaves_a_running_service_alone(house: SshHouse) -> None:
    well(house, "cluster disable", user="operator")
    status = house.appliance.cluster.status()
    assert (status.on_boot, status.state) == (False, "running")
    well(house, "cluster enable")
    assert house.appliance.cluster.status().on_boot


def test_s8_a_factory_reset_asks_and_keeps_the_partition(house: SshHouse) -> None:
    reset = "sysconf config factoryreset -service cluster"
    assert "aborted by the user" in house.ssh(reset, stdin="quit\n").out
    assert house.appliance.cluster.status().state == "running"
    well(house, reset, stdin="proceed\n")
    assert house.appliance.cluster.status().state == "stopped"
    assert shown(house, "cluster config show")["data"][0].get("IpAddress", "") == ""
    assert [each.label for each in house.appliance.hsm.partitions()] == ["par"]
    assert "stopped" in told(house.ssh("cluster list"))
    # The house is left as it was found.
    (address,) = house.appliance.config.interfaces.values()
    well(house, f"cluster config -service core -ipaddress {address}")
    well(house, "cluster enable")
    chapter_3(house)
