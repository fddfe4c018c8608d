"""The OpenAPI 3.1 document, made from the declared operations and nothing else.

`python -m conclave.rest.openapi FILE` writes it; a test keeps docs/openapi.json current.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from types import UnionType
from typing import Any, Final

import msgspec

from conclave import __version__, faults
from conclave.cluster.member_states import COURSES, METHOD_ROWS, Course
from conclave.errors import Fault
from conclave.operations.catalogue import OPERATIONS as CATALOGUE
from conclave.operations.model import (
    EVERYBODY,
    NOBODY,
    AnyOperation,
    Call,
    Doors,
    Media,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals
from conclave.operations.tasks import TaskView
from conclave.rest.errors import ErrorBody
from conclave.rest.media_types import FORM_DATA, JSON, OCTETS, TEXT, VENDOR, VENDOR_JSON
from conclave.rest.paging import PARAMETERS

_REFERENCE: Final = "#/components/schemas/{name}"
_ERROR_REFERENCE: Final = _REFERENCE.format(name="ErrorBody")
_BINARY: Final = {"type": "string", "format": "binary"}
_ALWAYS: Final = (faults.BAD_REQUEST, faults.BUSY, faults.INTERNAL)
_BEHIND_A_LOGIN: Final = (
    faults.MEDIA_TYPE,
    faults.NOT_AUTHENTICATED,
    faults.NO_ACL_RULE,
    faults.PASSWORD_CHANGE_REQUIRED,
    faults.LOGIN_DELAYED,
)
_WITH_A_BODY: Final = (faults.REQUEST_TOO_LARGE, faults.REQUEST_TIMEOUT)
_ANY_REFUSAL: Final = frozenset({"task.response", "task.act"})
"""Operations that repeat what another operation was refused with."""


@operation(
    "document.openapi",
    "GET",
    "/api/openapi.json",
    summary="This document; it asks for no login.",
    arguments=NoArguments,
    roles=NOBODY,
    statuses=(200,),
    result=Result,
)
async def show_document(_call: Call, _arguments: NoArguments) -> Reply:
    """Return the OpenAPI document."""
    return Reply(document=rendered())


OPERATIONS: Final[tuple[AnyOperation, ...]] = (
    *(each for each in CATALOGUE if each.doors),
    show_document,
)
"""All that REST serves: the catalogue and this document."""


@functools.cache
def rendered() -> bytes:
    """Return the document as JSON with a newline at its end."""
    encoded = msgspec.json.encode(document(OPERATIONS), order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def document(operations: Iterable[AnyOperation]) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    listed = tuple(operations)
    schemas, components = _schemas(listed)
    refusals: dict[str, dict[str, Any]] = {}
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        described = _describe(each, schemas, refusals)
        paths.setdefault(each.path, {})[each.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Conclave REST API",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": (
                "Administration of one appliance and its cluster. Port 8443 serves everything,"
                " with sessions and the vendor's media type; port 50070 serves the operations whose"
                " x-doors names it, with Basic on each call and plain JSON."
            ),
        },
        "servers": [
            {
                "url": "https://{host}:{port}",
                "variables": {
                    "host": {"default": "localhost"},
                    "port": {"default": "8443", "enum": ["8443", "50070"]},
                },
            }
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": refusals,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "session": {"type": "apiKey", "in": "cookie", "name": "conclave_session"},
            },
        },
    }


def documented_statuses(each: AnyOperation) -> frozenset[int]:
    """Return every status that an operation may answer; a task's response may repeat any other."""
    return frozenset(_successes(each)) | {fault.http_status for fault in _faults(each)}


def _schemas(
    operations: tuple[AnyOperation, ...],
) -> tuple[dict[object, Any], dict[str, Any]]:
    types: list[type[msgspec.Struct] | UnionType] = [ErrorBody, TaskView]
    for each in operations:
        sent = None if each.takes_text else each.arguments
        types.extend(found for found in (sent, each.result) if found is not None)
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REFERENCE)
    return dict(zip(unique, schemas, strict=True)), components


def _describe(
    each: AnyOperation, schemas: dict[object, Any], refusals: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": each.name,
        "summary": each.summary,
        "description": _description(each),
        "tags": [each.name.partition(".")[0]],
        "parameters": _parameters(each),
        "responses": _responses(each, schemas) | _refusals(each, refusals),
        "security": [] if each.roles == NOBODY else [{"basic": []}, {"session": []}],
        "x-roles": _role_names(each),
        "x-member-states": _member_states(each),
        "x-doors": [
            port for door, port in ((Doors.REST, 8443), (Doors.ADMIN, 50070)) if door & each.doors
        ],
    }
    if each.takes_file:
        form = {"type": "object", "properties": {"file": _BINARY}, "required": ["file"]}
        described["requestBody"] = {"required": True, "content": {FORM_DATA: {"schema": form}}}
    elif each.takes_text:
        content = {f"{VENDOR}{Media.OCTETS};version=": {"schema": _BINARY}}
        described["requestBody"] = {"required": True, "content": content}
    elif each.takes_arguments:
        content = {f"{VENDOR_JSON};version=": {"schema": schemas[each.arguments]}}
        if Doors.ADMIN & each.doors:
            content[JSON] = {"schema": schemas[each.arguments]}
        described["requestBody"] = {"required": _needs_body(each), "content": content}
    return described


def _needs_body(each: AnyOperation) -> bool:
    try:
        each.decode(b"")
    except msgspec.ValidationError:
        return True
    return False


_TO_CUSTOMERS: Final = {
    Reveals.SIFTED: "A customer of a service provider sees the own ones only.",
    Reveals.USE: "Refused to customers of a service provider while the cluster service runs.",
    Reveals.HISTORY: "Refused to customers of a service provider.",
}


def _description(each: AnyOperation) -> str:
    sentences = [each.summary]
    sentences += [check.__doc__ or "" for check in each.checks]
    if each.waits_when is not None:
        sentences.append(
            "A destructive call makes a Waiting task that POST /tasks/{taskid}/actions/start runs."
        )
    if each.reveals in _TO_CUSTOMERS:
        sentences.append(_TO_CUSTOMERS[each.reveals])
    if each.chapter:
        sentences.append(f"Cluster administration guide, chapter {each.chapter}.")
    return " ".join(sentence.strip() for sentence in sentences if sentence)


def _role_names(each: AnyOperation) -> list[str]:
    if each.roles == EVERYBODY:
        return ["any"]
    return sorted(role.value for role in each.roles)


def _member_states(each: AnyOperation) -> dict[str, list[str]]:
    """Return in which states of the member each part of an operation is carried out."""
    rows = {row.method: row for row in METHOD_ROWS}
    return {
        rows[method].what: [
            state.value
            for state, course in COURSES[rows[method].kind].items()
            if course is not Course.REFUSE
        ]
        for method in each.cluster_methods
    }


def _parameters(each: AnyOperation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([a-z]+)\}", each.path)
    ]
    in_query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": low, "maximum": high},
        }
        for name, (low, high) in PARAMETERS.items()
        if each.paged
    ]
    in_query += [
        {"name": name, "in": "query", "required": False, "schema": {"type": "boolean"}}
        for name in each.flags
    ]
    return in_path + in_query


def _successes(each: AnyOperation) -> tuple[int, ...]:
    waiting = (202,) if each.waits_when is not None else ()
    return tuple(dict.fromkeys((*each.statuses, *waiting)))


def _faults(each: AnyOperation) -> tuple[Fault, ...]:
    found = [*_ALWAYS]
    if each.roles != NOBODY:
        found += _BEHIND_A_LOGIN
    if each.method != "GET":
        found.append(faults.STORAGE_FULL)
    if each.audited:
        found.append(faults.AUDIT_FAILED)
    if each.needs_cluster_package:
        found.append(faults.PACKAGE_NOT_FOUND)
    found += [*_WITH_A_BODY, *each.faults]
    return tuple(dict.fromkeys(found))


def _responses(each: AnyOperation, schemas: dict[object, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in _successes(each):
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        announces = status == 202 and 202 not in each.statuses
        answered = TaskView if announces or each.result is None else each.result
        if status != 204 and Media.OCTETS in each.media:
            response["content"] = {OCTETS: {"schema": _BINARY}}
        elif status != 204 and not each.media:
            response["content"] = {TEXT: {"schema": {"type": "string"}}}
        elif status != 204:
            response["content"] = {JSON: {"schema": schemas[answered]}}
        responses[str(status)] = response
    if each.name in _ANY_REFUSAL:
        responses["default"] = {
            "description": "What the task's operation was refused with.",
            "content": {JSON: {"schema": {"$ref": _ERROR_REFERENCE}}},
        }
    return responses


def _refusals(each: AnyOperation, shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return references to refusals by status; equal ones are described once, in `shared`."""
    found = {}
    for status in sorted({fault.http_status for fault in _faults(each)}):
        ids = sorted({row.rest_id for row in _faults(each) if row.http_status == status})
        described = {
            "description": ", ".join(ids),
            "content": {JSON: {"schema": {"$ref": _ERROR_REFERENCE}}},
        }
        names = [name for name, known in shared.items() if known == described]
        name = names[0] if names else f"Refused{len(shared) + 1}"
        shared[name] = described
        found[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(rendered())
