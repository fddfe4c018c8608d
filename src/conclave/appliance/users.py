"""The users of an appliance: who they are, what they may do, and how they prove it.

Invariants: a wrong name costs what a wrong password costs, so names cannot be told apart by time;
nothing is hashed for an attempt that comes too early or cannot be right; one attempt is in flight
for each name and each source; a change of password, role or state voids every earlier login.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.appliance import user_list
from conclave.appliance.cluster_users import ClusterState, ClusterUsers
from conclave.appliance.local_users import LocalUsers
from conclave.appliance.login_delays import KeyDelays, LoginDelays
from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_list import Change, Credential, UserTable
from conclave.appliance.user_rules import (
    Role,
    UserRole,
    check_new_password,
    check_user_id,
    password_can_be_right,
)
from conclave.appliance.user_store import StoredUser, User, UserCredentialVersion
from conclave.clock import boot_time_ms
from conclave.crypto.password_hash import DEFAULT_COST, Argon2Cost, new_salt
from conclave.errors import BadInput, CredentialRefused, Fault, Unavailable
from conclave.keyed_locks import KeyedLocks
from conclave.service.messages import UserRecord
from conclave.source_networks import network_of

PasswordHasher = Callable[[bytes, bytes, str], Awaitable[bytes]]
"""hasher(password, salt, source) -> 32 bytes of Argon2id, made by the login process."""

DEFAULT_PASSWORD: Final = "PASSWORD"  # noqa: S105 - public: every such appliance begins with it
REMEMBER_MS: Final = 10 * 60_000
MAX_REMEMBERED: Final = 256
_LONGEST_QUEUE: Final = 64
_BUILTIN: Final = (UserRole.ADMIN, UserRole.OPERATOR, UserRole.MONITOR, UserRole.AUDIT)


@dataclass(frozen=True, slots=True)
class Login:
    """Who proved a password, and the version that makes the proof void when it changes."""

    user_id: str
    version: UserCredentialVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAttempt:
    """One attempt to prove who one is, for whoever keeps a record of them."""

    user_id: str
    """Empty for a name that nobody has: it may be a password typed in the wrong place."""
    role: str
    source: str
    door: str
    fault: Fault | None
    """What refused it; None when it succeeded."""


class RememberedPasswords:
    """Passwords proven a moment ago, so that Basic on each call costs one Argon2id in ten minutes.

    Kept are digests under a key that lives as long as this object, never a password; each holds for
    the source that proved it, since guesses from elsewhere must meet the delays.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._key = os.urandom(32)
        self._entries: OrderedDict[bytes, tuple[Login, int]] = OrderedDict()

    def find(self, user_id: str, password: str, source: str) -> Login | None:
        """Return the login that this password proved from there, unless it was idle too long."""
        digest = self._digest(user_id, password, source)
        found = self._entries.pop(digest, None)
        if found is None or found[1] < self._now_ms():
            return None
        self._entries[digest] = (found[0], self._now_ms() + REMEMBER_MS)
        return found[0]

    def add(self, user_id: str, password: str, source: str, login: Login) -> None:
        """Remember a password that was just proven."""
        self._entries[self._digest(user_id, password, source)] = (
            login,
            self._now_ms() + REMEMBER_MS,
        )
        while len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)

    def _digest(self, user_id: str, password: str, source: str) -> bytes:
        text = f"{user_id}\0{source}\0{password}"
        return hmac.digest(self._key, text.encode(), hashlib.sha256)


class Users:
    """All users: who proves a password, and every change of a user.

    In a cluster a change is made there first (see `cluster_users`); logins are checked here.
    """

    def __init__(
        self,
        local: LocalUsers,
        hasher: PasswordHasher,
        *,
        cost: Argon2Cost = DEFAULT_COST,
        now_ms: Callable[[], int] = boot_time_ms,
    ) -> None:
        self._local = local
        self._hasher = hasher
        self._cost = cost
        self._cluster: ClusterUsers | None = None
        self._delays = LoginDelays(now_ms=now_ms)
        self.key_delays: Final = KeyDelays(now_ms=now_ms)
        """Of SSH keys and certificates, which are checked elsewhere."""
        self._sources = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)
        self._names = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)
        self._remembered = RememberedPasswords(now_ms)
        self._nobody_key = os.urandom(32)
        self._listeners: list[Callable[[LoginAttempt], None]] = []

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
        local = await LocalUsers.open(store)
        users = cls(local, hasher, cost=cost, now_ms=now_ms)
        if not local.table:
            builtin = [await users._new_builtin(role) for role in _BUILTIN]
            await local.take_over({stored.user.user_id: stored for stored in builtin})
        return users

    def follow(self, cluster: ClusterState) -> ClusterUsers:
        """Make every change in the cluster from now on; the caller starts and stops the result."""
        self._cluster = ClusterUsers(self._local, cluster)
        return self._cluster

    async def pull(self) -> None:
        """Take the cluster's users over now, as after a join; see `ClusterUsers.pull`."""
        if self._cluster is not None:
            await self._cluster.pull()

    def on_attempt(self, listener: Callable[[LoginAttempt], None]) -> None:
        """Call `listener` after every attempt to log in that was checked, or came too early."""
        self._listeners.append(listener)

    def on_gone(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call `listener` with the names of users who are no more."""
        self._local.on_gone(listener)

    # ---- reading

    @property
    def table(self) -> UserTable:
        """Return the list of users and custom roles."""
        return self._local.table

    def all(self) -> tuple[User, ...]:
        """Return all users in the order of their names."""
        found = (stored.user for stored in user_list.users_of(self._local.table))
        return tuple(sorted(found, key=lambda user: user.user_id))

    def get(self, user_id: str) -> User:
        """Return one user; raise NotFound."""
        return user_list.find(self._local.table, user_id).user

    def current(self, login: Login) -> User | None:
        """Return whose login this is, or None when it is void."""
        return user_list.holds(self._local.table, login.user_id, login.version)

    def records(self) -> list[UserRecord]:
        """Return all users as a cluster keeps them."""
        return user_list.to_records(self._local.table)

    # ---- proving a password

    async def authenticate(
        self, user_id: str, password: str, *, source: str, door: str = "", opens: bool = False
    ) -> Login:
        """Check a password; raise CredentialRefused, or Unavailable when it comes too early.

        Who `opens` a session with it is told of even when it was proven a moment ago.
        """
        remembered = self._recalled(user_id, password, source)
        if remembered is None:
            async with self._sources.hold(network_of(source)), self._names.hold(user_id):
                # Somebody may have proven the same password while this attempt waited.
                remembered = self._recalled(user_id, password, source)
                if remembered is None:
                    return await self._prove(user_id, password, source, door)
        if opens:
            self._tell(user_id, source, door, None)
        return remembered

    def _recalled(self, user_id: str, password: str, source: str) -> Login | None:
        """Return what this password proved from there; nothing to a source that must wait."""
        if self._delays.source_waits(source):
            return None
        remembered = self._remembered.find(user_id, password, source)
        return remembered if remembered and self.current(remembered) else None

    async def _prove(self, user_id: str, password: str, source: str, door: str) -> Login:
        try:
            login = await self._check(user_id, password, source)
        except (CredentialRefused, Unavailable) as refusal:
            self._tell(user_id, source, door, refusal.fault)
            raise
        self._tell(user_id, source, door, None)
        return login

    def waiting_sources(self) -> dict[str, int]:
        """Return for how many seconds which sources must wait."""
        passwords, keys = self._delays.waiting_sources(), self.key_delays.waiting_sources()
        both = passwords.keys() | keys.keys()
        return {each: max(passwords.get(each, 0), keys.get(each, 0)) for each in both}

    def log_in_by_key(self, user_id: str, *, proven: bool, source: str, door: str) -> Login:
        """Return the login of a user whose key was checked elsewhere; raise CredentialRefused."""
        stored = user_list.user_of(self._local.table, user_id)
        if stored is None or not proven or not stored.user.enabled:
            self.key_delays.failed(user_id, source)
            self._tell(user_id, source, door, faults.NOT_AUTHENTICATED)
            message = "The key is wrong, or the user is disabled."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        self.key_delays.succeeded(user_id, source)
        self._tell(user_id, source, door, None)
        return Login(user_id, stored.version)

    def note_refused_login(self, user_id: str, *, source: str, door: str, fault: Fault) -> None:
        """Tell whoever keeps a record that a login was refused elsewhere."""
        self._tell(user_id, source, door, fault)

    def _tell(self, user_id: str, source: str, door: str, fault: Fault | None) -> None:
        stored = user_list.user_of(self._local.table, user_id)
        attempt = LoginAttempt(
            user_id="" if stored is None else user_id,
            role="" if stored is None else stored.user.role.value,
            source=source,
            door=door,
            fault=fault,
        )
        for listener in self._listeners:
            listener(attempt)

    def logged_in_by_key(self, user_id: str) -> Login | None:
        """Return the login of an enabled user who proves a key elsewhere; None for anybody else."""
        stored = user_list.user_of(self._local.table, user_id)
        return Login(user_id, stored.version) if stored and stored.user.enabled else None

    def note_login_by_key(self, login: Login, *, source: str, door: str) -> None:
        """Tell whoever keeps a record that a user proved a key."""
        self._tell(login.user_id, source, door, None)

    async def _check(self, user_id: str, password: str, source: str) -> Login:
        self._delays.check(user_id, source)
        stored = user_list.user_of(self._local.table, user_id)
        right = False
        if password_can_be_right(password):
            salt = self._nobodys_salt(user_id) if stored is None else stored.salt
            derived = await self._hasher(password.encode(), salt, network_of(source))
            expected = bytes(32) if stored is None else stored.verifier
            right = hmac.compare_digest(derived, expected) and stored is not None
        if stored is None or not right or not stored.user.enabled:
            self._delays.failed(user_id, source)
            message = "The user name or the password is wrong, or the user is disabled."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        self._delays.proven(user_id, source)
        login = Login(user_id, stored.version)
        self._remembered.add(user_id, password, source, login)
        return login

    def _nobodys_salt(self, user_id: str) -> bytes:
        """Return a user's salt, and so a user's cost, for a name that nobody has.

        Users may differ in cost after its change; then so do the names of nobody, each for ever.
        """
        known = sorted(user_list.users_of(self._local.table), key=lambda each: each.user.user_id)
        salts = [stored.salt for stored in known]
        draw = hmac.digest(self._nobody_key, user_id.encode(), hashlib.sha256)
        return salts[int.from_bytes(draw[:8]) % len(salts)]

    # ---- changing

    async def create(
        self,
        user_id: str,
        password: str | None,
        *,
        role: Role,
        full_name: str = "",
        email: str = "",
        source: str,
    ) -> None:
        """Make an enabled user whose first password must be changed at the first login.

        `password` None gives the one that the built-in users begin with.
        """
        check_user_id(user_id)
        if password is None:
            password = DEFAULT_PASSWORD
        else:
            check_new_password(password)
        user = User(user_id, role, full_name, email, builtin=False, enabled=True, must_change=True)
        made = await self._credential(password, source)
        stored = StoredUser(user, made.salt, made.verifier, made.version)
        await self.apply(user_list.adding(stored))

    async def update(
        self,
        user_id: str,
        *,
        role: Role | None = None,
        full_name: str | None = None,
        email: str | None = None,
    ) -> None:
        """Change what is given; the role of a built-in user is fixed."""
        version = _new_version()
        await self.apply(
            user_list.updating(
                user_id, role=role, full_name=full_name, email=email, version=version
            )
        )

    async def set_enabled(self, user_id: str, *, enabled: bool) -> None:
        """Enable or disable; the last enabled administrator stays."""
        change = user_list.enabling(user_id, enabled=enabled, version=_new_version())
        await self.apply(change)

    async def delete(self, user_id: str) -> None:
        """Remove a user; built-in ones stay."""
        await self.apply(user_list.deleting(user_id))

    async def change_own_password(
        self, user_id: str, current: str, password: str, *, source: str
    ) -> Login:
        """Change a password, proving the current one; return the caller's new login."""
        proven = await self.authenticate(user_id, current, source=source)
        if hmac.compare_digest(current.encode(), password.encode()):
            message = "password must differ from currentPassword."
            raise BadInput(faults.BAD_REQUEST, message)
        return await self._set_password(user_id, password, proven=proven.version, source=source)

    async def reset_password(self, user_id: str, password: str, *, source: str) -> None:
        """Give a user a password that must be changed at the next login."""
        await self._set_password(user_id, password, proven=None, source=source)

    # ---- inside

    async def _set_password(
        self, user_id: str, password: str, *, proven: UserCredentialVersion | None, source: str
    ) -> Login:
        check_new_password(password)
        made = await self._credential(password, source)
        await self.apply(user_list.setting_password(user_id, made, proven=proven))
        self._delays.forget(user_id)
        return Login(user_id, made.version)

    async def _credential(self, password: str, source: str) -> Credential:
        salt = new_salt(self._cost)
        verifier = await self._hasher(
            password.encode(), salt, f"{network_of(source)} sets a password"
        )
        return Credential(salt, verifier, _new_version())

    async def _new_builtin(self, role: UserRole) -> StoredUser:
        user = User(role.value, role, "", "", True, role is UserRole.ADMIN, True)
        made = await self._credential(DEFAULT_PASSWORD, "local")
        return StoredUser(user, made.salt, made.verifier, made.version)

    async def apply(self, change: Change) -> None:
        """Change users or roles: the cluster's way where there is one, else here alone."""
        if self._cluster is not None:
            await self._cluster.change(change)
            return
        async with self._local.hold():
            await self._local.change(change)


def _new_version() -> UserCredentialVersion:
    return UserCredentialVersion(os.urandom(16))
