"""Refusals made from the OpenAPI document: each operation against what it may not be given.

Without a login, each role, unknown fields, wrong types and values are in test_rest_generated.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conclave.rest.openapi import OPERATIONS, document
from tests.rest.conftest import Town
from tests.support.rest_house import ADMIN, AUDITOR, Client, House

DOCUMENT = document(OPERATIONS)
SCHEMAS = DOCUMENT["components"]["schemas"]
FIRST, SECOND = "First-Password-1", "Second-Password-2"
Case = tuple[str, str, dict[str, Any]]
"""Method, path, description."""


def described() -> Iterator[Case]:
    for path, methods in DOCUMENT["paths"].items():
        for method, each in methods.items():
            yield method.upper(), path, each


def named(case: Case) -> str:
    return str(case[2]["operationId"])


def content_of(each: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return media type and schema of what is sent; the vendor's JSON for what takes nothing."""
    sent = each.get("requestBody", {}).get("content", {})
    for kind, content in sent.items():
        return kind, content["schema"]
    answers = each["responses"].get("200", {}).get("content", {})
    kind = "octet-stream" if "application/octet-stream" in answers else "json"
    return f"application/vnd.safenetinc.lunasa+{kind};version=", {}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the reference or the alternatives around it."""
    while True:
        if "$ref" in schema:
            schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            return schema


def example(schema: dict[str, Any]) -> Any:
    """Return a value that keeps a schema's rules, as far as they are lengths, ranges and lists."""
    schema = resolved(schema)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            wanted = schema.get("required", [])
            return {name: example(schema["properties"][name]) for name in wanted}
        case "array":
            return [example(schema["items"])]
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return text_of(schema)


def text_of(schema: dict[str, Any]) -> str:
    for candidate in (
        "Secret-Words-1",
        "127.0.0.1",
        "eth0",
        "2030-01-01",
        "Ab1/" * 4,
        "1",
        "x" * 64,
        "enrol-" + "x" * 64,
    ):
        if re.search(schema.get("pattern", ""), candidate):
            low, high = schema.get("minLength", 0), schema.get("maxLength", 255)
            if low <= len(candidate) <= high:
                return candidate
    raise AssertionError(f"no example of {schema}")


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(each) for each in schema.get("anyOf", [schema])] if schema else []


def ask(client: Client, case: Case, path: str, body: Any) -> httpx.Response:
    method, _, each = case
    media, _ = content_of(each)
    options: dict[str, Any] = {"json": body} if body is not None else {}
    header: str | None = media
    if "octet-stream" in media and method != "GET":
        options = {"content": b"GET:/api/lunasa\n"}
    elif media == "multipart/form-data":
        options, header = {"files": {"file": ("a.txt", b"Hello")}}, None
    return client.call(method, path, headers={"Content-Type": header}, **options)


def require_refusal(response: httpx.Response, *ids: int) -> dict[str, Any]:
    """Check that a refusal is one, and has all that a caller needs to understand it."""
    assert response.status_code in ids, response.text
    body: dict[str, Any] = response.json()
    assert body["status"] == "ERROR"
    assert body["returnCode"] == response.status_code
    assert body["type"] in ("API", "DOCS", "FRAMEWORK", "PLUGIN", "SERVER")
    for field in ("id", "message", "details"):
        assert body[field], field
    return body


def permitted(house: House, each: dict[str, Any]) -> Client:
    """Return a caller whose role may call an operation."""
    return house.client(AUDITOR if each["x-roles"] == ["audit"] else ADMIN).open_session()


WITH_IDS = [
    case
    for case in described()
    if "{" in case[1] and case[2]["operationId"] not in ("user.put", "user.change")
]
WITH_FIELDS = [
    case
    for case in described()
    if any(each.get("required") for each in alternatives(content_of(case[2])[1]))
    and "json" in content_of(case[2])[0]
]
OF_A_CLUSTER = [
    case
    for case in described()
    if case[1].startswith(("/api/clusters/", "/api/keyrings/")) or named(case) == "keyring.create"
]
BEHIND_A_ROLE = [
    case for case in described() if case[2]["x-roles"] != ["any"] and case[2]["security"]
]


@pytest.mark.parametrize("case", WITH_IDS, ids=named)
def test_an_unknown_id_is_refused_and_said_to_be(town: Town, case: Case) -> None:
    method, path, each = case
    body = example(content_of(each)[1]) if method != "GET" and content_of(each)[1] else None
    client = permitted(town.house, each)
    refused = ask(client, case, re.sub(r"\{[a-z]+\}", "424242", path), body)
    require_refusal(refused, 400, 401, 403, 404, 409, 410, 422)
    client.delete("/auth/session")


@pytest.mark.parametrize("case", WITH_FIELDS, ids=named)
def test_a_missing_field_is_refused_by_name(town: Town, case: Case) -> None:
    _, path, each = case
    client = permitted(town.house, each)
    for schema in alternatives(content_of(each)[1]):
        whole = example(schema)
        for name in schema.get("required", []):
            if "const" in resolved(schema["properties"][name]) or name == "action":
                continue
            body = copy.deepcopy(whole)
            del body[name]
            refused = ask(client, case, re.sub(r"\{[a-z]+\}", "424242", path), body)
            assert name in require_refusal(refused, 400)["details"]
    client.delete("/auth/session")


@pytest.mark.parametrize("case", OF_A_CLUSTER, ids=named)
def test_without_a_cluster_its_calls_are_refused(house: House, case: Case) -> None:
    method, path, each = case
    body = example(content_of(each)[1]) if method != "GET" and content_of(each)[1] else None
    client = permitted(house, each)
    refused = ask(client, case, re.sub(r"\{[a-z]+\}", "424242", path), body)
    require_refusal(refused, 400, 404, 409)


def test_a_user_without_a_role_may_nothing_that_needs_one(house: House) -> None:
    admin = house.client()
    assert admin.post("/users", {"userId": "joe", "password": FIRST}).status_code == 204
    change = {"currentPassword": FIRST, "password": SECOND}
    joe = house.client(("joe", FIRST))
    # Until the first password is changed, not even that.
    for case in BEHIND_A_ROLE:
        body = require_refusal(ask(joe, case, re.sub(r"\{[a-z]+\}", "7", case[1]), {}), 403)
        assert body["id"] == "SERVERPLUGIN_PASSWORD_CHANGE_REQUIRED"
    assert joe.post("/users/joe/actions/changePassword", change).status_code == 204
    joe = house.client(("joe", SECOND))
    for case in BEHIND_A_ROLE:
        body = require_refusal(ask(joe, case, re.sub(r"\{[a-z]+\}", "7", case[1]), {}), 403)
        assert body["id"] == "FRAMEWORK_NO_ACL_RULE"


def test_an_ended_session_opens_nothing(house: House) -> None:
    client = house.client().open_session()
    cookie = client.http.cookies["conclave_session"]
    assert client.delete("/auth/session").status_code == 204
    stranger = house.client(None)
    stranger.http.cookies.set("conclave_session", cookie)
    for case in described():
        if case[2]["security"]:
            refused = ask(stranger, case, re.sub(r"\{[a-z]+\}", "7", case[1]), {})
            assert require_refusal(refused, 401)["id"] == "FRAMEWORK_NOT_AUTHENTICATED"
