"""A list of users and custom roles, and what may be done to it; pure functions.

Invariant: a change is a function from the newest list to the next one and checks its rules there,
so that it can be made again on a list that somebody else has changed meanwhile.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.user_rules import CustomRole, Role, UserRole, role_named
from conclave.appliance.user_store import (
    Entry,
    StoredRole,
    StoredUser,
    User,
    UserCredentialVersion,
    decode_keys,
    encode_keys,
    role_entry_id,
)
from conclave.errors import (
    BadInput,
    Conflict,
    CredentialRefused,
    InternalFault,
    LimitReached,
    NotAllowed,
    NotFound,
)
from conclave.service.messages import UserRecord

UserTable = Mapping[str, Entry]
"""All users by name, and the custom roles beside them."""
Change = Callable[[UserTable], UserTable]
"""change(newest list) -> next list; raises a ConclaveError when its rules forbid it."""

MAX_USERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Credential:
    """What proves a new password."""

    salt: bytes
    verifier: bytes
    version: UserCredentialVersion

    def __repr__(self) -> str:
        return "Credential()"


# ---- reading


def users_of(table: UserTable) -> Iterator[StoredUser]:
    """Yield the users."""
    return (entry for entry in table.values() if isinstance(entry, StoredUser))


def roles_of(table: UserTable) -> Iterator[StoredRole]:
    """Yield the custom roles."""
    return (entry for entry in table.values() if isinstance(entry, StoredRole))


def user_of(table: UserTable, user_id: str) -> StoredUser | None:
    """Return one user, or None."""
    entry = table.get(user_id)
    return entry if isinstance(entry, StoredUser) else None


def find(table: UserTable, user_id: str) -> StoredUser:
    """Return one user; raise NotFound."""
    stored = user_of(table, user_id)
    if stored is None:
        raise NotFound(faults.USER_NOT_FOUND, f"There is no user {user_id[:64]!r}.")
    return stored


def holds(table: UserTable, user_id: str, version: UserCredentialVersion) -> User | None:
    """Return the user whose login of this version holds, None when it is void."""
    stored = user_of(table, user_id)
    if stored is None or not stored.user.enabled:
        return None
    return stored.user if hmac.compare_digest(stored.version, version) else None


def has_admin(table: UserTable) -> bool:
    """Tell whether some enabled user may administer."""
    return any(_administers(stored.user) for stored in users_of(table))


# ---- changes


def adding(stored: StoredUser) -> Change:
    """Return the change that adds a user."""

    def change(table: UserTable) -> UserTable:
        user_id = stored.user.user_id
        if user_id in table:
            raise Conflict(faults.USER_EXISTS, f"User {user_id} exists already.")
        if sum(1 for _ in users_of(table)) >= MAX_USERS:
            message = f"There are {MAX_USERS} users, which is the most there can be."
            raise LimitReached(faults.USER_LIMIT, message)
        _require_role(table, stored.user.role)
        return {**table, user_id: stored}

    return change


def updating(
    user_id: str,
    *,
    role: Role | None,
    full_name: str | None,
    email: str | None,
    version: UserCredentialVersion,
) -> Change:
    """Return the change of what is given; a new role takes `version` and voids logins."""

    def change(table: UserTable) -> UserTable:
        stored = find(table, user_id)
        user = stored.user
        voids = role is not None and role != user.role
        if voids:
            _require_role(table, role)
            _require_not_builtin(user, "its role is fixed")
            _require_another_admin(table, user)
        changed = replace(
            user,
            role=user.role if role is None else role,
            full_name=user.full_name if full_name is None else full_name,
            email=user.email if email is None else email,
        )
        kept = version if voids else stored.version
        return {**table, user_id: replace(stored, user=changed, version=kept)}

    return change


def enabling(user_id: str, *, enabled: bool, version: UserCredentialVersion) -> Change:
    """Return the change that enables or disables; the last enabled administrator stays."""

    def change(table: UserTable) -> UserTable:
        stored = find(table, user_id)
        if not enabled:
            _require_another_admin(table, stored.user)
        user = replace(stored.user, enabled=enabled)
        return {**table, user_id: replace(stored, user=user, version=version)}

    return change


def deleting(user_id: str) -> Change:
    """Return the change that removes a user; built-in ones and the last administrator stay."""

    def change(table: UserTable) -> UserTable:
        user = find(table, user_id).user
        _require_not_builtin(user, "it cannot be deleted")
        _require_another_admin(table, user)
        return {name: stored for name, stored in table.items() if name != user_id}

    return change


def setting_password(
    user_id: str, credential: Credential, *, proven: UserCredentialVersion | None
) -> Change:
    """Return the change of a password: the user's own after a proof, or else by somebody else."""

    def change(table: UserTable) -> UserTable:
        if proven is not None and holds(table, user_id, proven) is None:
            message = "The user or the password has changed meanwhile; nothing was changed."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        stored = find(table, user_id)
        changed = StoredUser(
            replace(stored.user, must_change=proven is None),
            credential.salt,
            credential.verifier,
            credential.version,
            stored.keys,
        )
        return {**table, user_id: changed}

    return change


def merged(table: UserTable, local: UserTable, changed: Iterable[str]) -> UserTable:
    """Return `table` with the users named in `changed` as they are in `local`, or gone."""
    names = frozenset(changed)
    kept = {name: stored for name, stored in table.items() if name not in names}
    return kept | {name: local[name] for name in names if name in local}


# ---- records of the cluster


def to_records(table: UserTable) -> list[UserRecord]:
    """Return a list as the cluster keeps it, in the order of the names."""
    return [_record(table[user_id]) for user_id in sorted(table)]


def from_records(records: Iterable[UserRecord]) -> UserTable:
    """Return the list that the cluster keeps; raise InternalFault when it makes no sense."""
    return {record.user_id: _stored(record) for record in records}


class _Proof(msgspec.Struct, frozen=True, array_like=True):
    salt: bytes
    verifier: bytes
    version: bytes
    builtin: bool
    must_change: bool
    keys: bytes = b""


def _record(entry: Entry) -> UserRecord:
    if isinstance(entry, StoredRole):
        return _role_record(entry)
    user = entry.user
    proof = _Proof(
        entry.salt,
        entry.verifier,
        entry.version,
        user.builtin,
        user.must_change,
        encode_keys(entry.keys),
    )
    return UserRecord(
        user_id=user.user_id,
        role=user.role.value,
        full_name=user.full_name,
        email=user.email,
        verifier=msgspec.msgpack.encode(proof),
        enabled=user.enabled,
        revision=0,
    )


def _role_record(role: StoredRole) -> UserRecord:
    return UserRecord(
        user_id=role.entry_id,
        role="",
        full_name=role.full_name,
        email="",
        verifier=role.resources.encode(),
        enabled=False,
        revision=0,
    )


_proofs: Final = msgspec.msgpack.Decoder(_Proof)
_ROLE_PREFIX: Final = role_entry_id("")


def _stored(record: UserRecord) -> Entry:
    try:
        if record.user_id.startswith(_ROLE_PREFIX):
            role_id = record.user_id.removeprefix(_ROLE_PREFIX)
            return StoredRole(role_id, record.full_name, record.verifier.decode())
        proof = _proofs.decode(record.verifier)
        keys = decode_keys(proof.keys)
    except (msgspec.MsgspecError, ValueError) as cause:
        message = f"The cluster's user {record.user_id[:64]!r} cannot be read: a newer release?"
        raise InternalFault(faults.INTERNAL, message) from cause
    user = User(
        user_id=record.user_id,
        role=role_named(record.role),
        full_name=record.full_name,
        email=record.email,
        builtin=proof.builtin,
        enabled=record.enabled,
        must_change=proof.must_change,
    )
    return StoredUser(user, proof.salt, proof.verifier, UserCredentialVersion(proof.version), keys)


# ---- rules


def _administers(user: User) -> bool:
    return user.role is UserRole.ADMIN and user.enabled


def _require_not_builtin(user: User, why: str) -> None:
    if user.builtin:
        message = f"User {user.user_id} is built in: {why}."
        raise NotAllowed(faults.USER_RESERVED, message)


def _require_another_admin(table: UserTable, user: User) -> None:
    others = {name: stored for name, stored in table.items() if name != user.user_id}
    if _administers(user) and not has_admin(others):
        message = f"User {user.user_id} is the last enabled user of the role admin."
        raise NotAllowed(faults.USER_RESERVED, message)


def _require_role(table: UserTable, role: Role | None) -> None:
    if isinstance(role, CustomRole) and role_entry_id(role) not in table:
        known = [each.value for each in UserRole if each] + [
            each.role_id for each in roles_of(table)
        ]
        message = f"role must be one of {', '.join(known)} or empty; it is {role[:64]!r}."
        raise BadInput(faults.BAD_REQUEST, message)
