"""Find the operation of a method and a path.

Paths are matched as they were sent, percent-encoded, segment by segment, so a label may hold any
character; one slash at the end is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from conclave import faults
from conclave.errors import BadInput, NotFound
from conclave.operations.model import AnyOperation


@dataclass(frozen=True, slots=True)
class Match:
    """A known path with what stands for its placeholders, and the methods it has."""

    operations: dict[str, AnyOperation]
    path: dict[str, str]

    @property
    def allowed(self) -> str:
        """Return the methods as the header Allow lists them."""
        return ", ".join(sorted(self.operations))


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    placeholder: _Node | None = None
    operations: dict[str, tuple[AnyOperation, tuple[str, ...]]] = field(default_factory=dict)


class Router:
    """A tree of path segments; a literal segment is preferred to a placeholder."""

    def __init__(self, operations: Iterable[AnyOperation]) -> None:
        self._root = _Node()
        for operation in operations:
            self._add(operation)

    def find(self, raw_path: bytes) -> Match:
        """Return what is at a path; raise NotFound or, for broken encoding, BadInput."""
        segments = _segments(raw_path)
        found = _find(self._root, segments, ())
        if found is None:
            shown = "/" + "/".join(segments)
            raise NotFound(faults.NO_SUCH_RESOURCE, f"There is no resource {shown[:120]!r} here.")
        node, values = found
        operations = {method: row[0] for method, row in node.operations.items()}
        names = next(iter(node.operations.values()))[1]
        return Match(operations, dict(zip(names, values, strict=True)))

    def _add(self, operation: AnyOperation) -> None:
        node, names = self._root, []
        for segment in operation.path.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.literals.setdefault(segment, _Node())
        if operation.method in node.operations:
            raise ValueError(f"{operation.method} {operation.path} is declared twice.")
        node.operations[operation.method] = (operation, tuple(names))


def _segments(raw_path: bytes) -> list[str]:
    path = raw_path.partition(b"?")[0]
    try:
        return [unquote_to_bytes(segment).decode() for segment in path.strip(b"/").split(b"/")]
    except UnicodeDecodeError as error:
        message = "The path is not percent-encoded UTF-8."
        raise BadInput(faults.BAD_REQUEST, message) from error


def _find(
    node: _Node, segments: list[str], values: tuple[str, ...]
) -> tuple[_Node, tuple[str, ...]] | None:
    if not segments:
        return (node, values) if node.operations else None
    first, rest = segments[0], segments[1:]
    literal = node.literals.get(first)
    found = _find(literal, rest, values) if literal else None
    if found is None and node.placeholder is not None and first:
        found = _find(node.placeholder, rest, (*values, first))
    return found
