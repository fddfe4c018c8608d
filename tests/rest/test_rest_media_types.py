"""Media types: what the known clients send, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.errors import BadInput
from conclave.rest.media_types import check_media_type
from conclave.settings import RestSettings, Strictness
from tests.rest.conftest import Town
from tests.support.rest_house import ADMIN, VENDOR, open_house, settle_users

TYPE = "application/vnd.safenetinc.lunasa+json"


@pytest.mark.parametrize(
    "value",
    [
        f"{TYPE};version=",
        f"{TYPE};version=15",
        f"{TYPE}; version=12",
        f'{TYPE};version="17"',
        f"{TYPE};version=;charset=utf-8",
        TYPE,
        TYPE.upper(),
    ],
)
def test_the_template_in_every_known_form(value: str) -> None:
    check_media_type(value, None, has_body=True, strictness=Strictness.VENDOR)
    check_media_type(None, value, has_body=False, strictness=Strictness.VENDOR)
    check_media_type(None, f"text/html, {value}", has_body=False, strictness=Strictness.VENDOR)


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "text/plain",
        "application/vnd.safenetinc.lunasa",
        "application/vnd.safenetinc.lunasa+octet-stream;version=",
        f"{TYPE};version=0",
        f"{TYPE};version=18",
        f"{TYPE};version=abc",
        f"{TYPE};version=1234",
        "",
    ],
)
def test_what_does_not_follow_the_template(value: str) -> None:
    for content_type, accept in ((value, None), (value, f"{TYPE};version="), (None, value)):
        with pytest.raises(BadInput) as refusal:
            check_media_type(content_type, accept, has_body=False, strictness=Strictness.VENDOR)
        assert refusal.value.fault.http_status == 400


def test_one_of_the_headers_is_needed() -> None:
    with pytest.raises(BadInput):
        check_media_type(None, None, has_body=False, strictness=Strictness.VENDOR)
    with pytest.raises(BadInput, match="Content-Type is missing"):
        check_media_type(None, f"{TYPE};version=", has_body=True, strictness=Strictness.VENDOR)


def test_plain_json_where_it_is_allowed() -> None:
    for value in ("application/json", "application/json; charset=utf-8", f"{TYPE};version="):
        check_media_type(value, "*/*", has_body=True, strictness=Strictness.JSON)
    check_media_type(None, "*/*", has_body=False, strictness=Strictness.JSON)
    check_media_type(None, None, has_body=False, strictness=Strictness.JSON)
    for value in ("text/plain", "application/x-www-form-urlencoded"):
        with pytest.raises(BadInput):
            check_media_type(value, "*/*", has_body=True, strictness=Strictness.JSON)


def test_a_form_is_refused_on_both_ports(town: Town) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for client in (town.house.client(), town.house.admin_client()):
        refused = client.post("/api/clusters", {}, headers=headers)
        assert refused.status_code == 400
        assert refused.json()["id"] == "FRAMEWORK_HEADER_DOES_NOT_MATCH_MEDIA_TYPE_TEMPLATE"


def test_a_get_with_the_template_in_accept_only(town: Town) -> None:
    headers = {"Content-Type": None, "Accept": VENDOR}
    answered = town.house.client().get("/api/lunasa", headers=headers)
    assert answered.status_code == 200
    assert answered.headers["Content-Type"] == "application/json"


def test_plain_json_may_be_allowed_on_8443(tmp_path: Path) -> None:
    settings = RestSettings(strictness=Strictness.JSON)
    with open_house(tmp_path / "appliance", settings) as house:
        settle_users(house)
        client = house.client(ADMIN, media_type="application/json")
        assert client.get("/api/lunasa", headers={"Content-Type": None}).status_code == 200
        assert client.patch("/api/lunasa/time", {"timeZone": "UTC"}).status_code == 204
