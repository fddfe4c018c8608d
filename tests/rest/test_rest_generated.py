"""Refusals that follow from the declarations, tried on every declared operation."""

from __future__ import annotations

import re
from types import UnionType
from typing import Any, get_args

import msgspec
import pytest

from conclave.appliance.user_rules import UserRole
from conclave.operations.model import JUST_JSON, NOBODY, AnyOperation, Doors, Media
from conclave.rest.openapi import OPERATIONS
from tests.rest.conftest import Town
from tests.support.rest_house import ADMIN, AUDITOR, MONITOR, OPERATOR, Client

LOGINS = {
    UserRole.ADMIN: ADMIN,
    UserRole.OPERATOR: OPERATOR,
    UserRole.MONITOR: MONITOR,
    UserRole.AUDIT: AUDITOR,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
BEHIND_A_LOGIN = [each for each in OPERATIONS if each.roles != NOBODY]
WITH_RIGHTS = [each for each in BEHIND_A_LOGIN if each.name != "session.open"]
"""What a password alone does not open."""
WITH_JSON = [each for each in BEHIND_A_LOGIN if each.media == JUST_JSON]
"""What takes its arguments as JSON, or none."""
PATHS = sorted({each.path for each in OPERATIONS})


def concrete(path: str) -> str:
    """Fill the placeholders with a name that nothing has."""
    return re.sub(r"\{[a-z]+\}", "7", path)


def shapes(each: AnyOperation) -> tuple[type[msgspec.Struct], ...]:
    """Return the structures that an operation takes."""
    arguments = each.arguments
    return get_args(arguments) if isinstance(arguments, UnionType) else (arguments,)


def start_of(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """Return what picks a structure out of several."""
    config = shape.__struct_config__
    return {str(config.tag_field): config.tag} if config.tag_field else {}


def media_type(each: AnyOperation) -> dict[str, str]:
    """Return the header of a kind that an operation takes; nothing where any kind will do."""
    if not each.media:
        return {}
    kind = Media.JSON if Media.JSON in each.media else next(iter(each.media))
    return {"Content-Type": f"application/vnd.safenetinc.lunasa+{kind};version="}


def named(each: AnyOperation) -> str:
    return each.name


def client_of(town: Town, role: UserRole) -> Client:
    return town.house.client(LOGINS[role])


def permitted(town: Town, operation: AnyOperation) -> Client:
    """Return a caller whose role may call an operation."""
    return client_of(town, next(role for role in LOGINS if role in operation.roles))


@pytest.mark.parametrize("operation", BEHIND_A_LOGIN, ids=named)
def test_without_a_login_nothing_is_served(town: Town, operation: AnyOperation) -> None:
    response = town.house.client(None).call(operation.method, concrete(operation.path))
    assert response.status_code == 401
    assert response.json()["id"] == "FRAMEWORK_NOT_AUTHENTICATED"
    assert response.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("role", LOGINS, ids=str)
@pytest.mark.parametrize("operation", WITH_RIGHTS, ids=named)
def test_d1_k5_exactly_the_declared_roles_pass(
    town: Town, operation: AnyOperation, role: UserRole
) -> None:
    client = client_of(town, role)
    headers = media_type(operation)
    body = {"json": ["no object"]} if operation.media == JUST_JSON else {"content": b"no rule"}
    response = client.call(operation.method, concrete(operation.path), headers=headers, **body)
    if role in operation.roles and operation.takes_file:
        assert (response.status_code, response.json()["id"]) == (
            403,
            "SERVERPLUGIN_USERID_NOT_AUTHORIZED",
        )
    elif role in operation.roles and operation.takes_text:
        assert response.status_code in (400, 404)
    elif role in operation.roles:
        assert response.status_code == 400
        assert response.json()["id"] == "FRAMEWORK_BAD_REQUEST"
    else:
        assert response.status_code == 403
        assert response.json()["id"] == "FRAMEWORK_NO_ACL_RULE"


@pytest.mark.parametrize("operation", WITH_JSON, ids=named)
def test_unknown_fields_are_refused_by_name(town: Town, operation: AnyOperation) -> None:
    for shape in shapes(operation):
        body = start_of(shape) | {"unexpectedField": "canary"}
        client = permitted(town, operation)
        response = client.call(operation.method, concrete(operation.path), json=body)
        assert response.status_code == 400
        assert "unexpectedField" in response.json()["details"]
        assert "canary" not in response.text


@pytest.mark.parametrize("operation", WITH_JSON, ids=named)
def test_wrong_types_are_refused_by_field(town: Town, operation: AnyOperation) -> None:
    client = permitted(town, operation)
    for shape in shapes(operation):
        for field in msgspec.structs.fields(shape):
            body = start_of(shape) | {field.encode_name: {"canary": []}}
            response = client.call(operation.method, concrete(operation.path), json=body)
            assert response.status_code == 400
            details = response.json()["details"]
            assert field.encode_name in details
            assert "Expected" in details or "Invalid" in details
            assert "canary" not in response.text


@pytest.mark.parametrize("operation", WITH_JSON, ids=named)
def test_values_beyond_a_rule_are_shown_unless_they_are_secret(
    town: Town, operation: AnyOperation
) -> None:
    client = permitted(town, operation)
    for shape in shapes(operation):
        for field in msgspec.structs.fields(shape):
            body = start_of(shape) | {field.encode_name: "canary" * 2000}
            response = client.call(operation.method, concrete(operation.path), json=body)
            assert response.status_code == 400
            details = response.json()["details"]
            assert field.encode_name in details
            name = field.encode_name
            secret = "password" in name.lower() or name in ("domain", "authCode")
            assert ("canary" in details) is (not secret)
            assert len(details) < 400


@pytest.mark.parametrize("operation", [each for each in BEHIND_A_LOGIN if each.media], ids=named)
def test_a_page_of_the_web_is_no_media_type(town: Town, operation: AnyOperation) -> None:
    headers = {"Content-Type": "text/html"}
    client = permitted(town, operation)
    response = client.call(operation.method, concrete(operation.path), headers=headers)
    assert response.status_code == 400
    assert response.json()["id"] == "FRAMEWORK_HEADER_DOES_NOT_MATCH_MEDIA_TYPE_TEMPLATE"


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_not_allowed(town: Town, path: str) -> None:
    known = {each.method for each in OPERATIONS if each.path == path}
    for method in set(METHODS) - known:
        response = client_of(town, UserRole.ADMIN).call(method, concrete(path))
        assert response.status_code == 405
        assert response.headers["Allow"] == ", ".join(sorted(known))
        assert response.json()["id"] == "FRAMEWORK_METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_the_admin_port_serves_what_is_declared_for_it(town: Town, operation: AnyOperation) -> None:
    client = town.house.admin_client(MONITOR)
    response = client.call(operation.method, concrete(operation.path), json=["no object"])
    if operation.doors == Doors.BOTH:
        assert response.status_code in (200, 400, 403)
    else:
        assert response.status_code == 404


def test_errors_have_all_six_fields(town: Town) -> None:
    response = client_of(town, UserRole.ADMIN).get("/api/nothing")
    assert response.status_code == 404
    assert response.json() == {
        "status": "ERROR",
        "returnCode": 404,
        "type": "FRAMEWORK",
        "id": "FRAMEWORK_RESOURCE_NOT_FOUND",
        "message": "No such resource",
        "details": "There is no resource '/api/nothing' here.",
    }
