"""How the owner's tools come to a keyring: which slot, whose password, one login for a batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Final

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.session import KeyringSession
from conclave.client.slots import Clusters
from conclave.client.tools.prompts import Prompts, given_password
from conclave.errors import BadInput, ConclaveError, NotFound
from conclave.service import wire

MAX_SLOTS_TOLD: Final = 16


class Logins:
    """The KRCO's sessions of one run of a tool, one for each slot that was used."""

    def __init__(
        self,
        clusters: Callable[[], Clusters],
        prompts: Prompts,
        environment: Mapping[str, str],
    ) -> None:
        self._open_clusters = clusters
        self._prompts = prompts
        self._environment = environment
        self._sessions: dict[int, KeyringSession] = {}
        self._entries: dict[bytes, ClusterEntry] = {}

    def session(self, values: Mapping[str, str]) -> KeyringSession:
        """Return the session that options `slot` and `password` ask for, logged in."""
        token = token_of(self._clusters, values.get("slot"))
        known = self._sessions.get(token.slot)
        if known is not None and known.role is not None:
            return known
        password = password_of(values, token, self._prompts, self._environment)
        session = self._clusters.open(token)
        session.login(wire.Role.KRCO, password)
        self._entries[session.keyring_id] = self._clusters.entry(token.slot)
        self._sessions[token.slot] = session
        return session

    @cached_property
    def _clusters(self) -> Clusters:
        """The registered clusters, read when a command needs them: help needs none."""
        return self._open_clusters()

    def entry(self, session: KeyringSession) -> ClusterEntry:
        """Return how the cluster of a session is registered."""
        return self._entries[session.keyring_id]

    def secret(self, values: Mapping[str, str], option: str, question: str) -> bytes:
        """Return another password that the options give, or that is asked for."""
        given = given_password(values, option, self._environment)
        password = self._prompts.secret(question) if given is None else given
        return password.encode("utf-8", "surrogateescape")

    def close(self) -> list[str]:
        """Log out everywhere; return what could not be confirmed."""
        complaints = logged_out(self._sessions.values())
        if "_clusters" in vars(self):
            self._clusters.close()
        return complaints


def logged_out(sessions: Iterable[KeyringSession]) -> list[str]:
    """Log out of all of them; return what could not be confirmed."""
    complaints = []
    for session in sessions:
        if session.role is not None:
            try:
                session.logout()
            except ConclaveError as error:
                complaints.append(f"Logout was not confirmed: {error.message}")
    return complaints


def password_of(
    values: Mapping[str, str], token: wire.Token, prompts: Prompts, environment: Mapping[str, str]
) -> bytes:
    """Return the password that the options give, or that is asked for; raise Cancelled."""
    password = given_password(values, "password", environment)
    if password is None:
        password = prompts.secret(f"Please enter password for token in slot {token.slot} : ")
    return password.encode("utf-8", "surrogateescape")


def token_of(clusters: Clusters, text: str | None) -> wire.Token:
    """Return the keyring in this slot; without one, the only keyring there is."""
    if text is not None:
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise BadInput(faults.COMMAND_LINE, f"Option -slot must be a number; it is {text!r}.")
        return clusters.token(int(text))
    tokens = clusters.tokens()
    if len(tokens) == 1 and not clusters.unanswered:
        return tokens[0]
    if not tokens:
        message = (
            "There is no slot: no cluster that answers has a keyring for this client; an"
            " administrator creates one with keyring create."
        )
        raise NotFound(faults.SLOT_NOT_FOUND, message)
    slots = ", ".join(str(token.slot) for token in tokens[:MAX_SLOTS_TOLD])
    more = "" if len(tokens) <= MAX_SLOTS_TOLD else f" and {len(tokens) - MAX_SLOTS_TOLD} more"
    silent = ", ".join(f"{each.index:02}" for each in clusters.unanswered)
    others = f"; of cluster {silent}, which does not answer, nothing is known" if silent else ""
    message = f"Option -slot must say which slot: {slots}{more}{others}."
    raise BadInput(faults.COMMAND_LINE, message)
