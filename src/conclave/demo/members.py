"""The members of a demonstration: wait until all are Read-Write, and show them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from conclave.demo import appliance_steps as appliance
from conclave.demo.daemon import process_ids, ready_facts
from conclave.demo.document import DemoDocument, MemberRow
from conclave.demo.errors import too_slow
from conclave.demo.options import CERTIFICATES_FILE, CORE_PORT, SSH_PORT
from conclave.demo.rest import RestClient
from conclave.errors import ConclaveError

SETTLE_SECONDS: Final = 60.0
SERVICE_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1
Members = list[dict[str, Any]]


@contextmanager
def administrator(
    state_dir: Path,
    address: str,
    password: str,
    told: Callable[[str], None] = lambda _text: None,
) -> Iterator[RestClient]:
    """Yield a REST client of an appliance that sends the administrator's password."""
    rest = appliance.rest_client(state_dir, address, told)
    rest.use_password(appliance.ADMIN, password)
    try:
        yield rest
    finally:
        rest.close()


def wait_until_read_write(
    places: Sequence[tuple[Path, str]], password: str, cluster_id: str
) -> Members:
    """Wait until each member sees each of them visible, authorized and Read-Write.

    `places` are state directories and addresses; raises Unavailable with what is amiss.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    with ExitStack() as stack:
        doors = [
            stack.enter_context(administrator(directory, address, password))
            for directory, address in places
        ]
        while True:
            views = [members_seen(rest, cluster_id) for rest in doors]
            if all(len(view) == len(places) and all(map(_serves, view)) for view in views):
                return views[0]
            if time.monotonic() > deadline:
                raise too_slow(_what_is_amiss(views, places))
            time.sleep(POLL_SECONDS)


def wait_until_serving(
    state_dir: Path, address: str, password: str, cluster_id: str, seconds: float
) -> bool:
    """Wait until a member calls itself authorized and Read-Write; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    with administrator(state_dir, address, password) as rest:
        while time.monotonic() < deadline:
            own = [member for member in members_seen(rest, cluster_id) if member["local"]]
            if own and _serves(own[0]):
                return True
            time.sleep(POLL_SECONDS)
    return False


def first_view(document: DemoDocument) -> Members:
    """Return the members as the first appliance sees them that is one; wait for its service.

    Returns nothing when none of the appliances is a member any more.
    """
    deadline = time.monotonic() + SERVICE_SECONDS
    while time.monotonic() < deadline:
        for row in document.members:
            place = (Path(row.state_dir), row.address, document.admin_password)
            with administrator(*place) as rest:
                seen = members_seen(rest, document.cluster_id)
            if any(member["local"] for member in seen):
                return seen
        time.sleep(POLL_SECONDS)
    return []


def members_seen(rest: RestClient, cluster_id: str) -> Members:
    """Return the members as one appliance sees them; nothing when it gives no answer."""
    try:
        body = rest.look(f"/api/clusters/{cluster_id}/members")
    except ConclaveError:
        return []
    return [] if body is None else list(body["data"])


def _serves(member: dict[str, Any]) -> bool:
    return bool(
        member["memberActive"]
        and member["visibleToServicingNode"]
        and member["mode"] == "Read-Write"
    )


def _what_is_amiss(views: Sequence[Members], places: Sequence[tuple[Path, str]]) -> str:
    seen = "; ".join(
        f"{address} sees {', '.join(map(_brief, view)) or 'nothing'}"
        for view, (_, address) in zip(views, places, strict=True)
    )
    return (
        f"Not every member was Read-Write within {SETTLE_SECONDS:.0f} seconds: {seen}."
        f" What they say is in {places[0][0]}/log/cluster.log and beside it."
    )


def _brief(member: dict[str, Any]) -> str:
    words = [member["mode"]]
    words += [] if member["memberActive"] else ["not authorized"]
    words += [] if member["visibleToServicingNode"] else ["not visible"]
    return f"{member['ipAddress']} ({', '.join(words)})"


def write_certificates(directory: Path, state_dirs: Sequence[Path]) -> None:
    """Gather what the REST doors of all members are verified with in one file."""
    texts = [appliance.certificate_file(each).read_text() for each in state_dirs]
    temporary = directory / f".{CERTIFICATES_FILE}.new"
    temporary.write_text("".join(texts))
    temporary.replace(directory / CERTIFICATES_FILE)


def member_row(state_dir: Path, member: dict[str, Any], daemon_pid: int) -> MemberRow:
    """Return what a script needs to know of a running member."""
    return MemberRow(
        member_id=member["memberUUID"],
        name=member["memberName"],
        address=member["ipAddress"],
        rest_port=appliance.REST_PORT,
        admin_port=member["adminPort"],
        crypto_port=member["cryptoPort"],
        core_port=CORE_PORT,
        ssh_port=SSH_PORT,
        hsm_serial=str(ready_facts(state_dir)["hsmSerial"]),
        state_dir=str(state_dir),
        ca_file=str(appliance.certificate_file(state_dir)),
        pids=process_ids(daemon_pid),
    )


def table(document: DemoDocument, members: Members) -> str:
    """Return the members as a table, in the order in which the demonstration made them."""
    found = {member["memberUUID"]: member for member in members}
    rows = [("", "name", "address", "mode", "visible", "group", "process")]
    for row in document.members:
        member = found.get(row.member_id)
        name = Path(row.state_dir).name
        if member is None:
            rows.append((name, row.name, row.address, "no member", "", "", ""))
            continue
        primary = f"{row.name} (primary)" if member["primaryNode"] else row.name
        visible = "yes" if member["visibleToServicingNode"] else "no"
        process = str(row.pids["daemon"])
        rows.append((name, primary, row.address, member["mode"], visible, member["group"], process))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(f"    {line}" for line in lines)
