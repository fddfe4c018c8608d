"""How the owner's tools come to a keyring: which slot, whose password, one login for a batch."""

from __future__ import annotations

from collections.abc import Mapping

from conclave import faults
from conclave.client.lunacm.prompts import Prompts, given_password
from conclave.client.session import Client, KeyringSession
from conclave.errors import BadInput, ConclaveError, NotFound
from conclave.service import wire


class Logins:
    """The KRCO's sessions of one run of a tool, one for each slot that was used."""

    def __init__(self, client: Client, prompts: Prompts, environment: Mapping[str, str]) -> None:
        self._client = client
        self._prompts = prompts
        self._environment = environment
        self._sessions: dict[int, KeyringSession] = {}

    def session(self, values: Mapping[str, str]) -> KeyringSession:
        """Return the session that options `slot` and `password` ask for, logged in."""
        token = token_of(self._client, values.get("slot"))
        known = self._sessions.get(token.slot)
        if known is not None and known.role is not None:
            return known
        password = password_of(values, token, self._prompts, self._environment)
        session = self._client.open(token)
        session.login(wire.Role.KRCO, password)
        self._sessions[token.slot] = session
        return session

    def close(self) -> list[str]:
        """Log out everywhere; return what could not be confirmed."""
        complaints = []
        for session in self._sessions.values():
            if session.role is not None:
                try:
                    session.logout()
                except ConclaveError as error:
                    complaints.append(f"Logout was not confirmed: {error.message}")
        self._client.close()
        return complaints


def password_of(
    values: Mapping[str, str], token: wire.Token, prompts: Prompts, environment: Mapping[str, str]
) -> bytes:
    """Return the password that the options give, or that is asked for; raise Cancelled."""
    password = given_password(values, "password", environment)
    if password is None:
        password = prompts.secret(f"Please enter password for token in slot {token.slot} : ")
    return password.encode("utf-8", "surrogateescape")


def token_of(client: Client, text: str | None) -> wire.Token:
    """Return the keyring in this slot; without one, the only keyring there is."""
    tokens = client.tokens()
    if not tokens:
        message = "There is no slot: this client's cluster has no keyring."
        raise NotFound(faults.SLOT_NOT_FOUND, message)
    if text is None and len(tokens) == 1:
        return tokens[0]
    slots = ", ".join(str(token.slot) for token in tokens)
    if text is None:
        raise BadInput(faults.COMMAND_LINE, f"Option -slot must say which slot: {slots}.")
    for token in tokens:
        if text == str(token.slot):
            return token
    raise NotFound(faults.SLOT_NOT_FOUND, f"There is no such slot; there are {slots}.")
