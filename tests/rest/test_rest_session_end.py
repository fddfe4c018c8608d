"""A session's HSM logins end with it, also for what was asked for while it lived."""

from __future__ import annotations

import pytest

from conclave.rest import sessions
from tests.support.rest_house import Client, House

HSM = {"label": "hsm", "password": "so-password", "domain": "d"}
SO = {"password": "so-password", "role": "so", "ped": "0"}
PO = {"password": "po-password", "role": "so"}
NEW = {"name": "par", "hasPso": True, "version": 1}


def waiting_policy(client: Client, house: House) -> tuple[str, str]:
    """Leave the change of policy 40 waiting; return the paths of task and partition."""
    assert client.put(house.hsm_url, HSM).status_code == 204
    assert client.post(f"{house.hsm_url}/login", SO).status_code == 204
    partition = client.post(f"{house.hsm_url}/partitions", NEW).headers["Location"]
    assert client.put(partition, {"password": "po-password", "domain": "d"}).status_code == 204
    assert client.post(f"{partition}/login", PO).status_code == 204
    task = client.put(f"{partition}/policies/40", {"value": 0}).headers["Location"]
    return task, partition


def require_refused(house: House, task: str, partition: str) -> None:
    """Start the task without any session: nobody is logged in to the partition any more."""
    other = house.client()
    refused = other.post(f"{task}/actions/start")
    assert refused.status_code == 401, refused.text
    assert refused.json()["id"] == "HSMPLUGIN_PARTITION_USER_NOT_AUTHENTICATED"
    assert other.get(f"{partition}/policies/40").json()["value"] == 1


def test_a_task_of_a_closed_session_is_not_started(house: House) -> None:
    client = house.client().open_session()
    task, partition = waiting_policy(client, house)
    assert client.delete("/auth/session").status_code == 204
    require_refused(house, task, partition)


def test_a_task_of_an_expired_session_is_not_started(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client().open_session()
    task, partition = waiting_policy(client, house)
    monkeypatch.setattr(sessions, "IDLE_MS", -1)
    require_refused(house, task, partition)


def test_a_task_of_a_session_that_made_room_is_not_started(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_PER_USER", 1)
    client = house.client().open_session()
    task, partition = waiting_policy(client, house)
    house.client().open_session()
    require_refused(house, task, partition)
