"""Layouts of what is assigned to clients; ours, since the product has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave.lunash.render.tables import fields, table

if TYPE_CHECKING:
    from conclave.operations.assignments import AssignedViews, ModeView


def mode(view: ModeView) -> list[str]:
    """Return the mode."""
    return fields((("Assignment Mode", view.mode),))


def keyrings(found: AssignedViews) -> list[str]:
    """Return a client's keyrings."""
    rows = [(each.key_ring_label, each.key_ring_uuid) for each in found.data]
    return [*table(("Label", "Keyring ID"), rows), "", f"Keyrings: {len(rows)}"]
