"""The words for arguments that break a rule: they name field, rule and value."""

from __future__ import annotations

import re
from types import UnionType
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.audit.arguments import is_secret
from conclave.errors import BadInput

_SHOWN_CHARACTERS: Final = 64


def refused_arguments(
    error: Exception, body: bytes, arguments: type[msgspec.Struct] | UnionType
) -> BadInput:
    """Return the refusal of arguments that do not decode, naming field, rule and value.

    A value is shown only of a field that is declared and not marked secret.
    """
    if not isinstance(error, msgspec.ValidationError):
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        return BadInput(faults.BAD_REQUEST, f"The body is not valid JSON: {reason}.")
    rule, _, place = str(error).partition(" - at `")
    path = place.removesuffix("`").removeprefix("$").removeprefix(".")
    subject = f"Field {path}" if path else "The body"
    if rule.startswith("Invalid"):
        # The library's sentence repeats what was sent, at any length, and not what it may be.
        rule = f"Expected one of {_choices(arguments, _names(path))}"
    if "matching regex" in rule:
        rule = _described(arguments, _names(path)) or rule
    value = _shown_value(body, path, _secret_names(arguments))
    sentence = f"{subject} breaks a rule: {rule}{f', got {value}' if value else ''}."
    return BadInput(faults.BAD_REQUEST, sentence)


def _shown_value(body: bytes, path: str, secret_names: frozenset[str]) -> str:
    names = _names(path)
    if not names or any(name in secret_names for name in names):
        return ""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The rest, which the first broken rule kept from being read, is broken too.
        return ""
    for name in names:
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return ""
    if isinstance(value, str):
        return repr(value[:_SHOWN_CHARACTERS]) + ("..." if len(value) > _SHOWN_CHARACTERS else "")
    return repr(value) if isinstance(value, bool | int | float) or value is None else ""


def _names(path: str) -> list[str]:
    return re.findall(r"[^.\[\]]+", path)


def _choices(arguments: type[msgspec.Struct] | UnionType, names: list[str]) -> str:
    """Return what a field of few values may be, as a list for people."""
    infos = [msgspec.inspect.type_info(arguments)]
    for name in names:
        infos = [inner for info in infos for inner in _inside(info, name)]
    values = [value for info in infos for value in _literals(info)]
    return ", ".join(repr(value) for value in values) or "the declared values"


def _described(arguments: type[msgspec.Struct] | UnionType, names: list[str]) -> str:
    """Return a rule for people where it is declared as a regular expression, or nothing."""
    infos = [msgspec.inspect.type_info(arguments)]
    for name in names:
        infos = [inner for info in infos for inner in _inside(info, name)]
    found = [told for info in infos for told in _descriptions(info)]
    return f"Expected {found[0]}" if found else ""


def _descriptions(info: msgspec.inspect.Type) -> list[str]:
    if isinstance(info, msgspec.inspect.UnionType):
        return [told for member in info.types for told in _descriptions(member)]
    if isinstance(info, msgspec.inspect.Metadata):
        told = (info.extra_json_schema or {}).get("description")
        return [told] if isinstance(told, str) else []
    return []


def _inside(info: msgspec.inspect.Type, name: str) -> list[msgspec.inspect.Type]:
    """Return the types that a field, or a place in a list, may have."""
    match info:
        case msgspec.inspect.Metadata():
            return _inside(info.type, name)
        case msgspec.inspect.UnionType():
            return [inner for member in info.types for inner in _inside(member, name)]
        case msgspec.inspect.ListType():
            return [info.item_type]
        case msgspec.inspect.StructType() if info.tag_field == name:
            return [msgspec.inspect.LiteralType((info.tag,))]
        case msgspec.inspect.StructType():
            return [field.type for field in info.fields if field.encode_name == name]
    return []


def _literals(info: msgspec.inspect.Type) -> list[object]:
    if isinstance(info, msgspec.inspect.Metadata):
        return _literals(info.type)
    if isinstance(info, msgspec.inspect.UnionType):
        return [value for member in info.types for value in _literals(member)]
    return list(info.values) if isinstance(info, msgspec.inspect.LiteralType) else []


def _secret_names(arguments: type[msgspec.Struct] | UnionType) -> frozenset[str]:
    """Return the names of all fields that are marked secret, anywhere in the arguments."""
    found: set[str] = set()
    _collect_secrets(msgspec.inspect.type_info(arguments), found)
    return frozenset(found)


def _collect_secrets(info: msgspec.inspect.Type, found: set[str]) -> None:
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            if is_secret(field.type):
                found.add(field.encode_name)
            _collect_secrets(field.type, found)
    elif isinstance(info, msgspec.inspect.UnionType):
        for member in info.types:
            _collect_secrets(member, found)
    elif isinstance(info, msgspec.inspect.ListType):
        _collect_secrets(info.item_type, found)
    elif isinstance(info, msgspec.inspect.Metadata):
        _collect_secrets(info.type, found)
