"""Layouts of the families user, my and role; that of `user list` is the product's (5.x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conclave.lunash.render.tables import fields, table, yes_no

if TYPE_CHECKING:
    from conclave.operations.roles import UserRoleView
    from conclave.operations.user_files import FileList
    from conclave.operations.user_keys import KeyList
    from conclave.operations.users import UserView

_TITLES: Final = ("Users", "Roles", "Status", "RADIUS")
_WIDTHS: Final = (20, 8, 8, 8)


def user_list(users: Sequence[UserView]) -> list[str]:
    """Return one line for each user; a longer name widens its column."""
    rows = [(each.user_id, each.role, each.status, "no") for each in users]
    widths = [max(width, *(len(row[place]) for row in rows)) for place, width in enumerate(_WIDTHS)]

    def line(cells: Sequence[str]) -> str:
        shown = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return "    " + "    ".join(shown)

    return [line(_TITLES), line(["-" * width for width in widths]), *(line(row) for row in rows)]


def user_show(user: UserView) -> list[str]:
    """Return one user."""
    return fields(
        (
            ("User", user.user_id),
            ("Full Name", user.full_name),
            ("E-mail", user.email),
            ("Role", user.role),
            ("Status", user.status),
            ("Built In", yes_no(user.built_in)),
            ("Password To Be Changed", yes_no(user.password_to_be_changed)),
        )
    )


def role_list(roles: Sequence[UserRoleView]) -> list[str]:
    """Return the roles that users can have."""
    rows = [(each.id, "built in" if each.built_in else "custom", each.full_name) for each in roles]
    return table(("Role", "Kind", "Full Name"), rows)


def file_list(files: FileList) -> list[str]:
    """Return a user's files with their sizes."""
    rows = [(f"{each.size:>12}", each.last_updated, each.id) for each in files.files]
    return [
        *table((f"{'Bytes':>12}", "Last Updated (UTC)", "Name"), rows),
        "",
        f"Files: {len(rows)}",
    ]


def key_list(keys: KeyList) -> list[str]:
    """Return a user's SSH keys; their numbers stand for them in `my public-key delete`."""
    rows = [
        (str(number), each.kind, each.fingerprint, each.comment)
        for number, each in enumerate(keys.public_keys, start=1)
    ]
    return [*table(("No.", "Kind", "Fingerprint", "Comment"), rows), "", f"Keys: {len(rows)}"]
