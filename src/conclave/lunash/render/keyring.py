"""Layouts of the keyring family; they are ours, since none of the product's is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave.lunash.render.tables import fields, table, yes_no

if TYPE_CHECKING:
    from conclave.operations.keyrings import Keyrings, KeyringView


def keyring_list(keyrings: Keyrings) -> list[str]:
    """Return label and id of each keyring."""
    rows = [(each.key_ring_label, each.key_ring_uuid) for each in keyrings.data]
    return [*table(("Label", "Keyring ID"), rows), "", f"Keyrings: {len(rows)}"]


def keyrings_created(keyrings: Keyrings) -> list[str]:
    """Return the new keyrings."""
    return ["Success", "", *keyring_list(keyrings)]


def keyring_show(keyring: KeyringView) -> list[str]:
    """Return one keyring."""
    roles = {role.name: role.initialized for role in keyring.roles}
    return fields(
        (
            ("Label", keyring.key_ring_label),
            ("Keyring ID", keyring.key_ring_uuid),
            ("Serial Number", keyring.serial_number),
            ("Slot", str(keyring.slot)),
            ("Locked", yes_no(keyring.locked)),
            ("Failed Login Attempts", str(keyring.failed_login_attempts)),
            ("Objects", f"{keyring.object_count} of {keyring.max_objects or 'any number'}"),
            ("KRSO Initialized", yes_no(roles.get("KRSO", False))),
            ("KRCO Initialized", yes_no(roles.get("KRCO", False))),
            ("Created", keyring.created),
        )
    )
