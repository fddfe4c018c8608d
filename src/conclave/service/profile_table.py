"""The profile objects as a worker finds them: the same in every keyring, and in no store."""

from __future__ import annotations

from collections.abc import Mapping

from conclave.crypto.mechanism_row import Mechanism
from conclave.ids import ObjectId
from conclave.keyring.attributes import Attributes
from conclave.keyring.profiles import asks_for_profiles, profile_objects
from conclave.service.cache import ObjectEntry, ObjectTable


class ProfileTable:
    """The profile objects of a member with these rows of mechanisms."""

    def __init__(self, rows: Mapping[int, Mechanism]) -> None:
        self._table = ObjectTable()
        flags = {number: row.flags for number, row in rows.items()}
        for object_id, attributes in profile_objects(flags).items():
            self._table.put(ObjectEntry(object_id, attributes, b""))

    def get(self, object_id: ObjectId) -> ObjectEntry | None:
        """Return a profile object, or None for the id of anything else."""
        return self._table.entries.get(object_id)

    def find(self, terms: Attributes) -> list[ObjectId]:
        """Return the ids of the matching ones, if the search asks for profile objects at all."""
        return sorted(self._table.find(terms)) if asks_for_profiles(terms) else []
