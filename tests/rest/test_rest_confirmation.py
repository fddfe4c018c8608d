"""A destructive call runs only as a task that was started, whoever else calls meanwhile."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.rest_house import Client, House

HSM = {"password": "so-password", "domain": "d"}


def at_once(house: House, client: Client, *bodies: dict[str, str]) -> list[httpx.Response]:
    """Send several initialisations at the same moment."""

    async def send() -> list[httpx.Response]:
        headers = {"Content-Type": "application/vnd.safenetinc.lunasa+json;version="}
        calls = [client.http.put(house.hsm_url, json=body, headers=headers) for body in bodies]
        return await asyncio.gather(*calls)

    return house.loop.run(send())


def test_of_two_callers_who_initialise_the_hsm_one_is_refused(house: House) -> None:
    client = house.client()
    answers = at_once(house, client, HSM | {"label": "one"}, HSM | {"label": "two"})
    assert sorted(answer.status_code for answer in answers) == [204, 422]
    (refused,) = [answer for answer in answers if answer.status_code == 422]
    assert "must be confirmed" in refused.json()["details"]
    (done,) = [number for number, answer in enumerate(answers) if answer.status_code == 204]
    assert client.get(house.hsm_url).json()["label"] == ("one", "two")[done]


def test_what_cannot_succeed_never_waits(house: House) -> None:
    client = house.client()
    first = HSM | {"label": "hsm"}
    assert client.put(house.hsm_url, first).status_code == 204
    for change in ({"password": "short"}, {"password": "é" * 200}, {"domain": "é" * 100}):
        refused = client.put(house.hsm_url, first | change)
        assert refused.status_code == 400, change
        assert refused.json()["details"].startswith(next(iter(change)))
    assert client.get("/tasks").json() == {"tasks": []}


def test_a_reset_that_cannot_succeed_never_waits(house: House) -> None:
    client = house.client().open_session()
    so = {"password": "so-password", "role": "so"}
    assert client.put(house.hsm_url, HSM | {"label": "hsm"}).status_code == 204
    assert client.post(f"{house.hsm_url}/login", so).status_code == 204
    new = {"name": "par", "hasPso": True, "version": 1}
    partition = client.post(f"{house.hsm_url}/partitions", new).headers["Location"]
    po = {"password": "po-password"}
    assert client.put(partition, po | {"domain": "d"}).status_code == 204
    assert client.post(f"{partition}/login", po | {"role": "so"}).status_code == 204
    for role, password, status in (("co", "short", 400), ("so", "long-enough", 422)):
        refused = client.post(f"{partition}/roles/{role}/actions/reset", {"password": password})
        assert refused.status_code == status, role
    assert client.get("/tasks").json() == {"tasks": []}
