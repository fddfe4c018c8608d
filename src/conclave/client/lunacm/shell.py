"""Carry out LunaCM's commands; which slot is current and who is logged in lives here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.client.handles import handle_of
from conclave.client.keyring_login import logged_out
from conclave.client.lunacm import grammar, render
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.slots import Clusters
from conclave.client.templates import ulong
from conclave.client.tools.faces import Outcome, write
from conclave.client.tools.grammar import Invocation
from conclave.client.tools.prompts import Cancelled, Prompts, given_password
from conclave.crypto.standard import Cka, Ckm, name_of
from conclave.errors import BadInput, NotAllowed, NotFound
from conclave.keyring.labels import check_label
from conclave.service import wire

ROLES: Final = {
    "po": wire.Role.KRSO,
    "partition so": wire.Role.KRSO,
    "so": wire.Role.KRSO,
    "co": wire.Role.KRCO,
    "crypto officer": wire.Role.KRCO,
}
_PASSWORD: Final = re.compile(
    r"[!#$%'()*+,\-./0-9:=?@A-Z\[\]^_a-z{}~][!#$%'()*+,\-./0-9:=? @A-Z\[\]^_a-z{}~]*"
)


class Leave(Exception):
    """The user wants to leave."""


class Shell:
    """One run of LunaCM."""

    def __init__(
        self,
        clusters: Callable[[], Clusters],
        prompts: Prompts,
        environment: Mapping[str, str],
    ) -> None:
        self._open_clusters = clusters
        self._prompts = prompts
        self._environment = environment
        self._tokens: list[wire.Token] | None = None
        self._current: int | None = None
        self._sessions: dict[int, KeyringSession] = {}
        self._handlers: dict[str, Callable[[Invocation], Outcome]] = {
            "slot list": self._slot_list,
            "slot set": self._slot_set,
            "role list": self._role_list,
            "role login": self._role_login,
            "role logout": self._role_logout,
            "role init": self._role_init,
            "role changepw": self._role_changepw,
            "role show": self._role_show,
            "partition contents": self._partition_contents,
            "partition showinfo": self._partition_showinfo,
            "partition showmechanism": self._partition_showmechanism,
            "partition init": self._partition_init,
            "partition clear": self._partition_clear,
            "partition login": self._partition_login,
            "partition logout": self._role_logout,
            "help": self._help,
            "exit": self._exit,
        }

    def parse(self, words: Sequence[str]) -> Invocation:
        """Return what the words ask for; raise BadInput."""
        return grammar.parse(words)

    def carry_out(self, invocation: Invocation) -> Outcome:
        """Carry out one command; raise an error of the tree, Cancelled or Leave."""
        return self._handlers[invocation.command.name](invocation)

    def overview(self) -> Outcome:
        """Return the slots, as an interactive session begins with."""
        tokens = self._load_tokens()
        complaints = tuple(
            render.unanswered(each.index, each.where, each.error)
            for each in self._clusters.unanswered
            if each.error
        )
        slots = [_token_data(token) for token in tokens]
        data = {"slots": slots, "current": self._current}
        return Outcome(render.slot_list(tokens, self._current), data, complaints=complaints)

    def close(self) -> list[str]:
        """Log out everywhere; return what the cluster could not be told."""
        complaints = logged_out(self._sessions.values())
        if "_clusters" in vars(self):
            self._clusters.close()
        return complaints

    @cached_property
    def _clusters(self) -> Clusters:
        """The registered clusters, read when a command needs them: help needs none."""
        return self._open_clusters()

    # ---- slots

    def _slot_list(self, _invocation: Invocation) -> Outcome:
        self._tokens = None
        return self.overview()

    def _slot_set(self, invocation: Invocation) -> Outcome:
        text = invocation.values["slot"]
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise misused(f"Option -slot must be a number; it is {text!r}.")
        token = self._clusters.token(int(text))
        self._current = token.slot
        if self._tokens is not None and token not in self._tokens:
            self._tokens = None
        return Outcome(render.slot_chosen(token), _token_data(token))

    def _load_tokens(self) -> list[wire.Token]:
        if self._tokens is None:
            self._tokens = self._clusters.tokens()
            if self._current is None:
                self._current = min((token.slot for token in self._tokens), default=None)
        return self._tokens

    def _session(self) -> KeyringSession:
        """Return the session on the current slot's keyring."""
        if self._current is None:
            self._load_tokens()
        if self._current is None:
            message = "There is no slot: no cluster that answers has a keyring for this client."
            raise NotFound(faults.SLOT_NOT_FOUND, message)
        if self._current not in self._sessions:
            token = self._clusters.token(self._current)
            self._sessions[self._current] = self._clusters.open(token)
        return self._sessions[self._current]

    # ---- roles

    def _role_list(self, _invocation: Invocation) -> Outcome:
        self._session()
        return Outcome(render.role_list(), {"roles": list(render.ROLE_TITLES.values())})

    def _role_login(self, invocation: Invocation) -> Outcome:
        return self._log_in(_role(invocation), invocation)

    def _partition_login(self, invocation: Invocation) -> Outcome:
        done = self._log_in(wire.Role.KRCO, invocation)
        hint = "    partition login is the former name of: role login -name co"
        return Outcome(done.text, done.data, complaints=(hint,))

    def _log_in(self, role: wire.Role, invocation: Invocation) -> Outcome:
        session = self._session()
        if session.role is not None:
            title = render.ROLE_TITLES[session.role]
            message = f"The {title} is logged in to this slot already; use 'role logout' first."
            raise NotAllowed(faults.ALREADY_LOGGED_IN, message)
        session.login(role, self._password(invocation, "password", "enter password: "))
        to_be_changed = bool(session.info().token.flags & render.TO_BE_CHANGED[role])
        name = "po" if role is wire.Role.KRSO else "co"
        hint = f"    This password must be changed: role changepw -name {name}"
        data = {"role": render.ROLE_TITLES[role], "passwordToBeChanged": to_be_changed}
        return Outcome(hint if to_be_changed else "", data)

    def _role_logout(self, _invocation: Invocation) -> Outcome:
        session = self._session()
        if session.role is None:
            raise NotAllowed(faults.NOT_LOGGED_IN, "No role is logged in to this slot.")
        session.logout()
        return Outcome()

    def _role_init(self, invocation: Invocation) -> Outcome:
        role = _role(invocation)
        if role is not wire.Role.KRCO:
            message = "The Partition SO gets its password when the keyring is created."
            raise NotAllowed(faults.BAD_REQUEST, message)
        session = self._session()
        self._demand(session, wire.Role.KRSO)
        session.initialize_krco(self._new_password(invocation, "password"))
        return Outcome()

    def _role_changepw(self, invocation: Invocation) -> Outcome:
        role = _role(invocation)
        session = self._session()
        self._demand(session, role)
        if "prompt" in invocation.values and {"oldpw", "newpw"} & set(invocation.values):
            raise misused("Option -prompt excludes -oldpw and -newpw.")
        old = self._password(invocation, "oldpw", "enter existing password: ")
        new = self._new_password(invocation, "newpw")
        session.change_password(role, old, new)
        return Outcome()

    def _role_show(self, invocation: Invocation) -> Outcome:
        role = _role(invocation)
        session = self._session()
        details = session.info()
        return Outcome(
            render.role_state(role, details, session.role),
            render.role_facts(role, details, session.role),
        )

    def _demand(self, session: KeyringSession, role: wire.Role) -> None:
        if session.role is not role:
            name = "po" if role is wire.Role.KRSO else "co"
            message = f"The {render.ROLE_TITLES[role]} must log in first: role login -name {name}"
            raise NotAllowed(faults.NOT_LOGGED_IN, message)

    # ---- partition

    def _partition_contents(self, _invocation: Invocation) -> Outcome:
        session = self._session()
        wanted = (Cka.LABEL, Cka.CLASS, Cka.UNIQUE_ID)
        rows = []
        for reference in session.find():
            values = session.attributes(reference, wanted)
            label = (values[Cka.LABEL] or b"").decode("utf-8", "replace")
            object_class = ulong(values[Cka.CLASS])
            identifier = (values[Cka.UNIQUE_ID] or b"").decode("ascii", "replace")
            handle = handle_of(reference)
            rows.append(render.ObjectLine(handle, label, object_class, identifier))
        data = {"objects": [row.data for row in rows]}
        return Outcome(render.contents(session.role, rows), data)

    def _partition_showinfo(self, _invocation: Invocation) -> Outcome:
        details = self._session().info()
        # The cluster knows its own numbers only; the slot is that of the listing.
        token = msgspec.structs.replace(details.token, slot=self._current or 0)
        details = msgspec.structs.replace(details, token=token)
        return Outcome(render.partition_info(details), render.partition_facts(details))

    def _partition_showmechanism(self, invocation: Invocation) -> Outcome:
        self._session()
        rows = self._clusters.client(self._current or 0).mechanisms()
        wanted = invocation.values.get("mechanism")
        if wanted is None:
            data = {"mechanisms": [_mechanism_data(row) for row in rows]}
            return Outcome(render.mechanism_lines(rows), data)
        for row in rows:
            if wanted.upper() in _mechanism_names(row):
                return Outcome(render.mechanism(row), _mechanism_data(row))
        message = "The cluster has no such mechanism, or its policy leaves it out."
        raise BadInput(faults.MECHANISM_INVALID, message)

    def _partition_init(self, invocation: Invocation) -> Outcome:
        session = self._session()
        label = check_label(invocation.values["label"])
        if session.role is not None:
            message = "A role is logged in to this slot; use 'role logout' first."
            raise NotAllowed(faults.ALREADY_LOGGED_IN, message)
        self._ask_to_proceed(
            invocation, "All objects of this slot and the Crypto Officer's password are destroyed."
        )
        session.initialize_token(self._password(invocation, "password", "enter password: "), label)
        self._tokens = None
        return Outcome("    The keyring is empty; the next step is role login -name po.")

    def _partition_clear(self, invocation: Invocation) -> Outcome:
        session = self._session()
        self._demand(session, wire.Role.KRCO)
        references = session.find()
        if references:
            self._ask_to_proceed(
                invocation, f"All {len(references)} objects of this slot will be destroyed."
            )
        for reference in references:
            session.destroy_object(reference)
        count = len(references)
        return Outcome(f"    {count} objects were destroyed.", {"destroyed": count})

    # ---- the rest

    def _help(self, invocation: Invocation) -> Outcome:
        text = grammar.help_text(invocation.rest)
        return Outcome(text, {"text": text})

    def _exit(self, _invocation: Invocation) -> Outcome:
        raise Leave

    def _ask_to_proceed(self, invocation: Invocation, what: str) -> None:
        if "force" in invocation.values:
            return
        write(f"\n    {what}\n")
        if self._prompts.question("    Type 'proceed' to continue: ").strip() != "proceed":
            raise Cancelled

    def _password(self, invocation: Invocation, option: str, text: str) -> bytes:
        given = given_password(invocation.values, option, self._environment)
        password = self._prompts.secret(f"    {text}") if given is None else given
        return password.encode("utf-8", "surrogateescape")

    def _new_password(self, invocation: Invocation, option: str) -> bytes:
        given = given_password(invocation.values, option, self._environment)
        if given is None:
            given = self._prompts.secret("    enter new password: ")
            if self._prompts.secret("    re-enter new password: ") != given:
                raise BadInput(faults.KEYRING_PASSWORD_RULE, "The two new passwords differ.")
        check_characters(given)
        return given.encode()


def check_characters(password: str) -> None:
    """Refuse a new password that LunaCM cannot be given again: its characters are limited."""
    if not _PASSWORD.fullmatch(password):
        message = (
            "A new password may hold letters, digits, blanks (not first) and the signs"
            " !#$%'()*+,-./:=?@[]^_{}~ only."
        )
        raise BadInput(faults.KEYRING_PASSWORD_RULE, message)


def _role(invocation: Invocation) -> wire.Role:
    name = invocation.values["name"]
    role = ROLES.get(name.lower())
    if role is None:
        raise misused(
            f"A keyring has the roles po (Partition SO) and co (Crypto Officer), not {name!r}."
        )
    return role


def _token_data(token: wire.Token) -> dict[str, Any]:
    return {
        "slot": token.slot,
        "label": token.label,
        "serial": token.serial,
        "keyringId": token.keyring_id.hex(),
        "flags": render.flag_names(token.flags),
    }


def _mechanism_names(row: wire.MechanismInfo) -> set[str]:
    name = name_of(Ckm, row.mechanism)
    return {name, name.removeprefix("CKM_"), str(row.mechanism), f"{row.mechanism:#X}"}


def _mechanism_data(row: wire.MechanismInfo) -> dict[str, Any]:
    return {
        "name": name_of(Ckm, row.mechanism),
        "value": row.mechanism,
        "minKeySize": row.min_key_size,
        "maxKeySize": row.max_key_size,
        "flags": render.mechanism_flags(row.flags),
    }
