"""Users over REST, as the samples of such appliances use them."""

from __future__ import annotations

import pytest

from tests.rest.conftest import Town
from tests.support.rest_house import ADMIN, MONITOR, House

FIRST, OWN = "First-Password-1", "Own-Password-2"


def test_d1_the_life_of_a_user(house: House) -> None:
    admin = house.client()
    seen = {"userId": "joe", "fullName": "Joe", "email": "j@x", "role": "operator"}
    new = seen | {"password": FIRST}
    made = admin.post("/users", new)
    assert (made.status_code, made.headers["Location"]) == (204, "/users/joe")
    assert admin.post("/users", new).status_code == 409
    assert {"id": "joe", "url": "/users/joe"} in admin.get("/users").json()["users"]
    shown = admin.get("/users/joe").json()
    assert seen | {"status": "enabled"} == {name: shown[name] for name in (*seen, "status")}
    joe = house.client(("joe", FIRST))
    assert joe.get("/api/lunasa").status_code == 403
    change = {"currentPassword": FIRST, "password": OWN}
    assert joe.post("/users/joe/actions/changePassword", change).status_code == 204
    joe = house.client(("joe", OWN))
    assert joe.get("/api/lunasa").status_code == 200
    assert joe.get("/users/joe").status_code == 200
    assert joe.get("/users/admin").status_code == 403
    assert joe.post("/users/admin/actions/changePassword", change).status_code == 403
    assert admin.patch("/users/joe", {"fullName": "J.", "role": "monitor"}).status_code == 204
    assert admin.put("/users/joe", {"email": "joe@x"}).status_code == 204
    assert admin.get("/users/joe").json()["fullName"] == "J."
    assert admin.post("/users/joe/actions/roleClear").status_code == 204
    assert joe.get("/api/lunasa").status_code == 403
    assert joe.get("/users/joe").json()["role"] == ""
    assert admin.post("/users/joe/actions/disable").status_code == 204
    assert joe.get("/users/joe").status_code == 401
    assert admin.post("/users/joe/actions/enable").status_code == 204
    assert joe.get("/users/joe").status_code == 200
    assert admin.delete("/users/joe").status_code == 204
    assert joe.get("/users/joe").status_code == 401
    assert admin.get("/users/joe").status_code == 404


def test_a_password_set_by_an_administrator_must_be_changed(house: House) -> None:
    admin = house.client()
    reset = {"password": "Reset-Password-1"}
    assert admin.post("/users/monitor/actions/changePassword", reset).status_code == 204
    assert house.client(MONITOR).get("/api/lunasa").status_code == 401
    monitor = house.client(("monitor", "Reset-Password-1"))
    assert monitor.get("/api/lunasa").json()["id"] == "SERVERPLUGIN_PASSWORD_CHANGE_REQUIRED"


def test_the_own_password_needs_the_current_one(house: House) -> None:
    admin = house.client()
    url = "/users/admin/actions/changePassword"
    missing = admin.post(url, {"password": "Another-One-1"})
    assert "currentPassword" in missing.json()["details"]
    wrong = {"currentPassword": "Wrong-Password-1", "password": "Another-One-1"}
    assert admin.post(url, wrong).status_code == 401
    same = {"currentPassword": ADMIN[1], "password": ADMIN[1]}
    assert admin.post(url, same).status_code == 400
    assert admin.get("/api/lunasa").status_code == 200


def test_d1_roles_are_listed(town: Town) -> None:
    roles = town.house.client().get("/roles").json()["roles"]
    assert [role["id"] for role in roles][:4] == ["admin", "operator", "monitor", "audit"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/users/operator", None),
        ("PATCH", "/users/monitor", {"role": "admin"}),
        ("POST", "/users/admin/actions/disable", None),
        ("POST", "/users/admin/actions/roleClear", None),
    ],
)
def test_what_the_system_keeps(
    town: Town, method: str, path: str, body: dict[str, str] | None
) -> None:
    refused = town.house.client().call(method, path, json=body)
    assert refused.status_code == 403
    assert refused.json()["id"] == "SERVERPLUGIN_USERID_RESERVED_FOR_SYSTEM_USE"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"userId": "-joe"}, "userId"),
        ({"userId": "j" * 33}, "userId"),
        ({"email": ""}, "email"),
        ({"role": "king"}, "role"),
        ({"password": "aaaaaaaaaaaa"}, "password"),
        ({"password": "Ab1"}, "password"),
    ],
)
def test_bad_users_are_refused_by_field(town: Town, change: dict[str, str], field: str) -> None:
    new = {"userId": "joe", "password": FIRST, "role": "monitor"} | change
    refused = town.house.client().post("/users", new)
    assert refused.status_code == 400
    assert field in refused.json()["details"]
    assert "aaaa" not in refused.text
