"""Layouts of LunaSH that no appliance of the other tests shows; pure functions."""

from __future__ import annotations

from typing import Any

from conclave.lunash.render import cluster, keyring, service, tables
from conclave.operations.clusters import Clusters
from conclave.operations.keyrings import KeyringRole, KeyringView
from conclave.operations.members import DeletionView, Groups, GroupView, MemberView
from conclave.operations.services import ServiceView

ONE, TWO = "528b9b72-c305-4dd1-bebc-a4ca24f8c28b", "628b9b72-c305-4dd1-bebc-a4ca24f8c28b"


def member(**changes: Any) -> MemberView:
    usual: dict[str, Any] = {
        "member_uuid": ONE,
        "member_id": ONE,
        "member_name": "LNH-1",
        "member_label": "LNH-1",
        "ip_address": "192.0.2.1",
        "admin_port": 50070,
        "crypto_port": 50052,
        "group": "local",
        "primary_node": False,
        "member_active": True,
        "visible_to_servicing_node": True,
        "restart_service": False,
        "mode": "Read-Write",
        "local": False,
        "version": "1",
        "last_contact": None,
        "url": "",
    }
    return MemberView(**(usual | changes))


def test_each_mark_stands_for_one_state() -> None:
    assert cluster.marks(member()) == ""
    assert cluster.marks(member(local=True)) == "*"
    assert cluster.marks(member(primary_node=True)) == "P"
    assert cluster.marks(member(visible_to_servicing_node=False)) == "x"
    assert cluster.marks(member(restart_service=True)) == "R"
    assert cluster.marks(member(local=True, primary_node=True, restart_service=True)) == "*PR"


def test_a_deletion_says_what_is_to_be_known_of_it() -> None:
    view = DeletionView(
        promoted_member=TWO, last_contact="2026-11-26T12:00:00Z", not_reached=["third"]
    )
    assert cluster.deletion(view) == [
        "Success",
        "",
        f"Member {TWO} is the primary now.",
        "The deleted member was last heard of at 2026-11-26T12:00:00Z.",
        "Not reached: third.",
        "What only those and the deleted member hold is lost.",
    ]


def test_groups_and_clusters_may_be_empty() -> None:
    groups = Groups(
        data=[GroupView(group="local", members=[ONE]), GroupView(group="b", members=[])]
    )
    lines = cluster.group_list(groups)
    assert [line.split() for line in lines[2:4]] == [["local", ONE], ["b"]]
    assert lines[-1] == "Groups: 2"
    assert cluster.cluster_list(Clusters(data=[])) == ["There is no cluster on this appliance."]


def test_s2_a_service_that_starts_is_shown_as_starting() -> None:
    starting = ServiceView(
        id="cluster", name="Cluster", status="stopped", state="starting", on_boot=False, actions=""
    )
    assert service.service_status(starting) == ["", "   cluster is starting", ""]
    status, on_boot = cluster.cluster_status(starting)
    assert (status.split(), on_boot.split()) == (
        ["Status:", "starting"],
        ["On", "Boot:", "disabled"],
    )


def test_a_keyring_without_a_limit_of_objects() -> None:
    view = KeyringView(
        key_ring_label="ring",
        key_ring_uuid=ONE,
        serial_number="1234567890123",
        slot=3,
        locked=True,
        failed_login_attempts=10,
        object_count=7,
        max_objects=0,
        roles=[KeyringRole(id="so", name="KRSO", initialized=True)],
        created="2026-11-26T12:00:00Z",
    )
    lines = {line.split(":")[0].strip(): line.split()[-1] for line in keyring.keyring_show(view)}
    assert (lines["Locked"], lines["KRSO Initialized"]) == ("True", "True")
    assert lines["KRCO Initialized"] == "False"
    assert "   Objects:                         7 of any number" in keyring.keyring_show(view)


def test_what_others_named_commands_no_terminal() -> None:
    hostile = "a\x1b[2J\rb\u202e"
    (line,) = tables.fields((("Label", hostile),))
    assert line.endswith("a\ufffd[2J\ufffdb\ufffd")
    assert not any("\x1b" in each for each in tables.table(("Label",), [(hostile,)]))
