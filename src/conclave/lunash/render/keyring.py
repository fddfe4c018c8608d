"""Layouts of the keyring family; they are ours, since none of the product's is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave.lunash.render.tables import table

if TYPE_CHECKING:
    from conclave.operations.keyrings import Keyrings


def keyring_list(keyrings: Keyrings) -> list[str]:
    """Return label and id of each keyring."""
    rows = [(each.key_ring_label, each.key_ring_uuid) for each in keyrings.data]
    return [*table(("Label", "Keyring ID"), rows), "", f"Keyrings: {len(rows)}"]
