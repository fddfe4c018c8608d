"""The users' rows in the appliance store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NewType

from sqlalchemy import Connection, RowMapping, text

from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_rules import UserRole

UserCredentialVersion = NewType("UserCredentialVersion", bytes)
"""16 random bytes, new at each change of a password or of what a user may do."""

COMPONENT: Final = "users"
MIGRATIONS: Final = (
    """CREATE TABLE users (
        user_id TEXT PRIMARY KEY,
        full_name TEXT NOT NULL,
        email TEXT NOT NULL,
        role TEXT NOT NULL,
        builtin INTEGER NOT NULL,
        enabled INTEGER NOT NULL,
        must_change INTEGER NOT NULL,
        salt BLOB NOT NULL,
        verifier BLOB NOT NULL,
        version BLOB NOT NULL)""",
    "CREATE TABLE users_changed (user_id TEXT PRIMARY KEY)",
    # Nobody noted until now what the cluster knows already.
    "INSERT INTO users_changed (user_id) SELECT user_id FROM users",
)


@dataclass(frozen=True, slots=True)
class User:
    """One user of the appliance, as anybody may see it."""

    user_id: str
    role: UserRole
    full_name: str
    email: str
    builtin: bool
    enabled: bool
    must_change: bool
    """The password was set by somebody else and allows nothing but its change."""


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user with what proves a password; never leaves the users' service."""

    user: User
    salt: bytes
    verifier: bytes
    version: UserCredentialVersion

    def __repr__(self) -> str:
        return f"StoredUser({self.user!r})"


async def load_users(store: ApplianceStore) -> tuple[dict[str, StoredUser], frozenset[str]]:
    """Return all users by name, and the names that were changed without the cluster."""
    await store.migrate(COMPONENT, MIGRATIONS)
    return await store.run(_load)


async def replace_users(
    store: ApplianceStore, users: Iterable[StoredUser], changed: Iterable[str]
) -> None:
    """Make these all users, and these the names changed without the cluster, durably."""
    rows = [_row(stored) for stored in users]
    names = [{"user_id": name} for name in changed]

    def write(connection: Connection) -> None:
        for table, statement, values in (
            ("users", _INSERT_USER, rows),
            ("users_changed", _INSERT_CHANGED, names),
        ):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names from here
            if values:
                connection.execute(statement, values)

    await store.run(write)


_INSERT_USER: Final = text(
    "INSERT INTO users (user_id, full_name, email, role, builtin, enabled,"
    " must_change, salt, verifier, version) VALUES (:user_id, :full_name, :email, :role,"
    " :builtin, :enabled, :must_change, :salt, :verifier, :version)"
)
_INSERT_CHANGED: Final = text("INSERT INTO users_changed (user_id) VALUES (:user_id)")


def _load(connection: Connection) -> tuple[dict[str, StoredUser], frozenset[str]]:
    rows = connection.execute(text("SELECT * FROM users ORDER BY user_id")).mappings()
    users = {row["user_id"]: _stored(row) for row in rows}
    changed = connection.execute(text("SELECT user_id FROM users_changed")).scalars()
    return users, frozenset(changed)


def _stored(row: RowMapping) -> StoredUser:
    return StoredUser(
        User(
            user_id=row["user_id"],
            role=UserRole(row["role"]),
            full_name=row["full_name"],
            email=row["email"],
            builtin=bool(row["builtin"]),
            enabled=bool(row["enabled"]),
            must_change=bool(row["must_change"]),
        ),
        salt=row["salt"],
        verifier=row["verifier"],
        version=UserCredentialVersion(row["version"]),
    )


def _row(stored: StoredUser) -> dict[str, object]:
    user = stored.user
    return {
        "user_id": user.user_id,
        "full_name": user.full_name,
        "email": user.email,
        "role": user.role.value,
        "builtin": int(user.builtin),
        "enabled": int(user.enabled),
        "must_change": int(user.must_change),
        "salt": stored.salt,
        "verifier": stored.verifier,
        "version": stored.version,
    }
