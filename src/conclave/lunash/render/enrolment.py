"""Layouts of the enrolment tokens; ours, since the product has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave.lunash.render.tables import fields, table

if TYPE_CHECKING:
    from conclave.operations.enrolment import NewTokenView, Tokens


def token_new(token: NewTokenView) -> list[str]:
    """Return a new token, whose secret is shown nowhere else."""
    return [
        *fields(
            (
                ("Token ID", token.token_id),
                ("Common Name", token.common_name or "any"),
                ("Label", token.client_label or "any"),
                ("Monitor User", token.monitor_user or "none"),
                ("Expires", token.expires),
                ("CA fingerprint", token.fingerprint),
                ("Token", token.token),
            )
        ),
        "",
        "The token is not shown again. It registers one client, once.",
    ]


def token_list(tokens: Tokens) -> list[str]:
    """Return the tokens, oldest first."""
    rows = [
        (each.token_id, each.state, each.common_name, each.expires, each.client_id)
        for each in tokens.data
    ]
    titles = ("Token ID", "State", "Common Name", "Expires", "Client ID")
    return [*table(titles, rows), "", f"Tokens: {len(rows)}"]
