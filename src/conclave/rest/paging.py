"""Query parameters: flags, and the page of a list that limit and offset cut from its array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from conclave import faults
from conclave.errors import BadInput
from conclave.operations.model import AnyOperation, Page, Reply

MAX_LIMIT: Final = 10_000
MAX_OFFSET: Final = 10_000_000
PARAMETERS: Final = {"limit": (1, MAX_LIMIT), "offset": (0, MAX_OFFSET)}


def wanted_page(operation: AnyOperation, query: Sequence[tuple[str, str]]) -> Page:
    """Return the page that a query asks for; refuse parameters that the operation has not."""
    values: dict[str, int] = {}
    for name, value in query:
        if name in operation.flags:
            continue
        if not operation.paged or name not in PARAMETERS or name in values:
            message = f"Query parameter {name[:32]!r} is unknown here, or given twice."
            raise BadInput(faults.BAD_REQUEST, message)
        low, high = PARAMETERS[name]
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            message = (
                f"Query parameter {name} must be a number from {low} to {high};"
                f" it is {value[:32]!r}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
        values[name] = int(value)
    return Page(offset=values.get("offset", 0), limit=values.get("limit"))


def wanted_flags(operation: AnyOperation, query: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Return the flags that a query sets; refuse a value that is neither true nor false."""
    flags: dict[str, bool] = {}
    for name, value in query:
        if name not in operation.flags:
            continue
        if name in flags or value.lower() not in ("true", "false"):
            message = f"Query parameter {name} must be true or false, once; it is {value[:32]!r}."
            raise BadInput(faults.BAD_REQUEST, message)
        flags[name] = value.lower() == "true"
    return frozenset(name for name, is_set in flags.items() if is_set)


def cut(reply: Reply, page: Page, path: str) -> tuple[msgspec.Struct | None, dict[str, str]]:
    """Return the page of a reply's body, and the header Link while more remains."""
    body = reply.body
    if body is None:
        return None, {}
    name, items = _first_list(body)
    total = len(items) if reply.total is None else reply.total
    if reply.total is None and page != Page():
        end = None if page.limit is None else page.offset + page.limit
        body = msgspec.structs.replace(body, **{name: items[page.offset : end]})
    return body, _link(page, total, path)


def _link(page: Page, total: int, path: str) -> dict[str, str]:
    if page.limit is None or page.offset + page.limit >= total:
        return {}
    following = f"{path}?limit={page.limit}&offset={page.offset + page.limit}"
    return {"Link": f'<{following}>; rel="next"'}


def _first_list(body: msgspec.Struct) -> tuple[str, list[object]]:
    for field in body.__struct_fields__:
        value = getattr(body, field)
        if isinstance(value, list):
            return field, value
    raise TypeError(f"{type(body).__name__} has no list to page through.")
