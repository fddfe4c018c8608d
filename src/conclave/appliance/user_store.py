"""The users' rows in the appliance store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, NewType

import msgspec
from sqlalchemy import Connection, RowMapping, text

from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_rules import Role, role_named

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
    "ALTER TABLE users ADD COLUMN keys BLOB NOT NULL DEFAULT x''",
    """CREATE TABLE custom_roles (
        role_id TEXT PRIMARY KEY,
        full_name TEXT NOT NULL,
        resources TEXT NOT NULL)""",
)


class PublicKey(msgspec.Struct, frozen=True):
    """A key that opens LunaSH to its user."""

    kind: str
    """`ssh-ed25519` and so on."""
    data: str
    """The key in base64, as OpenSSH writes it."""
    fingerprint: str
    """SHA-256, as `ssh-keygen -l` prints it."""
    comment: str


class UserKeys(msgspec.Struct, frozen=True):
    """What proves a user besides the password."""

    public_keys: tuple[PublicKey, ...] = ()
    certificates: tuple[bytes, ...] = ()
    """DER, for logging in by challenge."""


NO_KEYS: Final = UserKeys()


@dataclass(frozen=True, slots=True)
class User:
    """One user of the appliance, as anybody may see it."""

    user_id: str
    role: Role
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
    keys: UserKeys = NO_KEYS

    def __repr__(self) -> str:
        return f"StoredUser({self.user!r})"


@dataclass(frozen=True, slots=True)
class StoredRole:
    """A role that an administrator made."""

    role_id: str
    full_name: str
    resources: str
    """Its access rules, as they were given."""

    @property
    def entry_id(self) -> str:
        """Return what the list of users and roles has it under; no user can have that name."""
        return role_entry_id(self.role_id)


Entry = StoredUser | StoredRole


def role_entry_id(role_id: str) -> str:
    """Return what the list of users and roles has a custom role under."""
    return f"role:{role_id}"


def encode_keys(keys: UserKeys) -> bytes:
    """Return a user's keys for storage; none take no byte."""
    return b"" if keys == NO_KEYS else msgspec.msgpack.encode(keys)


def decode_keys(encoded: bytes) -> UserKeys:
    """Return what `encode_keys` stored; raise msgspec.MsgspecError."""
    return msgspec.msgpack.decode(encoded, type=UserKeys) if encoded else NO_KEYS


async def load_users(store: ApplianceStore) -> tuple[dict[str, Entry], frozenset[str]]:
    """Return all users and custom roles, and the entries changed without the cluster."""
    await store.migrate(COMPONENT, MIGRATIONS)
    return await store.run(_load)


async def replace_users(
    store: ApplianceStore, entries: Iterable[Entry], changed: Iterable[str]
) -> None:
    """Make these all users and roles, and these the ones changed without the cluster, durably."""
    listed = tuple(entries)
    rows = [_row(entry) for entry in listed if isinstance(entry, StoredUser)]
    roles = [asdict(entry) for entry in listed if isinstance(entry, StoredRole)]
    names = [{"user_id": name} for name in changed]

    def write(connection: Connection) -> None:
        for table, statement, values in (
            ("users", _INSERT_USER, rows),
            ("custom_roles", _INSERT_ROLE, roles),
            ("users_changed", _INSERT_CHANGED, names),
        ):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names from here
            if values:
                connection.execute(statement, values)

    await store.run(write)


_INSERT_USER: Final = text(
    "INSERT INTO users (user_id, full_name, email, role, builtin, enabled,"
    " must_change, salt, verifier, version, keys) VALUES (:user_id, :full_name, :email, :role,"
    " :builtin, :enabled, :must_change, :salt, :verifier, :version, :keys)"
)
_INSERT_ROLE: Final = text(
    "INSERT INTO custom_roles (role_id, full_name, resources)"
    " VALUES (:role_id, :full_name, :resources)"
)
_INSERT_CHANGED: Final = text("INSERT INTO users_changed (user_id) VALUES (:user_id)")


def _load(connection: Connection) -> tuple[dict[str, Entry], frozenset[str]]:
    rows = connection.execute(text("SELECT * FROM users ORDER BY user_id")).mappings()
    entries: dict[str, Entry] = {row["user_id"]: _stored(row) for row in rows}
    for found in connection.execute(text("SELECT * FROM custom_roles")).mappings():
        role = StoredRole(**found)
        entries[role.entry_id] = role
    changed = connection.execute(text("SELECT user_id FROM users_changed")).scalars()
    return entries, frozenset(changed)


def _stored(row: RowMapping) -> StoredUser:
    return StoredUser(
        User(
            user_id=row["user_id"],
            role=role_named(row["role"]),
            full_name=row["full_name"],
            email=row["email"],
            builtin=bool(row["builtin"]),
            enabled=bool(row["enabled"]),
            must_change=bool(row["must_change"]),
        ),
        salt=row["salt"],
        verifier=row["verifier"],
        version=UserCredentialVersion(row["version"]),
        keys=decode_keys(row["keys"]),
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
        "keys": encode_keys(stored.keys),
    }
