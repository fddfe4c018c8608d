"""Tasks over REST: waiting, starting, cancelling, expiring."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conclave.operations.model import (
    ADMINS,
    DONE,
    Call,
    Caller,
    Duration,
    NoArguments,
    Reply,
    operation,
)
from conclave.operations.task_table import TaskTable
from conclave.operations.tasks import task_view
from conclave.rest.sessions import SessionTable
from conclave.rest.tasks import execute
from conclave.settings import RestSettings
from tests.support.rest_house import (
    ADMIN,
    MONITOR,
    OPERATOR,
    Client,
    House,
    open_house,
    settle_users,
)

HSM = {"label": "hsm", "password": "so-password", "domain": "d"}


def initialized(client: Client, house: House) -> None:
    """Initialise the HSM and log its SO in."""
    assert client.put(house.hsm_url, HSM).status_code == 204
    so = {"password": HSM["password"], "role": "so"}
    assert client.open_session().post(f"{house.hsm_url}/login", so).status_code == 204


def waiting_task(client: Client, house: House) -> str:
    """Ask for a second initialisation, which waits, and return the task's path."""
    initialized(client, house)
    waiting = client.put(house.hsm_url, HSM | {"label": "again"})
    assert waiting.status_code == 202
    assert waiting.json()["state"] == "Waiting"
    return str(waiting.headers["Location"])


def test_a_waiting_task_has_changed_nothing_and_can_be_cancelled(house: House) -> None:
    client = house.client()
    task = waiting_task(client, house)
    assert [each["id"] for each in client.get(f"{task}/actions").json()["actions"]] == [
        "start",
        "cancel",
    ]
    assert client.get(f"{task}/response").json()["id"] == "TASK_STATE_INVALID"
    assert client.post(f"{task}/actions/cancel").status_code == 204
    shown = client.get(task)
    assert shown.status_code == 303
    assert shown.json()["state"] == "Cancelled"
    assert client.get(house.hsm_url).json()["label"] == "hsm"
    refused = client.post(f"{task}/actions/start")
    assert (refused.status_code, refused.json()["id"]) == (409, "TASK_STATE_INVALID")
    assert client.get(f"{task}/actions").json() == {"actions": []}


def test_a_started_task_runs_once_and_keeps_its_answer(house: House) -> None:
    client = house.client()
    task = waiting_task(client, house)
    started = client.post(f"{task}/actions/start")
    assert started.status_code == 202
    assert started.headers["Location"] == task
    shown = client.get(task)
    assert shown.status_code == 303
    assert shown.headers["Location"] == f"{task}/response"
    body = shown.json()
    assert body["state"] == "Finished"
    assert body["startTime"].endswith("Z")
    assert body["finishTime"].endswith("Z")
    answer = client.get(f"{task}/response")
    assert (answer.status_code, answer.headers["Location"]) == (204, house.hsm_url)
    assert client.get(house.hsm_url).json()["label"] == "again"
    assert client.post(f"{task}/actions/start").status_code == 409


def test_a_task_that_fails_says_why_at_once_and_later(house: House) -> None:
    client = house.client()
    refused = client.post("/api/lunasa/services/cluster/actions/start")
    assert refused.status_code in (400, 409, 422)
    assert "partition" in refused.json()["details"] or "HSM" in refused.json()["details"]
    (task,) = client.get("/tasks").json()["tasks"]
    assert task["state"] == "Error"
    assert task["details"] == refused.json()["details"]
    again = client.get(task["responseUrl"])
    assert again.status_code == refused.status_code
    assert again.json() == refused.json()


def test_what_held_at_the_call_must_hold_at_the_start(house: House) -> None:
    client = house.client().open_session()
    assert client.put(house.hsm_url, HSM).status_code == 204
    so = {"password": "so-password", "role": "so", "ped": "0"}
    assert client.post(f"{house.hsm_url}/login", so).status_code == 204
    new = {"name": "par", "hasPso": True, "version": 1}
    partition = client.post(f"{house.hsm_url}/partitions", new).headers["Location"]
    assert client.put(partition, {"password": "po-password", "domain": "d"}).status_code == 204
    po = {"password": "po-password", "role": "so"}
    assert client.post(f"{partition}/login", po).status_code == 204
    task = client.put(f"{partition}/policies/40", {"value": 0}).headers["Location"]
    assert client.post(f"{partition}/logout").status_code == 204
    refused = client.post(f"{task}/actions/start")
    assert refused.status_code == 401
    assert refused.json()["id"] == "HSMPLUGIN_PARTITION_USER_NOT_AUTHENTICATED"
    assert client.get(f"{partition}/policies/40").json()["value"] == 1


def test_tasks_are_seen_by_their_owner_and_by_administrators(house: House) -> None:
    client = house.client()
    task = waiting_task(client, house)
    operator = house.client(OPERATOR)
    assert operator.get("/tasks").json() == {"tasks": []}
    gone = operator.get(task)
    assert (gone.status_code, gone.json()["id"]) == (410, "TASK_DOES_NOT_EXIST")
    assert operator.post(f"{task}/actions/start").status_code == 410
    assert house.client(MONITOR).get("/tasks").status_code == 200
    assert len(client.get("/tasks").json()["tasks"]) == 1


def test_who_lost_the_right_cannot_start_the_task(house: House) -> None:
    admin = house.client()
    password = {"password": "Joe-Password-1"}
    joe = {"userId": "joe", "role": "operator", **password}
    assert admin.post("/users", joe).status_code == 204
    own = {"currentPassword": "Joe-Password-1", "password": "Joe-Password-2"}
    client = house.client(("joe", "Joe-Password-1"))
    assert client.post("/users/joe/actions/changePassword", own).status_code == 204
    client = house.client(("joe", "Joe-Password-2"))
    waiting = client.post("/api/lunasa/services/cluster/actions/factoryreset")
    assert waiting.status_code == 202
    assert admin.patch("/users/joe", {"role": "monitor"}).status_code == 204
    refused = client.post(f"{waiting.headers['Location']}/actions/start")
    assert (refused.status_code, refused.json()["id"]) == (403, "FRAMEWORK_NO_ACL_RULE")


def test_unknown_tasks_and_actions(house: House) -> None:
    client = house.client()
    assert client.get("/tasks/4711").status_code == 410
    assert client.get("/tasks/none").status_code == 400
    task = waiting_task(client, house)
    unknown = client.post(f"{task}/actions/explode")
    assert (unknown.status_code, unknown.json()["id"]) == (404, "TASK_ACTION_INVALID")


def test_old_callers_may_be_told_of_tasks_by_204(tmp_path: Path) -> None:
    settings = RestSettings(task_status_204=True)
    with open_house(tmp_path / "appliance", settings) as house:
        settle_users(house)
        client = house.client()
        initialized(client, house)
        waiting = client.put(house.hsm_url, HSM)
        assert (waiting.status_code, waiting.content) == (204, b"")
        assert waiting.headers["Location"].startswith("/tasks/")


def test_a_call_that_cannot_succeed_makes_no_task(house: House) -> None:
    client = house.client()
    assert client.put(house.hsm_url, HSM).status_code == 204
    for change in ({"password": ""}, {"ped": "1"}, {"defaultDomain": True}):
        assert client.put(house.hsm_url, HSM | change).status_code == 400
    assert client.get("/tasks").json() == {"tasks": []}


def test_an_initialised_hsm_is_initialised_anew_by_its_security_officer_alone(
    house: House,
) -> None:
    client = house.client()
    assert client.put(house.hsm_url, HSM).status_code == 204
    for caller in (client, house.client().open_session()):
        refused = caller.put(house.hsm_url, HSM)
        assert (refused.status_code, refused.json()["id"]) == (
            401,
            "HSMPLUGIN_SO_NOT_AUTHENTICATED",
        )
    assert client.get("/tasks").json() == {"tasks": []}
    session = house.client().open_session()
    so = {"password": HSM["password"], "role": "so"}
    assert session.post(f"{house.hsm_url}/login", so).status_code == 204
    task = session.put(house.hsm_url, HSM | {"label": "again"}).headers["Location"]
    assert session.post(f"{house.hsm_url}/logout").status_code == 204
    assert session.post(f"{task}/actions/start").status_code == 401
    assert client.get(house.hsm_url).json()["label"] == "hsm"


def test_a_running_task_says_how_far_it_is(house: House) -> None:
    let_go = asyncio.Event()

    @operation(
        "far.go",
        "POST",
        "/far",
        summary="Go far.",
        arguments=NoArguments,
        roles=ADMINS,
        statuses=(202,),
        duration=Duration.TASK,
        settle_seconds=0.01,
    )
    async def go_far(call: Call, _arguments: NoArguments) -> Reply:
        """Go far."""
        call.progress("half-way")
        await let_go.wait()
        return DONE

    async def scene() -> list[tuple[str, str]]:
        appliance = house.appliance
        tasks = TaskTable(appliance.clock)
        login = await appliance.users.authenticate(*ADMIN, source="192.0.2.1")
        user = appliance.users.current(login)
        assert user is not None
        call = Call(
            appliance=appliance,
            tasks=tasks,
            sessions=SessionTable(),
            caller=Caller(user=user, login=login, source="192.0.2.1"),
            session=None,
            source="192.0.2.1",
            path={},
        )
        await execute(go_far, call, NoArguments(), "/far", RestSettings())
        (task,) = tasks.all(visible_to=None)
        seen = [(task_view(task).state, task_view(task).details)]
        let_go.set()
        assert await task.ended_within(5)
        seen.append((task_view(task).state, task_view(task).details))
        await tasks.close()
        return seen

    assert house.loop.run(scene()) == [("Running", "half-way"), ("Finished", "half-way")]
