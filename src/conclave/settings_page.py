"""Print the settings as the documentation page: `python -m conclave.settings_page`."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import msgspec

from conclave.crypto import password_hash
from conclave.settings import NUMBER_RULES, WORD_RULES, ApplianceConfig

_HEAD = f"""# Settings

What `conclave.toml` in an appliance's state directory may say, made from the structures of
`conclave/settings.py`. A setting that is absent has its default; an unknown name, or a value that
breaks its rule, refuses the start and is named. Changes take effect when the daemon starts.

`argon2.memory_kib` times `argon2.iterations` is {password_hash.MAX_WORK_KIB} at most. Lower values
than the table's need `low_cost_for_tests`.
"""
_COLUMNS = "| name | type | default | rule | meaning |\n|---|---|---|---|---|"
_COST_RULES = {
    "argon2.memory_kib": (password_hash.FLOOR_MEMORY_KIB, password_hash.MAX_MEMORY_KIB),
    "argon2.iterations": (password_hash.FLOOR_ITERATIONS, password_hash.MAX_ITERATIONS),
    "argon2.lanes": (1, password_hash.MAX_LANES),
}
_TYPE_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


def markdown() -> str:
    """Return the page."""
    sections = [_HEAD, _table("", ApplianceConfig)]
    for field in msgspec.structs.fields(ApplianceConfig):
        if _is_struct(field.type):
            sections += [f"\n## [{field.name}]\n", _table(f"{field.name}.", field.type)]
    return "\n".join(sections) + "\n"


def meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return what stands below each field of a structure, in one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - a class was parsed
    found = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def rule(path: str, kind: object) -> str:
    """Return a field's rule; empty when its type says all."""
    ranges = {**NUMBER_RULES, **_COST_RULES}
    words = []
    if path in ranges:
        low, high = ranges[path]
        words.append(f"{low} to {high}")
    if choices := _choices(kind):
        words.append(" or ".join(f"`{json.dumps(choice)}`" for choice in choices))
    if path in WORD_RULES:
        words.append(WORD_RULES[path])
    return "; ".join(words)


def _table(prefix: str, struct: type[msgspec.Struct]) -> str:
    return "\n".join([_COLUMNS, *_rows(prefix, struct)])


def _rows(prefix: str, struct: type[msgspec.Struct]) -> Iterator[str]:
    texts = meanings(struct)
    for field in msgspec.structs.fields(struct):
        kind, meaning = field.type, texts.get(field.name, "")
        if _is_struct(kind):
            yield f"| [`{field.name}`](#{field.name}) | table | | | {meaning} |"
        else:
            cells = [_type_name(kind), _default(field), rule(prefix + field.name, kind), meaning]
            yield f"| `{field.name}` | {' | '.join(cells)} |"


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _choices(kind: object) -> list[object]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []


def _type_name(kind: object) -> str:
    if isinstance(kind, types.GenericAlias):
        return "table of texts"
    if choices := _choices(kind):
        kind = type(choices[0])
    assert isinstance(kind, type)  # noqa: S101 - every other kind was told apart above
    return _TYPE_NAMES[kind]


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT:
        return ""
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items())
        return f"`{{{pairs}}}`"
    return f"`{json.dumps(msgspec.to_builtins(value))}`"


if __name__ == "__main__":
    sys.stdout.write(markdown())
