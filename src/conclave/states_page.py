"""Print the table of states as the documentation page: `python -m conclave.states_page`."""

from __future__ import annotations

import sys
from typing import Final

from conclave import faults
from conclave.cluster.member_states import (
    COURSES,
    MEANINGS,
    METHOD_ROWS,
    OPERATION_KINDS,
    Course,
    Kind,
    State,
)

_HEAD: Final = f"""# States of a member, and what becomes of each call

Made from `conclave/cluster/member_states.py`, by which the cluster process decides. What the states
are worth is in [consistency.md](consistency.md), how to get out of them in
[recovery.md](recovery.md).

*Refused* is {faults.MEMBER_READ_ONLY.http_status} `{faults.MEMBER_READ_ONLY.rest_id}` by REST and
`CKR_{faults.MEMBER_READ_ONLY.ckr.name}` by PKCS#11, at once and without effect. Whatever its state,
a member that is not authorized uses no key: {faults.MEMBER_NOT_AUTHORIZED.http_status}
`{faults.MEMBER_NOT_AUTHORIZED.rest_id}`. *Here, within its share*: the member checks the password
itself, and locks the credential for itself when its part of the failures that are left is used up;
what it counted reaches the primary before its next login there does.
"""

_CLIENT_HEAD: Final = """
## Clients

The worker decides by the lease: there is one in the states primary and Read-Write. Objects that
live in a session are made and changed in every state. With `cluster.read_only_limit_seconds` a
member whose lease ended longer ago refuses private keys with
"""


def markdown() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_states(), *_methods(), *_clients()]) + "\n"


def _states() -> list[str]:
    rows = [f"| {state.value} | {MEANINGS[state]} |" for state in State]
    return ["| state | meaning |", "|---|---|", *rows]


def _methods() -> list[str]:
    names = " | ".join(state.value for state in State)
    lines = ["\n## Appliance and cluster\n", f"| call | {names} |", "|---" * (len(State) + 1) + "|"]
    for row in METHOD_ROWS:
        cells = " | ".join(COURSES[row.kind][state].value for state in State)
        lines.append(f"| {row.what} | {cells} |")
    return lines


def _clients() -> list[str]:
    limit = faults.READ_ONLY_LIMIT
    lines = [
        f"{_CLIENT_HEAD.rstrip()} `CKR_{limit.ckr.name}`.\n",
        "| call | with a lease | without one |",
        "|---|---|---|",
    ]
    told: dict[str, Kind] = {what: kind for kind, what in OPERATION_KINDS.values()}
    for what, kind in told.items():
        lines.append(f"| {what} | {_with_lease(kind)} | {COURSES[kind][State.READ_ONLY].value} |")
    return lines


def _with_lease(kind: Kind) -> str:
    return Course.HERE.value if kind is Kind.LOCAL else Course.FORWARD.value


if __name__ == "__main__":
    sys.stdout.write(markdown())
