"""What a record shows of an operation's arguments: never a field that is marked secret.

Invariant: values are copied by the declared fields, so what is not declared is not there, and what
is declared secret is left out before anything looks at its value.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

_SHOWN_CHARACTERS: Final = 256
_SHOWN_ITEMS: Final = 16


def shown_arguments(arguments: msgspec.Struct) -> dict[str, Any]:
    """Return a structure's fields by their outer names, without secrets, long text cut."""
    info = msgspec.inspect.type_info(type(arguments))
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - a structure has such a type
    shown: dict[str, Any] = {}
    if info.tag_field is not None:
        shown[info.tag_field] = info.tag
    for field in info.fields:
        value = getattr(arguments, field.name)
        if value is not msgspec.UNSET and not is_secret(field.type):
            shown[field.encode_name] = _shown(value)
    return shown


def is_secret(info: msgspec.inspect.Type) -> bool:
    """Tell whether a declared type holds a secret."""
    if isinstance(info, msgspec.inspect.UnionType):
        return any(is_secret(member) for member in info.types)
    if isinstance(info, msgspec.inspect.Metadata):
        return bool((info.extra or {}).get("secret")) or is_secret(info.type)
    return False


def _shown(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        return shown_arguments(value)
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value[:_SHOWN_ITEMS]]
    if isinstance(value, str):
        return value[:_SHOWN_CHARACTERS]
    if isinstance(value, bool | int | float) or value is None:
        return value
    return f"<{type(value).__name__}>"
