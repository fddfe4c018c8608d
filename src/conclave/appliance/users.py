"""The users of an appliance: who they are, what they may do, and how they prove it.

Invariants: a wrong name costs what a wrong password costs, so names cannot be told apart by time;
nothing is hashed for an attempt that comes too early or cannot be right; one attempt is in flight
for each name and each source; a change of password, role or state voids every earlier login.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from conclave import faults
from conclave.appliance.login_delays import LoginDelays
from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_rules import (
    UserRole,
    check_new_password,
    check_user_id,
    password_can_be_right,
)
from conclave.appliance.user_store import (
    StoredUser,
    User,
    UserCredentialVersion,
    load_users,
    remove_user,
    save_users,
)
from conclave.clock import boot_time_ms
from conclave.crypto.password_hash import DEFAULT_COST, Argon2Cost, new_salt
from conclave.errors import (
    BadInput,
    Conflict,
    CredentialRefused,
    LimitReached,
    NotAllowed,
    NotFound,
)
from conclave.keyed_locks import KeyedLocks
from conclave.service.messages import UserRecord

PasswordHasher = Callable[[bytes, bytes, str], Awaitable[bytes]]
"""hasher(password, salt, source) -> 32 bytes of Argon2id, made by the login process."""

DEFAULT_PASSWORD: Final = "PASSWORD"  # noqa: S105 - public: every such appliance begins with it
MAX_USERS: Final = 1000
REMEMBER_MS: Final = 10 * 60_000
MAX_REMEMBERED: Final = 256
_LONGEST_QUEUE: Final = 64
_BUILTIN: Final = (UserRole.ADMIN, UserRole.OPERATOR, UserRole.MONITOR, UserRole.AUDIT)


@dataclass(frozen=True, slots=True)
class Login:
    """Who proved a password, and the version that makes the proof void when it changes."""

    user_id: str
    version: UserCredentialVersion


class RememberedPasswords:
    """Passwords proven a moment ago, so that Basic on each call costs one Argon2id in ten minutes.

    Kept are digests under a key that lives as long as this object, never a password.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._key = os.urandom(32)
        self._entries: OrderedDict[bytes, tuple[Login, int]] = OrderedDict()

    def find(self, user_id: str, password: str) -> Login | None:
        """Return the login that this password proved, unless it was idle too long."""
        digest = self._digest(user_id, password)
        found = self._entries.pop(digest, None)
        if found is None or found[1] < self._now_ms():
            return None
        self._entries[digest] = (found[0], self._now_ms() + REMEMBER_MS)
        return found[0]

    def add(self, user_id: str, password: str, login: Login) -> None:
        """Remember a password that was just proven."""
        self._entries[self._digest(user_id, password)] = (login, self._now_ms() + REMEMBER_MS)
        while len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)

    def _digest(self, user_id: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{user_id}\0{password}".encode(), hashlib.sha256)


class Users:
    """All users, kept in memory and changed durably."""

    def __init__(
        self,
        store: ApplianceStore,
        hasher: PasswordHasher,
        *,
        cost: Argon2Cost = DEFAULT_COST,
        now_ms: Callable[[], int] = boot_time_ms,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._cost = cost
        self._users: dict[str, StoredUser] = {}
        self._changes = asyncio.Lock()
        self._delays = LoginDelays(now_ms=now_ms)
        self._sources = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)
        self._names = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)
        self._remembered = RememberedPasswords(now_ms)
        self._nobody_key = os.urandom(32)
        self._listeners: list[Callable[[], None]] = []

    @classmethod
    async def open(
        cls,
        store: ApplianceStore,
        hasher: PasswordHasher,
        *,
        cost: Argon2Cost = DEFAULT_COST,
        now_ms: Callable[[], int] = boot_time_ms,
    ) -> Users:
        """Read the users; the first time make the built-in ones, only admin enabled.

        `cost` is of passwords that are set from now on; those that are stored keep theirs.
        """
        users = cls(store, hasher, cost=cost, now_ms=now_ms)
        users._users = await load_users(store)
        if not users._users:
            builtin = [await users._new_builtin(role) for role in _BUILTIN]
            await save_users(store, *builtin)
            users._users = {stored.user.user_id: stored for stored in builtin}
        return users

    # ---- reading

    def all(self) -> tuple[User, ...]:
        """Return all users in the order of their names."""
        return tuple(self._users[user_id].user for user_id in sorted(self._users))

    def get(self, user_id: str) -> User:
        """Return one user; raise NotFound."""
        return self._stored(user_id).user

    def current(self, login: Login) -> User | None:
        """Return whose login this is, or None when it is void."""
        stored = self._users.get(login.user_id)
        if stored is None or not stored.user.enabled:
            return None
        return stored.user if hmac.compare_digest(stored.version, login.version) else None

    def records(self) -> list[UserRecord]:
        """Return all users as a cluster mirrors them, for `put_users` of its process."""
        return [_record(self._users[user_id]) for user_id in sorted(self._users)]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of any user."""
        self._listeners.append(listener)

    # ---- proving a password

    async def authenticate(self, user_id: str, password: str, *, source: str) -> Login:
        """Check a password; raise CredentialRefused, or Unavailable when it comes too early."""
        remembered = self._remembered.find(user_id, password)
        if remembered is not None and self.current(remembered) is not None:
            return remembered
        async with self._sources.hold(source), self._names.hold(user_id):
            # Somebody may have proven the same password while this attempt waited.
            remembered = self._remembered.find(user_id, password)
            if remembered is not None and self.current(remembered) is not None:
                return remembered
            return await self._check(user_id, password, source)

    async def _check(self, user_id: str, password: str, source: str) -> Login:
        self._delays.check(user_id, source)
        stored = self._users.get(user_id)
        right = False
        if password_can_be_right(password):
            salt = self._nobodys_salt(user_id) if stored is None else stored.salt
            derived = await self._hasher(password.encode(), salt, source)
            expected = bytes(32) if stored is None else stored.verifier
            right = hmac.compare_digest(derived, expected) and stored is not None
        if stored is None or not right or not stored.user.enabled:
            self._delays.failed(user_id, source)
            message = "The user name or the password is wrong, or the user is disabled."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        self._delays.succeeded(user_id)
        login = Login(user_id, stored.version)
        self._remembered.add(user_id, password, login)
        return login

    def _nobodys_salt(self, user_id: str) -> bytes:
        """Return a user's salt, and so a user's cost, for a name that nobody has.

        Users may differ in cost after its change; then so do the names of nobody, each for ever.
        """
        salts = [self._users[known].salt for known in sorted(self._users)]
        draw = hmac.digest(self._nobody_key, user_id.encode(), hashlib.sha256)
        return salts[int.from_bytes(draw[:8]) % len(salts)]

    # ---- changing

    async def create(
        self,
        user_id: str,
        password: str,
        *,
        role: UserRole,
        full_name: str = "",
        email: str = "",
        source: str,
    ) -> None:
        """Make an enabled user whose first password must be changed at the first login."""
        check_user_id(user_id)
        check_new_password(password)
        user = User(user_id, role, full_name, email, builtin=False, enabled=True, must_change=True)
        async with self._changes:
            if user_id in self._users:
                raise Conflict(faults.USER_EXISTS, f"User {user_id} exists already.")
            if len(self._users) >= MAX_USERS:
                message = f"The appliance has {MAX_USERS} users, which is the most it can have."
                raise LimitReached(faults.USER_LIMIT, message)
            await self._save(await self._with_password(user, password, source))

    async def update(
        self,
        user_id: str,
        *,
        role: UserRole | None = None,
        full_name: str | None = None,
        email: str | None = None,
    ) -> None:
        """Change what is given; the role of a built-in user is fixed."""
        async with self._changes:
            stored = self._stored(user_id)
            if role is not None and role is not stored.user.role:
                _require_not_builtin(stored.user, "its role is fixed")
                self._require_another_admin(stored.user)
            user = replace(
                stored.user,
                role=stored.user.role if role is None else role,
                full_name=stored.user.full_name if full_name is None else full_name,
                email=stored.user.email if email is None else email,
            )
            voids = user.role is not stored.user.role
            await self._save(
                replace(stored, user=user, version=_new_version() if voids else stored.version)
            )

    async def set_enabled(self, user_id: str, *, enabled: bool) -> None:
        """Enable or disable; the last enabled administrator stays."""
        async with self._changes:
            stored = self._stored(user_id)
            if not enabled:
                self._require_another_admin(stored.user)
            user = replace(stored.user, enabled=enabled)
            await self._save(replace(stored, user=user, version=_new_version()))

    async def delete(self, user_id: str) -> None:
        """Remove a user; built-in ones stay."""
        async with self._changes:
            stored = self._stored(user_id)
            _require_not_builtin(stored.user, "it cannot be deleted")
            self._require_another_admin(stored.user)
            await remove_user(self._store, user_id)
            del self._users[user_id]
            self._tell()

    async def change_own_password(
        self, user_id: str, current: str, password: str, *, source: str
    ) -> Login:
        """Change a password, proving the current one; return the caller's new login."""
        proven = await self.authenticate(user_id, current, source=source)
        if hmac.compare_digest(current.encode(), password.encode()):
            message = "password must differ from currentPassword."
            raise BadInput(faults.BAD_REQUEST, message)
        return await self._set_password(user_id, password, proven=proven, source=source)

    async def reset_password(self, user_id: str, password: str, *, source: str) -> None:
        """Give a user a password that must be changed at the next login."""
        await self._set_password(user_id, password, proven=None, source=source)

    # ---- inside

    async def _set_password(
        self, user_id: str, password: str, *, proven: Login | None, source: str
    ) -> Login:
        """Set a password: the user's own after a proof, or by somebody else without one."""
        check_new_password(password)
        async with self._changes:
            if proven is not None and self.current(proven) is None:
                message = "The user or the password has changed meanwhile; nothing was changed."
                raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
            user = replace(self._stored(user_id).user, must_change=proven is None)
            stored = await self._with_password(user, password, source)
            await self._save(stored)
            self._delays.succeeded(user_id)
            return Login(user_id, stored.version)

    async def _with_password(self, user: User, password: str, source: str) -> StoredUser:
        salt = new_salt(self._cost)
        verifier = await self._hasher(password.encode(), salt, f"{source} sets a password")
        return StoredUser(user, salt, verifier, _new_version())

    async def _new_builtin(self, role: UserRole) -> StoredUser:
        user = User(role.value, role, "", "", True, role is UserRole.ADMIN, True)
        return await self._with_password(user, DEFAULT_PASSWORD, "local")

    async def _save(self, stored: StoredUser) -> None:
        await save_users(self._store, stored)
        self._users[stored.user.user_id] = stored
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _stored(self, user_id: str) -> StoredUser:
        stored = self._users.get(user_id)
        if stored is None:
            raise NotFound(faults.USER_NOT_FOUND, f"There is no user {user_id[:64]!r}.")
        return stored

    def _require_another_admin(self, user: User) -> None:
        others = [
            other.user_id
            for other in self.all()
            if other.role is UserRole.ADMIN and other.enabled and other.user_id != user.user_id
        ]
        if user.role is UserRole.ADMIN and user.enabled and not others:
            message = f"User {user.user_id} is the last enabled user of the role admin."
            raise NotAllowed(faults.USER_RESERVED, message)


def _record(stored: StoredUser) -> UserRecord:
    user = stored.user
    proof = (stored.salt, stored.verifier, stored.version, user.builtin, user.must_change)
    return UserRecord(
        user_id=user.user_id,
        role=user.role.value,
        full_name=user.full_name,
        email=user.email,
        verifier=msgspec.msgpack.encode(proof),
        enabled=user.enabled,
        revision=0,
    )


def _require_not_builtin(user: User, why: str) -> None:
    if user.builtin:
        message = f"User {user.user_id} is built in: {why}."
        raise NotAllowed(faults.USER_RESERVED, message)


def _new_version() -> UserCredentialVersion:
    return UserCredentialVersion(os.urandom(16))
