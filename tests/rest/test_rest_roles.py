"""Roles that administrators make: their rules are their rights, nothing more."""

from __future__ import annotations

import pytest

from conclave.appliance.user_roles import access_rules, allows
from conclave.errors import BadInput
from conclave.operations.model import READERS
from conclave.rest.openapi import OPERATIONS
from tests.rest.conftest import Town
from tests.support.rest_house import MONITOR, Client, House

TEXT = "application/vnd.safenetinc.lunasa+octet-stream;version="
FIRST, SECOND = "First-Password-1", "Second-Password-2"
RULES = """GET:/api/lunasa
GET:/api/lunasa/hsms
GET:/api/lunasa/hsms/{hsmid}/partitions/{pid}
POST:/users

# a tool's own remark
DELETE:/users/joe
"""


def text(
    client: Client, method: str, path: str, content: str | None = None, status: int = 204
) -> str:
    body = {} if content is None else {"content": content.encode()}
    response = client.call(method, path, headers={"Content-Type": TEXT}, **body)
    assert response.status_code == status, response.text
    return response.text


def make_user(house: House, user_id: str, role: str) -> Client:
    admin = house.client()
    new = {"userId": user_id, "password": FIRST, "role": role}
    assert admin.post("/users", new).status_code == 204
    client = house.client((user_id, FIRST))
    change = {"currentPassword": FIRST, "password": SECOND}
    assert client.post(f"/users/{user_id}/actions/changePassword", change).status_code == 204
    return house.client((user_id, SECOND))


def test_a_custom_role_may_what_its_rules_say_and_no_more(house: House) -> None:
    admin = house.client()
    made = admin.post("/roles", {"roleId": "opsrole", "fullName": "Operations"})
    assert (made.status_code, made.headers["Location"]) == (204, "/roles/opsrole")
    user = make_user(house, "ops", "opsrole")
    assert user.get("/api/lunasa").status_code == 403
    text(admin, "PUT", "/roles/opsrole/resources", RULES)
    assert user.get("/api/lunasa").status_code == 200
    assert user.get("/api/lunasa/hsms").status_code == 200
    for path in ("/users", "/roles", "/api/lunasa/time", house.hsm_url):
        refused = user.get(path)
        assert (refused.status_code, refused.json()["id"]) == (403, "FRAMEWORK_NO_ACL_RULE")
    assert user.post("/users", {"userId": "joe", "password": FIRST}).status_code == 204
    assert user.delete("/users/ops").status_code == 403
    assert user.delete("/users/joe").status_code == 204
    text(admin, "PUT", "/roles/opsrole/resources", "GET:/api/lunasa/hsms\n")
    assert user.get("/api/lunasa").status_code == 403


def test_withdrawn_rules_start_no_task_that_waits(house: House) -> None:
    admin = house.client()
    assert admin.post("/roles", {"roleId": "resetter", "fullName": "R"}).status_code == 204
    user = make_user(house, "ops", "resetter")
    rule = "POST:/api/lunasa/services/cluster/actions/{actionid}"
    tasks = []
    text(admin, "PUT", "/roles/resetter/resources", rule)
    for _ in range(2):
        waiting = user.post("/api/lunasa/services/cluster/actions/factoryreset")
        assert waiting.status_code == 202
        tasks.append(f"{waiting.headers['Location']}/actions/start")
    text(admin, "PUT", "/roles/resetter/resources", rule.replace("cluster", "ntp"))
    refused = user.post(tasks[0])
    assert (refused.status_code, refused.json()["id"]) == (403, "FRAMEWORK_NO_ACL_RULE")
    text(admin, "PUT", "/roles/resetter/resources", rule)
    assert user.post(tasks[1]).status_code == 202


def test_rules_read_back_as_they_were_given(house: House) -> None:
    admin = house.client()
    admin.post("/roles", {"roleId": "reader"})
    text(admin, "PUT", "/roles/reader/resources", RULES)
    assert text(admin, "GET", "/roles/reader/resources", status=200) == RULES
    shown = admin.get("/roles/reader").json()
    assert (shown["builtIn"], shown["resources"]) == (False, "/roles/reader/resources")


def test_reading_rules_needs_the_media_type_of_text(town: Town) -> None:
    refused = town.house.client().get("/roles/monitor/resources")
    assert refused.status_code == 400
    assert refused.json()["id"] == "FRAMEWORK_HEADER_DOES_NOT_MATCH_MEDIA_TYPE_TEMPLATE"


def test_the_rules_of_built_in_roles_are_what_they_may(town: Town) -> None:
    shown = text(town.house.client(), "GET", "/roles/monitor/resources", status=200)
    readable = {f"{each.method}:{each.path}" for each in OPERATIONS if each.roles == READERS}
    assert readable <= set(shown.splitlines())
    assert "POST:/users" not in shown.splitlines()


def test_the_acl_is_replaced_as_a_whole(house: House) -> None:
    admin = house.client()
    for role in ("one", "two"):
        admin.post("/roles", {"roleId": role})
        text(admin, "PUT", f"/roles/{role}/resources", "GET:/api/lunasa\n")
    shown = text(admin, "GET", "/acl", status=200)
    assert shown == "role,method,resource\none,GET,/api/lunasa\ntwo,GET,/api/lunasa\n"
    text(admin, "PUT", "/acl", "role,method,resource\ntwo,GET,/users/{userid}\n")
    shown = text(admin, "GET", "/acl", status=200)
    assert shown == "role,method,resource\ntwo,GET,/users/{}\n"
    for bad, status in (
        ("three,GET,/api/lunasa\n", 404),
        ("admin,GET,/api/lunasa\n", 403),
        ("two,FETCH,/api/lunasa\n", 400),
        ('two,GET,"/api', 400),
    ):
        text(admin, "PUT", "/acl", bad, status=status)
    assert text(admin, "GET", "/acl", status=200) == shown


def test_a_role_is_made_from_a_file(house: House) -> None:
    admin = house.client()
    form = {"headers": {"Content-Type": None}, "files": {"file": ("acl.txt", RULES.encode())}}
    assert admin.post("/users/admin/files", **form).status_code == 204
    assert admin.post("/roles", {"roleId": "opsrole", "file": "acl.txt"}).status_code == 204
    assert text(admin, "GET", "/roles/opsrole/resources", status=200) == RULES
    assert admin.post("/roles", {"roleId": "other", "file": "none.txt"}).status_code == 404
    house.appliance.files.store("admin", "bad.txt", [b"no rule"])
    assert admin.post("/roles", {"roleId": "other", "file": "bad.txt"}).status_code == 400
    assert admin.get("/roles/other").status_code == 404


def test_a_role_that_somebody_has_stays(house: House) -> None:
    admin = house.client()
    admin.post("/roles", {"roleId": "opsrole"})
    make_user(house, "ops", "opsrole")
    refused = admin.delete("/roles/opsrole")
    assert (refused.status_code, refused.json()["id"]) == (409, "SERVERPLUGIN_ROLEID_IN_USE")
    assert admin.post("/users/ops/actions/roleClear").status_code == 204
    assert admin.delete("/roles/opsrole").status_code == 204
    assert admin.delete("/roles/opsrole").status_code == 404


def test_built_in_roles_stay_as_they_are(town: Town) -> None:
    admin = town.house.client()
    assert admin.post("/roles", {"roleId": "monitor"}).status_code == 409
    assert admin.delete("/roles/monitor").status_code == 403
    text(admin, "PUT", "/roles/monitor/resources", "POST:/users\n", status=403)
    assert admin.get("/roles/audit").json()["builtIn"] is True


def test_a_user_gets_only_a_role_that_exists(town: Town) -> None:
    admin = town.house.client()
    refused = admin.post("/users", {"userId": "eve", "password": FIRST, "role": "nothing"})
    assert refused.status_code == 400
    assert "nothing" in refused.json()["details"]


def test_an_auditor_can_be_made(house: House) -> None:
    auditor = make_user(house, "second", "audit")
    assert auditor.get("/api/lunasa/audit").status_code == 200
    assert auditor.get("/api/lunasa").status_code == 403


def test_only_administrators_see_roles(town: Town) -> None:
    assert town.house.client(MONITOR).get("/roles").status_code == 403


@pytest.mark.parametrize(
    "line",
    ["GET /api", "get:/api", "FETCH:/api", "GET:api", "GET:/a b", "GET:", ":/api", "x" * 600],
)
def test_what_is_no_rule_is_refused_by_line(line: str) -> None:
    with pytest.raises(BadInput, match="Line 2"):
        access_rules(f"GET:/api\n{line}\n")


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("GET:/a/{any}/c", True),
        ("GET:/a/7/c", True),
        ("GET:/a/8/c", False),
        ("GET:/{x}/7/c", False),
        ("GET:/a/{any}/{any}", False),
        ("GET:/a/{any}", False),
        ("POST:/a/{any}/c", False),
        ("GET:/a/{any}/c/", True),
    ],
)
def test_a_placeholder_covers_values_never_resources(rule: str, allowed: bool) -> None:
    assert allows(rule, "GET", "/a/{bid}/c", {"bid": "7"}) is allowed


def test_a_long_line_costs_no_time() -> None:
    with pytest.raises(BadInput, match="Line 1"):
        access_rules("GET:" + "/a" * 30_000 + " ")
