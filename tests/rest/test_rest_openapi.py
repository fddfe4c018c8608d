"""The OpenAPI document tells the truth, and the committed copy is current."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conclave.operations.model import NOBODY, Doors
from conclave.operations.reveals import ASKED
from conclave.rest.openapi import OPERATIONS, document, rendered
from tests.rest.conftest import Town

ROOT = Path(__file__).parents[2]
DOCUMENT = document(OPERATIONS)


def described() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, each in methods.items():
            yield method.upper(), path, each


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_committed_document_is_current() -> None:
    current = (ROOT / "docs/openapi.json").read_bytes()
    assert current == rendered(), "run: python -m conclave.rest.openapi docs/openapi.json"


def test_it_is_served_without_a_login(town: Town) -> None:
    served = town.house.client(None).get("/api/openapi.json", headers={"Content-Type": None})
    assert served.status_code == 200
    assert served.content == rendered()


def test_every_operation_is_in_it_and_nothing_else() -> None:
    assert {(method, path) for method, path, _ in described()} == {each.key for each in OPERATIONS}
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(references(DOCUMENT)):
        part: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_every_placeholder_is_a_parameter() -> None:
    for _, path, each in described():
        named = [part["name"] for part in each["parameters"] if part["in"] == "path"]
        assert named == re.findall(r"\{([a-z]+)\}", path)


def test_it_says_who_may_and_where() -> None:
    for operation in OPERATIONS:
        each = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert each["x-doors"] == ([8443, 50070] if operation.doors == Doors.BOTH else [8443])
        assert bool(each["security"]) is (operation.roles != NOBODY)
        assert each["summary"].endswith(".")


def test_it_says_in_which_states_a_member_serves() -> None:
    keyrings = DOCUMENT["paths"]["/api/keyrings"]
    assert keyrings["post"]["x-member-states"] == {
        "create keyrings": ["alone", "primary", "Read-Write"]
    }
    assert "Read-Only" in keyrings["get"]["x-member-states"]["list keyrings"]
    for operation in OPERATIONS:
        needs = operation.path.startswith(("/api/clusters", "/api/keyrings"))
        assert bool(operation.cluster_methods) or not needs or operation.name == "cluster.join"
        source = Path(inspect.getfile(operation.handler)).read_text()
        for method in operation.cluster_methods:
            assert method in {"put_users", *ASKED} or f'"{method}"' in source, operation.name


def test_every_schema_forbids_unknown_fields_in_requests() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for _, _, each in described():
        for content in each.get("requestBody", {}).get("content", {}).values():
            for name in references(content):
                schema = schemas[name.rpartition("/")[2]]
                assert schema.get("additionalProperties") is False, name


def test_the_known_answers_fit_their_schemas(town: Town) -> None:
    client = town.house.client()
    for path in ("/api/lunasa", "/api/cluster/config", "/api/clusters", "/tasks", "/users/admin"):
        answered = client.get(path).json()
        operation = next(each for each in OPERATIONS if re.fullmatch(_pattern(each.path), path))
        described = DOCUMENT["paths"][operation.path]["get"]["responses"]["200"]
        (reference,) = described["content"]["application/json"]["schema"].values()
        schema = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
        assert answered.keys() == schema["properties"].keys(), path


def _pattern(path: str) -> str:
    return re.sub(r"\{[a-z]+\}", "[^/]+", path)
