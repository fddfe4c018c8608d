"""What a door does with requests that are large, slow, broken, paged, or hold secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conclave.settings import RestSettings
from tests.rest.conftest import Town
from tests.rest.test_rest_guide import co
from tests.support.rest_house import VENDOR, House, open_house, settle_users


def keyrings(label: str, **fields: object) -> dict[str, object]:
    return {
        "authentication": [{"type": "CO", "password": "co-password", "partitionLabel": "par"}],
        "keyRingLabel": label,
        "keyRingPassword": "keyring-password",
        **fields,
    }


def test_a_body_beyond_the_limit_is_refused_unread(town: Town) -> None:
    refused = town.house.client().put("/api/lunasa/time", content=b" " * 70_000)
    assert (refused.status_code, refused.json()["id"]) == (413, "SERVER_REQUEST_TOO_LARGE")


def test_a_body_without_a_length_is_bounded_too(town: Town) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    refused = town.house.client().put("/api/lunasa/time", content=chunks())
    assert refused.status_code == 413


def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    with open_house(tmp_path / "appliance", RestSettings(body_seconds=0.05)) as house:
        settle_users(house)
        refused = house.client().put("/api/lunasa/time", content=endless())
        assert (refused.status_code, refused.json()["id"]) == (408, "SERVER_REQUEST_TIMEOUT")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"timeZone": "\xff"}',
        b'{"timeZone": "\\ud800"}',
        b"[" * 60_000,
        b'{"timeZone": ' + b"[" * 60_000,
        b'{"timeZone": NaN}',
        b"null",
        b'"text"',
        b'{"timeZone": "UTC"} {}',
    ],
    ids=range(10),
)
def test_broken_json_is_refused(town: Town, body: bytes) -> None:
    refused = town.house.client().put("/api/lunasa/time", content=body)
    assert (refused.status_code, refused.json()["id"]) == (400, "FRAMEWORK_BAD_REQUEST")


@pytest.mark.parametrize(
    "path", ["/api/%ff", "/%2e%2e/etc/passwd", "//", "/api//clusters", "/API/clusters", "/api"]
)
def test_paths_that_lead_nowhere(town: Town, path: str) -> None:
    assert town.house.client().get(path).status_code in (400, 404)


def test_a_slash_at_the_end_is_passed_over(town: Town) -> None:
    assert town.house.client().get("/api/lunasa/").status_code == 200


def test_pages_of_keyrings_and_the_link_to_the_next(town: Town) -> None:
    client = town.house.client()
    made = client.post("/api/keyrings", keyrings("page", total=5))
    assert made.status_code == 202
    everything = client.get("/api/keyrings").json()["data"]
    assert "Link" not in client.get("/api/keyrings").headers
    walked, url = [], "/api/keyrings?limit=2&offset=0"
    while url:
        page = client.get(url)
        walked += page.json()["data"]
        link = page.headers.get("Link", "")
        assert len(page.json()["data"]) <= 2
        url = link.removeprefix("<").partition(">")[0]
    assert walked == everything


def test_pages_of_lists_from_memory(town: Town) -> None:
    client = town.house.client()
    page = client.get("/users?limit=2&offset=1")
    assert [user["id"] for user in page.json()["users"]] == ["audit", "monitor"]
    assert page.headers["Link"] == '</users?limit=2&offset=3>; rel="next"'
    assert client.get("/users?offset=3").json()["users"][0]["id"] == "operator"
    assert client.get("/users?limit=1&offset=100").json() == {"users": []}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "offset=-1", "limit=1&limit=2", "Limit=1", "a=b", "limit="]
)
def test_bad_pages_are_refused_by_name(town: Town, query: str) -> None:
    refused = town.house.client().get(f"/users?{query}")
    assert refused.status_code == 400
    assert query.partition("=")[0] in refused.json()["details"]


@pytest.mark.parametrize(
    ("change", "rest_id", "word"),
    [
        ({"total": 101}, "CLUSTERPLUGIN_KEYRINGS_PER_CALL", "total"),
        ({"total": 0}, "CLUSTERPLUGIN_KEYRINGS_PER_CALL", "total"),
        ({"total": -1}, "FRAMEWORK_BAD_REQUEST", "total"),
        ({"total": "x"}, "FRAMEWORK_BAD_REQUEST", "total"),
        ({"total": 1.5}, "FRAMEWORK_BAD_REQUEST", "total"),
        ({"keyRingLabel": "l" * 33}, "FRAMEWORK_BAD_REQUEST", "keyRingLabel"),
        ({"keyRingLabel": "ü" * 17}, "CLUSTERPLUGIN_KEYRING_LABEL_INVALID", "32 bytes"),
        ({"keyRingLabel": "l" * 32, "index": 1}, "CLUSTERPLUGIN_KEYRING_LABEL_INVALID", "32"),
        ({"keyRingLabel": ""}, "FRAMEWORK_BAD_REQUEST", "keyRingLabel"),
        ({"keyRingPassword": "short"}, "CLUSTERPLUGIN_KEYRING_PASSWORD_INVALID", "8"),
        ({"authentication": []}, "FRAMEWORK_BAD_REQUEST", "authentication"),
        ({"authentication": co("par", "")}, "HSMPLUGIN_FUNC_NOT_SUPPORTED", "PED"),
        ({"authentication": [{"type": "SO", "password": "x"}]}, "FRAMEWORK_BAD_REQUEST", "type"),
        ({"authentication": [{"type": "PO", "password": "x"}]}, "FRAMEWORK_BAD_REQUEST", "type"),
    ],
)
def test_bad_keyrings_are_refused_and_nothing_is_made(
    town: Town, change: dict[str, object], rest_id: str, word: str
) -> None:
    client = town.house.client()
    before = client.get("/api/keyrings").json()
    refused = client.post("/api/keyrings", keyrings("never", **change))
    assert (refused.status_code, refused.json()["id"]) == (400, rest_id), refused.text
    assert word in refused.json()["details"]
    assert client.get("/api/keyrings").json() == before


def test_the_partition_label_must_be_the_clusters(town: Town) -> None:
    body = keyrings("never", authentication=co("otherpar", "co-password"))
    refused = town.house.client().post("/api/keyrings", body)
    assert refused.status_code in (400, 404, 409, 422), refused.text
    assert "otherpar" in refused.json()["details"]


def test_one_taken_name_makes_nothing(town: Town) -> None:
    client = town.house.client()
    assert client.post("/api/keyrings", keyrings("taken", index=3)).status_code == 201
    refused = client.post("/api/keyrings", keyrings("taken", total=5, index=1))
    assert (refused.status_code, refused.json()["id"]) == (409, "CLUSTERPLUGIN_KEYRING_EXISTS")
    labels = [each["keyRingLabel"] for each in client.get("/api/keyrings").json()["data"]]
    assert [label for label in labels if label.startswith("taken")] == ["taken3"]


def test_a_label_with_any_character_names_its_keyring(town: Town) -> None:
    client = town.house.client()
    made = client.post("/api/keyrings", keyrings("a/b %c?"))
    assert made.status_code == 201
    shown = client.get("/api/keyrings/a%2Fb%20%25c%3F")
    assert shown.json()["keyRingLabel"] == "a/b %c?"


def test_no_secret_is_logged_or_repeated(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = town.house.client()
    secret = "canary-secret-in-a-field"
    authentication = co("par", secret)
    answers = [
        client.post("/api/keyrings", keyrings("canary", authentication=authentication)),
        client.post("/api/keyrings", keyrings("canary", keyRingPassword=secret * 20)),
        client.post("/users", {"userId": "canary", "password": [secret]}),
        client.post("/users", {"userId": "canary", "passwort": secret}),
        client.post("/users", content=f'{{"password": "{secret}"'.encode()),
        town.house.client(("admin", secret), source="203.0.113.9").get("/api/lunasa"),
        town.house.client((secret, "x"), source="203.0.113.9").get("/api/lunasa"),
    ]
    assert all(answer.status_code in (400, 401) for answer in answers)
    assert all(secret not in answer.text for answer in answers)
    assert secret not in caplog.text
    reset = client.put(f"{town.house.hsm_url}/partitions/1/roles/co", {"password": secret})
    assert reset.status_code == 404
    assert secret not in caplog.text


def test_an_unexpected_failure_is_logged_and_not_explained(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("the inside of the appliance")

    monkeypatch.setattr(house.appliance.hsm, "info", broken)
    failed = house.client().get("/api/lunasa/hsms")
    assert (failed.status_code, failed.json()["id"]) == (500, "SERVERPLUGIN_INTERNAL_ERROR")
    assert "inside of the appliance" not in failed.text
    assert "inside of the appliance" in caplog.text


def test_every_call_is_logged_with_who_and_from_where(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    town.house.client(source="198.51.100.3").get("/api/lunasa/hsms")
    assert "hsm.list by admin from 198.51.100.3: 200" in caplog.text


def test_two_who_create_the_same_keyring_at_once(town: Town) -> None:
    client = town.house.client()

    async def both() -> list[int]:
        headers = {"Content-Type": VENDOR}
        calls = (
            client.http.post("/api/keyrings", json=keyrings("race"), headers=headers)
            for _ in range(4)
        )
        return sorted(answer.status_code for answer in await asyncio.gather(*calls))

    assert town.house.loop.run(both()) == [201, 409, 409, 409]


def test_an_engine_that_does_not_exist_is_refused_by_field_rule_and_value(town: Town) -> None:
    body = {
        "authentication": [{"type": "SO", "password": "so-password"}],
        "clusterLabel": "lab",
        "engine": "oracle",
    }
    refused = town.house.client().post("/api/clusters", body)
    assert refused.status_code == 400
    assert refused.json()["details"] == (
        "Field engine breaks a rule: Expected one of 'postgresql', 'sqlite', got 'oracle'."
    )


def test_a_rule_that_is_a_regular_expression_is_told_in_words(town: Town) -> None:
    refused = town.house.client().post("/users", {"userId": "9bob", "role": "monitor"})
    assert refused.status_code == 400
    assert refused.json()["details"] == (
        "Field userId breaks a rule: Expected 1 to 32 characters of a-z, A-Z, 0-9, ., _ and -, the"
        " first a letter or _, got '9bob'."
    )
