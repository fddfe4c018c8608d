"""Carry out LunaCM's commands; which slot is current and who is logged in lives here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from conclave import faults
from conclave.client.handles import handle_of
from conclave.client.lunacm import grammar, render
from conclave.client.lunacm.grammar import Invocation
from conclave.client.lunacm.prompts import Cancelled, Prompts, given_password
from conclave.client.session import Client, KeyringSession
from conclave.client.templates import ulong
from conclave.crypto.standard import Cka
from conclave.errors import BadInput, ConclaveError, NotAllowed, NotFound
from conclave.service import wire

Write = Callable[[str], None]
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
        self, client: Client, prompts: Prompts, write: Write, environment: Mapping[str, str]
    ) -> None:
        self._client = client
        self._prompts = prompts
        self._write = write
        self._environment = environment
        self._tokens: list[wire.Token] | None = None
        self._current: int | None = None
        self._sessions: dict[int, KeyringSession] = {}
        self._handlers: dict[str, Callable[[Invocation], str]] = {
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
            "partition clear": self._partition_clear,
            "help": self._help,
            "exit": self._exit,
        }

    def run(self, words: Sequence[str]) -> bool:
        """Carry out one command and print its result; tell whether it succeeded.

        Raises Leave.
        """
        try:
            invocation = grammar.parse(words)
        except BadInput as error:
            self._write("\n" + render.misunderstood(error) + "\n\n")
            return False
        try:
            text = self._handlers[invocation.command.name](invocation)
        except Cancelled:
            self._write("\n" + render.CANCELLED + "\n\n")
            return False
        except ConclaveError as error:
            self._write("\n" + render.failure(error) + "\n\n")
            return False
        self._write(("\n" + text + "\n" if text else "") + "\n" + render.SUCCESS + "\n\n")
        return True

    def overview(self) -> str:
        """Return the slots, as an interactive session begins with."""
        tokens = self._load_tokens()
        return render.slot_list(tokens, self._current)

    def close(self) -> None:
        """Log out everywhere, as far as the cluster can be told."""
        for session in self._sessions.values():
            if session.role is not None:
                try:
                    session.logout()
                except ConclaveError as error:
                    self._write(f"Logout was not confirmed: {error.message}\n")
        self._client.close()

    # ---- slots

    def _slot_list(self, _invocation: Invocation) -> str:
        self._tokens = None
        return self.overview()

    def _slot_set(self, invocation: Invocation) -> str:
        text = invocation.values["slot"]
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise BadInput(faults.SLOT_NOT_FOUND, f"A slot must be a number; it is {text!r}.")
        token = self._token(int(text))
        self._current = token.slot
        return render.slot_chosen(token)

    def _load_tokens(self) -> list[wire.Token]:
        if self._tokens is None:
            self._tokens = self._client.tokens()
            slots = {token.slot for token in self._tokens}
            if self._current not in slots:
                self._current = min(slots, default=None)
        return self._tokens

    def _token(self, slot: int) -> wire.Token:
        for token in self._load_tokens():
            if token.slot == slot:
                return token
        raise NotFound(faults.SLOT_NOT_FOUND, f"There is no slot {slot}.")

    def _session(self) -> KeyringSession:
        """Return the session on the current slot's keyring."""
        self._load_tokens()
        if self._current is None:
            message = "There is no slot: this client's cluster has no keyring."
            raise NotFound(faults.SLOT_NOT_FOUND, message)
        if self._current not in self._sessions:
            self._sessions[self._current] = self._client.open(self._token(self._current))
        return self._sessions[self._current]

    # ---- roles

    def _role_list(self, _invocation: Invocation) -> str:
        self._session()
        return render.role_list()

    def _role_login(self, invocation: Invocation) -> str:
        role = _role(invocation)
        session = self._session()
        if session.role is not None:
            title = render.ROLE_TITLES[session.role]
            message = f"The {title} is logged in to this slot already; use 'role logout' first."
            raise NotAllowed(faults.ALREADY_LOGGED_IN, message)
        session.login(role, self._password(invocation, "password", "enter password: "))
        if session.info().token.flags & render.TO_BE_CHANGED[role]:
            name = invocation.values["name"]
            return f"    This password must be changed: role changepw -name {name}"
        return ""

    def _role_logout(self, _invocation: Invocation) -> str:
        session = self._session()
        if session.role is None:
            raise NotAllowed(faults.NOT_LOGGED_IN, "No role is logged in to this slot.")
        session.logout()
        return ""

    def _role_init(self, invocation: Invocation) -> str:
        role = _role(invocation)
        if role is not wire.Role.KRCO:
            message = "The Partition SO gets its password when the keyring is created."
            raise NotAllowed(faults.BAD_REQUEST, message)
        session = self._session()
        self._demand(session, wire.Role.KRSO)
        session.initialize_krco(self._new_password(invocation, "password"))
        return ""

    def _role_changepw(self, invocation: Invocation) -> str:
        role = _role(invocation)
        session = self._session()
        self._demand(session, role)
        if "prompt" in invocation.values and {"oldpw", "newpw"} & set(invocation.values):
            message = "Option -prompt excludes -oldpw and -newpw."
            raise BadInput(faults.COMMAND_LINE, message)
        old = self._password(invocation, "oldpw", "enter existing password: ")
        new = self._new_password(invocation, "newpw")
        session.change_password(role, old, new)
        return ""

    def _role_show(self, invocation: Invocation) -> str:
        role = _role(invocation)
        session = self._session()
        return render.role_state(role, session.info(), session.role)

    def _demand(self, session: KeyringSession, role: wire.Role) -> None:
        if session.role is not role:
            name = "po" if role is wire.Role.KRSO else "co"
            message = f"The {render.ROLE_TITLES[role]} must log in first: role login -name {name}"
            raise NotAllowed(faults.NOT_LOGGED_IN, message)

    # ---- partition

    def _partition_contents(self, _invocation: Invocation) -> str:
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
        return render.contents(session.role, rows)

    def _partition_showinfo(self, _invocation: Invocation) -> str:
        return render.partition_info(self._session().info())

    def _partition_clear(self, invocation: Invocation) -> str:
        session = self._session()
        self._demand(session, wire.Role.KRCO)
        references = session.find()
        if references and "force" not in invocation.values:
            self._write(f"\n    All {len(references)} objects of this slot will be destroyed.\n")
            if self._prompts.question("    Type 'proceed' to continue: ").strip() != "proceed":
                raise Cancelled
        for reference in references:
            session.destroy_object(reference)
        return f"    {len(references)} objects were destroyed."

    # ---- the rest

    def _help(self, invocation: Invocation) -> str:
        return grammar.help_text(invocation.rest)

    def _exit(self, _invocation: Invocation) -> str:
        raise Leave

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
        message = (
            f"A keyring has the roles po (Partition SO) and co (Crypto Officer), not {name!r}."
        )
        raise BadInput(faults.COMMAND_LINE, message)
    return role
