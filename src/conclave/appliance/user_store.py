"""The users' rows in the appliance store."""

from __future__ import annotations

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


async def load_users(store: ApplianceStore) -> dict[str, StoredUser]:
    """Return all users by name."""
    await store.migrate(COMPONENT, MIGRATIONS)
    return await store.run(_load)


async def save_users(store: ApplianceStore, *users: StoredUser) -> None:
    """Insert or replace rows, all or none, durably."""

    def write(connection: Connection) -> None:
        for stored in users:
            connection.execute(_UPSERT, _row(stored))

    await store.run(write)


async def remove_user(store: ApplianceStore, user_id: str) -> None:
    """Delete one row, durably."""
    statement = text("DELETE FROM users WHERE user_id = :user_id")
    await store.run(lambda connection: connection.execute(statement, {"user_id": user_id}) and None)


_UPSERT: Final = text(
    "INSERT OR REPLACE INTO users (user_id, full_name, email, role, builtin, enabled,"
    " must_change, salt, verifier, version) VALUES (:user_id, :full_name, :email, :role,"
    " :builtin, :enabled, :must_change, :salt, :verifier, :version)"
)


def _load(connection: Connection) -> dict[str, StoredUser]:
    rows = connection.execute(text("SELECT * FROM users ORDER BY user_id")).mappings()
    return {row["user_id"]: _stored(row) for row in rows}


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
