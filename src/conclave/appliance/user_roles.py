"""Roles that administrators make, and the access rules that are their rights.

A rule is a line `METHOD:/path/{placeholder}`.  A placeholder stands for any value where the
resource has one, a literal for that value alone; a rule never reaches beyond its own resource.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Final

from conclave import faults
from conclave.appliance import user_list
from conclave.appliance.user_list import Change, UserTable
from conclave.appliance.user_rules import ROLE_ID_PATTERN, Role, UserRole
from conclave.appliance.user_store import StoredRole, role_entry_id
from conclave.appliance.users import Users
from conclave.errors import BadInput, Conflict, LimitReached, NotAllowed, NotFound

MAX_ROLES: Final = 100
MAX_RESOURCE_BYTES: Final = 64 * 1024
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
BUILT_IN: Final = tuple(role.value for role in UserRole if role)
_RULE: Final = re.compile(r"(?P<method>[A-Z]{3,6}):(?P<path>/[!-~]{1,510})")
_PLACEHOLDER: Final = re.compile(r"\{[^{}/]*\}")


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One method on one resource; None stands for a placeholder."""

    method: str
    segments: tuple[str | None, ...]


@functools.lru_cache(maxsize=2 * MAX_ROLES)
def access_rules(resources: str) -> tuple[AccessRule, ...]:
    """Return the rules of a text; raise BadInput naming the line that is none."""
    rules = []
    for number, line in enumerate(resources.splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _RULE.fullmatch(text)
        if found is None or found["method"] not in METHODS:
            message = (
                f"Line {number} must be METHOD:/path/{{placeholder}} with a method of"
                f" {', '.join(METHODS)}; it is {text[:64]!r}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
        rules.append(AccessRule(found["method"], _segments(found["path"])))
    return tuple(rules)


def allows(resources: str, method: str, template: str, path: dict[str, str]) -> bool:
    """Tell whether rules let somebody call a method on a resource with these path values."""
    wanted = template.strip("/").split("/")
    return any(
        rule.method == method and _covers(rule.segments, wanted, path)
        for rule in access_rules(resources)
    )


def _covers(segments: tuple[str | None, ...], template: list[str], path: dict[str, str]) -> bool:
    if len(segments) != len(template):
        return False
    for allowed, wanted in zip(segments, template, strict=True):
        if _PLACEHOLDER.fullmatch(wanted) is None:
            if allowed != wanted:
                return False
        elif allowed is not None and allowed != path.get(wanted.strip("{}")):
            return False
    return True


def _segments(path: str) -> tuple[str | None, ...]:
    parts = path.strip("/").split("/")
    return tuple(None if _PLACEHOLDER.fullmatch(part) else part for part in parts)


def decode_resources(content: bytes) -> str:
    """Return uploaded rules as text; raise BadInput when they are too long or not rules."""
    if len(content) > MAX_RESOURCE_BYTES:
        message = f"Access rules may have {MAX_RESOURCE_BYTES} bytes; these have {len(content)}."
        raise BadInput(faults.BAD_REQUEST, message)
    try:
        resources = content.decode()
    except UnicodeDecodeError:
        raise BadInput(faults.BAD_REQUEST, "Access rules must be text in UTF-8.") from None
    access_rules(resources)
    return resources


# ---- changes


def adding(role: StoredRole) -> Change:
    """Return the change that adds a custom role."""

    def change(table: UserTable) -> UserTable:
        if role.role_id in BUILT_IN or role.entry_id in table:
            raise Conflict(faults.ROLE_EXISTS, f"Role {role.role_id} exists already.")
        if sum(1 for _ in user_list.roles_of(table)) >= MAX_ROLES:
            message = f"There are {MAX_ROLES} custom roles, which is the most there can be."
            raise LimitReached(faults.ROLE_LIMIT, message)
        return {**table, role.entry_id: role}

    return change


def setting_resources(resources: dict[str, str], *, only_these: bool = False) -> Change:
    """Return the change of custom roles' rules; `only_these` takes all rules of other roles."""

    def change(table: UserTable) -> UserTable:
        for role_id in resources:
            find_role(table, role_id)
        changed = {
            role.entry_id: replace(role, resources=resources.get(role.role_id, ""))
            for role in user_list.roles_of(table)
            if only_these or role.role_id in resources
        }
        return {**table, **changed}

    return change


def deleting(role_id: str) -> Change:
    """Return the change that removes a custom role, which no user may have."""

    def change(table: UserTable) -> UserTable:
        entry_id = find_role(table, role_id).entry_id
        having = [
            each.user.user_id for each in user_list.users_of(table) if each.user.role == role_id
        ]
        if having:
            message = f"Role {role_id} is the role of {len(having)} users, {having[0]} for one."
            raise Conflict(faults.ROLE_IN_USE, message)
        return {name: entry for name, entry in table.items() if name != entry_id}

    return change


def find_role(table: UserTable, role_id: str) -> StoredRole:
    """Return a custom role; raise NotFound, or NotAllowed for a built-in one."""
    if role_id in BUILT_IN:
        message = f"Role {role_id} is built in: it cannot be changed or deleted."
        raise NotAllowed(faults.ROLE_RESERVED, message)
    entry = table.get(role_entry_id(role_id))
    if not isinstance(entry, StoredRole):
        raise NotFound(faults.ROLE_NOT_FOUND, f"There is no role {role_id[:64]!r}.")
    return entry


class CustomRoles:
    """The custom roles, which live in the list of users and travel with it."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def all(self) -> tuple[StoredRole, ...]:
        """Return the custom roles in the order of their names."""
        return tuple(sorted(user_list.roles_of(self._users.table), key=lambda each: each.role_id))

    def get(self, role_id: str) -> StoredRole:
        """Return a custom role; raise NotFound, or NotAllowed for a built-in one."""
        return find_role(self._users.table, role_id)

    def allow(self, role: Role, method: str, template: str, path: dict[str, str]) -> bool:
        """Tell whether a custom role's rules let it call a method on a resource."""
        entry = self._users.table.get(role_entry_id(role))
        return isinstance(entry, StoredRole) and allows(entry.resources, method, template, path)

    async def create(self, role_id: str, *, full_name: str, resources: str = "") -> None:
        """Make a role; raise Conflict or LimitReached."""
        if not re.fullmatch(ROLE_ID_PATTERN, role_id):
            message = f"roleId must be 1 to 64 of a-z A-Z 0-9 _; it is {role_id[:64]!r}."
            raise BadInput(faults.BAD_REQUEST, message)
        await self._users.apply(adding(StoredRole(role_id, full_name, resources)))

    async def set_resources(self, resources: dict[str, str], *, only_these: bool = False) -> None:
        """Give custom roles their rules; `only_these` takes all rules of the other roles."""
        await self._users.apply(setting_resources(resources, only_these=only_these))

    async def delete(self, role_id: str) -> None:
        """Remove a role that no user has."""
        await self._users.apply(deleting(role_id))
