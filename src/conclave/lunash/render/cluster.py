"""Layouts of the cluster family; they are ours, since none of the product's is known.

A member's marks: `*` it is this appliance, `P` primary, `x` not visible, `R` its cluster service
must be restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave.lunash.render.tables import fields, table, yes_no

if TYPE_CHECKING:
    from conclave.operations.members import Members, MemberView


def marks(member: MemberView) -> str:
    """Return a member's marks."""
    shown = (
        ("*", member.local),
        ("P", member.primary_node),
        ("x", not member.visible_to_servicing_node),
        ("R", member.restart_service),
    )
    return "".join(mark for mark, stands in shown if stands)


def member_list(members: Members) -> list[str]:
    """Return the members, the marks first."""
    rows = [
        (
            marks(each),
            each.member_uuid,
            each.member_name,
            each.ip_address,
            each.group,
            each.mode,
            yes_no(each.member_active),
        )
        for each in members.data
    ]
    titles = ("", "Member ID", "Name", "IP address", "Group", "Mode", "Authorized")
    legend = "*: this appliance   P: primary   x: not visible   R: restart the cluster service"
    return [*table(titles, rows), "", legend, f"Members: {len(rows)}"]


def member_show(member: MemberView) -> list[str]:
    """Return one member."""
    return fields(
        (
            ("Member ID", member.member_uuid),
            ("Name", member.member_name),
            ("IP Address", member.ip_address),
            ("Admin Port", str(member.admin_port)),
            ("Crypto Port", str(member.crypto_port)),
            ("Group", member.group),
            ("Mode", member.mode),
            ("Primary", yes_no(member.primary_node)),
            ("Local", yes_no(member.local)),
            ("Visible", yes_no(member.visible_to_servicing_node)),
            ("Authorized", yes_no(member.member_active)),
            ("Restart Service", yes_no(member.restart_service)),
            ("Version", member.version),
            ("Last Contact", member.last_contact or ""),
        )
    )
