"""The slots of all clusters that a client is registered with, numbered as the module does.

A cluster that is away delays the others by GRACE_SECONDS, and nobody by more than PATIENCE_SECONDS:
each is asked by a thread of its own.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave import faults
from conclave.client.clusters import (
    ClusterEntry,
    receive_timeout_seconds,
    registered_cluster,
    registered_indexes,
    where,
)
from conclave.client.configuration import client_configuration, configuration_path
from conclave.client.link import WRITE_DEADLINE_SECONDS, Link
from conclave.client.session import Client, KeyringSession
from conclave.errors import BadInput, ConclaveError, NotFound, Unavailable
from conclave.service import wire

SLOTS_PER_CLUSTER: Final = 10_000
"""Slots of the first cluster begin with 0, of the second in this file with 10000, and so on."""
MANY_SLOTS: Final = 100_000_000
"""Where the slots of a keyring number above SLOTS_PER_CLUSTER begin, if there are clusters."""
GRACE_SECONDS: Final = 3.0
"""How long the others are waited for once a cluster has answered."""
PATIENCE_SECONDS: Final = 12.0
"""How long all are waited for: more than a link takes to give up a cluster that is away."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What one registered cluster answered; `error` says why it did not."""

    index: int
    where: str
    tokens: tuple[wire.Token, ...] = ()
    error: ConclaveError | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """One cluster of the configuration file, which may not be usable."""

    index: int
    entry: ClusterEntry | None
    fault: ConclaveError | None

    @property
    def where(self) -> str:
        """Return the entry member's address and port."""
        return where(self.entry) if self.entry else "?"


def slot_number(position: int, number: int, clusters: int) -> int:
    """Return the slot of a keyring's number in the cluster at a position of several."""
    if number < SLOTS_PER_CLUSTER or clusters <= 1:
        return number + SLOTS_PER_CLUSTER * position
    return number + MANY_SLOTS * (position + 1)


def position_of(slot: int, clusters: int) -> int:
    """Return the position of the cluster that a slot is of."""
    if clusters <= 1:
        return 0
    return slot // MANY_SLOTS - 1 if slot >= MANY_SLOTS else slot // SLOTS_PER_CLUSTER


class Clusters:
    """All clusters of a configuration file; connects when it is used. Serves one thread."""

    def __init__(self, places: Sequence[_Place], timeout_seconds: float) -> None:
        self._places = tuple(places)
        self._timeout_seconds = timeout_seconds
        self._clients: dict[int, Client] = {}
        self._asked: set[int] = set()
        self._lock = threading.Lock()
        self.unanswered: tuple[Listing, ...] = ()
        """The clusters that did not answer when `tokens` was called last."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Clusters:
        """Return the clusters of Chrystoki.conf; raise BadInput when it names none."""
        around = os.environ if environment is None else environment
        document = client_configuration(around)
        places = []
        for index in registered_indexes(document):
            try:
                places.append(_Place(index, registered_cluster(document, index), None))
            except BadInput as fault:
                places.append(_Place(index, None, fault))
        if not places:
            message = f"{configuration_path(around)} names no cluster."
            raise BadInput(faults.CLIENT_CONFIGURATION, message)
        return cls(places, max(WRITE_DEADLINE_SECONDS, receive_timeout_seconds(document)))

    def close(self) -> None:
        """Close the connections but those that still wait for a cluster that is away."""
        with self._lock:
            for position in self._clients.keys() - self._asked:
                self._clients[position].close()

    def registered(self) -> list[Listing]:
        """Return the registered clusters, none of which is asked."""
        return [Listing(each.index, each.where, (), each.fault) for each in self._places]

    def listings(self, *, grace_seconds: float = GRACE_SECONDS) -> list[Listing]:
        """Ask every cluster for its keyrings, and return what each answered in time."""
        answers: queue.SimpleQueue[tuple[int, Listing]] = queue.SimpleQueue()
        for position in range(len(self._places)):
            with self._lock:
                if position in self._asked:
                    continue
                self._asked.add(position)
            threading.Thread(target=self._ask, args=(position, answers), daemon=True).start()
        found: dict[int, Listing] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < len(self._places):
            try:
                position, listing = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            found[position] = listing
            if listing.error is None:
                deadline = min(deadline, time.monotonic() + grace_seconds)
        return [found.get(at) or _late(each) for at, each in enumerate(self._places)]

    def tokens(self) -> list[wire.Token]:
        """Return the keyrings of all clusters that answer; raise when none does."""
        listings = self.listings()
        self.unanswered = tuple(each for each in listings if each.error is not None)
        errors = [each.error for each in listings if each.error is not None]
        if len(errors) == len(listings):
            raise errors[0]
        return [token for listing in listings for token in listing.tokens]

    def token(self, slot: int) -> wire.Token:
        """Return the keyring in a slot, for which its cluster alone is asked; raise NotFound."""
        position = position_of(slot, len(self._places))
        if 0 <= position < len(self._places):
            for token in self._tokens_at(position):
                if token.slot == slot:
                    return token
        raise NotFound(faults.SLOT_NOT_FOUND, f"There is no slot {slot}.")

    def client(self, slot: int) -> Client:
        """Return the client of the cluster that a slot is of."""
        return self._client(position_of(slot, len(self._places)))

    def entry(self, slot: int) -> ClusterEntry:
        """Return how the cluster that a slot is of is registered."""
        place = self._places[position_of(slot, len(self._places))]
        if place.entry is None:
            raise place.fault or _unusable(place)
        return place.entry

    def open(self, token: wire.Token) -> KeyringSession:
        """Return a session on a keyring, nobody logged in."""
        return self.client(token.slot).open(token)

    def _client(self, position: int) -> Client:
        place = self._places[position]
        with self._lock:
            if position not in self._clients:
                if place.entry is None:
                    raise place.fault or _unusable(place)
                link = Link(place.entry, timeout_seconds=self._timeout_seconds)
                self._clients[position] = Client(link)
            return self._clients[position]

    def _tokens_at(self, position: int) -> list[wire.Token]:
        count = len(self._places)
        return [
            msgspec.structs.replace(token, slot=slot_number(position, token.slot, count))
            for token in self._client(position).tokens()
        ]

    def _ask(self, position: int, answers: queue.SimpleQueue[tuple[int, Listing]]) -> None:
        place = self._places[position]
        try:
            tokens = tuple(self._tokens_at(position))
            listing = Listing(place.index, place.where, tokens)
        except ConclaveError as error:
            listing = Listing(place.index, place.where, (), error)
        with self._lock:
            self._asked.discard(position)
        answers.put((position, listing))


def _unusable(place: _Place) -> BadInput:
    message = f"Cluster {place.index:02} of Chrystoki.conf cannot be used."
    return BadInput(faults.CLIENT_CONFIGURATION, message)


def _late(place: _Place) -> Listing:
    message = f"Cluster {place.index:02} ({place.where}) has not answered yet."
    return Listing(place.index, place.where, (), Unavailable(faults.UNABLE_TO_CONNECT, message))
