"""The declarations themselves: complete, consistent, and without slips."""

from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path
from types import UnionType
from typing import get_args

import msgspec
import pytest

import conclave.operations
from conclave.errors import Fault
from conclave.operations.catalogue import OPERATIONS
from conclave.operations.fields import SECRET
from conclave.operations.model import (
    ADMINS,
    NOBODY,
    READERS,
    AnyOperation,
    Arguments,
    Doors,
    Duration,
)
from conclave.operations.user_files import check_own_files
from conclave.operations.users import check_own_or_admin

OF_ONESELF = {
    "user.show",
    "user.password",
    "user.keys",
    "user.keys.add",
    "user.keys.clear",
    "user.keys.delete",
    "user.certificates",
    "user.certificates.add",
    "user.certificate.set",
    "user.certificates.delete",
    "file.list",
    "file.show",
    "file.download",
    "file.upload",
    "file.clear",
    "file.delete",
}
"""What every user may do for the own account."""


def named(each: AnyOperation) -> str:
    return each.name


def shapes(each: AnyOperation) -> tuple[type[msgspec.Struct], ...]:
    arguments = each.arguments
    return get_args(arguments) if isinstance(arguments, UnionType) else (arguments,)


def test_names_and_places_are_unique() -> None:
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)
    assert len({each.key for each in OPERATIONS}) == len(OPERATIONS)


def test_every_declaring_module_is_collected() -> None:
    (root,) = conclave.operations.__path__
    declaring = {
        module.name
        for module in pkgutil.iter_modules([root])
        if "\n@operation(" in (Path(root) / f"{module.name}.py").read_text()
    }
    collected = {each.handler.__module__.rpartition(".")[2] for each in OPERATIONS}
    assert collected == declaring


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_a_declaration_is_complete(operation: AnyOperation) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", operation.name)
    assert operation.summary.endswith(".")
    assert operation.handler.__doc__
    assert all(check.__doc__ for check in operation.checks)
    assert all(isinstance(fault, Fault) for fault in operation.faults)
    answers = operation.method == "GET" or any(code in (200, 201) for code in operation.statuses)
    answers = answers and bool(operation.media)  # text as it is has no structure
    assert (operation.result is not None) or not answers
    assert not operation.paged or operation.method == "GET"


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_reading_changes_nothing_and_asks_for_nothing(operation: AnyOperation) -> None:
    if operation.method == "GET":
        assert not operation.takes_arguments
        assert operation.waits_when is None
        assert operation.duration is Duration.AT_ONCE


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_only_administrators_change_clusters_and_users(operation: AnyOperation) -> None:
    belongs = operation.path.startswith(("/api/cluster", "/api/keyrings"))
    if belongs and operation.roles != NOBODY:
        assert operation.doors == Doors.BOTH
        assert operation.roles == (READERS if operation.method == "GET" else ADMINS)
    if operation.path.startswith(("/users", "/roles", "/acl")) and operation.name not in OF_ONESELF:
        assert operation.roles == ADMINS


def test_only_logging_in_enrolment_and_the_certificate_authority_ask_for_no_login() -> None:
    open_to_all = {each.name for each in OPERATIONS if each.roles == NOBODY}
    assert open_to_all == {
        "session.challenge",
        "session.answer",
        "cluster.ca",
        "client.enrol",
        "client.renew",
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_what_is_ones_own_is_checked_to_be(operation: AnyOperation) -> None:
    if operation.name in OF_ONESELF:
        assert check_own_or_admin in operation.checks or check_own_files in operation.checks


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_what_holds_a_secret_says_so(operation: AnyOperation) -> None:
    for shape in shapes(operation):
        assert issubclass(shape, Arguments)
        info = msgspec.inspect.type_info(shape)
        assert isinstance(info, msgspec.inspect.StructType)
        for field in info.fields:
            if "password" in field.name or field.name == "domain":
                assert SECRET in _extras(field.type), f"{shape.__name__}.{field.name}"


def _extras(info: msgspec.inspect.Type) -> list[object]:
    if isinstance(info, msgspec.inspect.UnionType):
        return [extra for member in info.types for extra in _extras(member)]
    return [info.extra] if isinstance(info, msgspec.inspect.Metadata) else []


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_text_and_numbers_have_limits(operation: AnyOperation) -> None:
    for shape in shapes(operation):
        for name, info in _leaves(msgspec.inspect.type_info(shape)):
            match info:
                case msgspec.inspect.StrType():
                    assert info.max_length is not None or info.pattern is not None, name
                case msgspec.inspect.IntType():
                    assert info.ge is not None, name
                    assert info.le is not None, name
                case msgspec.inspect.ListType() | msgspec.inspect.BytesType():
                    assert info.max_length is not None, name


def _leaves(info: msgspec.inspect.Type, name: str = "") -> list[tuple[str, msgspec.inspect.Type]]:
    match info:
        case msgspec.inspect.StructType():
            return [leaf for field in info.fields for leaf in _leaves(field.type, field.name)]
        case msgspec.inspect.UnionType():
            return [leaf for member in info.types for leaf in _leaves(member, name)]
        case msgspec.inspect.Metadata():
            return _leaves(info.type, name)
        case msgspec.inspect.ListType():
            return [(name, info), *_leaves(info.item_type, name)]
    return [(name, info)]


def test_a_repr_shows_no_value() -> None:
    for operation in OPERATIONS:
        for shape in shapes(operation):
            assert shape.__repr__ is Arguments.__repr__


def test_handlers_never_look_at_doors() -> None:
    (root,) = conclave.operations.__path__
    for path in Path(root).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith(("conclave.rest", "starlette")), path.name
