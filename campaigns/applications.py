"""Applications that sign while their entry member fails: failures, wrong signatures, stalls.

Three members, a client each for `LNHDirect` 1 and 0, and four applications at once: two that start
a process for each signature, two that make all in one.  Every kind of outage strikes the entry
member, once while it is primary and once while it is not.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.__main__ import build
from tests.support.appliances import Appliance, Registered, Street, cluster_of, street
from tests.support.applications import ALL, Application, LongBench, Seen
from tests.support.outages import OUTAGES, Outage, promote_another

MEMBERS: Final = 3
SIGNATURES: Final = 8
"""Of each application, before, in and after an outage."""
STALL_SECONDS: Final = 2.5


@dataclass(frozen=True)
class Row:
    """What one application saw of one outage."""

    outage: str
    primary: bool
    direct: bool
    application: str
    seen: Seen

    @property
    def clean(self) -> bool:
        """Tell whether it noticed nothing but a stall that is allowed."""
        seen = self.seen
        return not seen.failures and not seen.wrong and seen.longest_stall_seconds < STALL_SECONDS


@dataclass(frozen=True)
class Scene:
    """A cluster, the clients of its applications, and where those keep their files."""

    street: Street
    clients: dict[bool, Registered]
    program: Path
    directory: Path


@contextmanager
def scene() -> Iterator[Scene]:
    """Make the cluster and the clients."""
    directory = Path(tempfile.mkdtemp(prefix="conclave-applications-"))
    with street(directory) as built:
        first = cluster_of(built, MEMBERS)
        clients = {
            direct: Registered(directory / f"client-{int(direct)}", first)
            for direct in (True, False)
        }
        yield Scene(built, clients, build(directory), directory)
    # Otherwise the logs are worth a look.
    shutil.rmtree(directory)


def run(
    *, only: Sequence[str], direct: Sequence[bool], say: Callable[[str], None]
) -> tuple[list[Row], float]:
    """Let every outage strike; return what the applications saw, and the seconds it took."""
    begun = time.monotonic()
    rows: list[Row] = []
    with scene() as made:
        for name in only or OUTAGES:
            for primary in (True, False):
                for each in direct:
                    rows += _strike(made, name, primary=primary, direct=each, say=say)
    return rows, time.monotonic() - begun


def _strike(
    made: Scene, name: str, *, primary: bool, direct: bool, say: Callable[[str], None]
) -> list[Row]:
    entry = made.street.members[0]
    if (made.street.primary() is entry) is not primary:
        promote_another(made.street, entry)
    client = made.clients[direct]
    client.point_at(entry, direct=direct)
    seen = _watch(made, OUTAGES[name], entry, client)
    rows = [Row(name, primary, direct, *found) for found in seen.items()]
    for row in rows:
        say(
            f"{name}, primary {primary}, direct {direct}: {row.application} made {row.seen.made},"
            f" stalled {row.seen.longest_stall_seconds:.2f} s, wrong {row.seen.wrong},"
            f" failures {row.seen.failures[:2]}"
        )
    return rows


def _watch(made: Scene, outage: Outage, entry: Appliance, client: Registered) -> dict[str, Seen]:
    with (
        tempfile.TemporaryDirectory(dir=made.directory) as name,
        LongBench(made.program, client) as bench,
    ):
        with ExitStack() as stack:
            running: list[Application] = [
                stack.enter_context(kind(client, Path(name) / kind.name)) for kind in ALL
            ]
            _go_on(running)
            outage.begin(made.street, entry)
            _go_on(running)
            outage.end(made.street, entry)
            _go_on(running)
        # The last to end, since it removes its key, which the others would meet half removed.
        return {each.name: each.seen for each in running} | {bench.name: bench.end()[0]}


def _go_on(running: list[Application]) -> None:
    for each in running:
        each.makes_more(SIGNATURES)


def report(rows: list[Row], seconds: float, commit: str) -> list[str]:
    """Return the lines of the report."""
    made = sum(row.seen.made for row in rows)
    failed = sum(len(row.seen.failures) for row in rows)
    wrong = sum(row.seen.wrong for row in rows)
    worst = max(row.seen.longest_stall_seconds for row in rows)
    lines = [
        "# Campaign: applications",
        "",
        f"A cluster of {MEMBERS} members. The entry member of four applications fails and returns,",
        "while it is primary and while it is not, with `LNHDirect` 1 and 0. pkcs11-tool and",
        "openssl with its engine start a process for each signature; openssl s_server and p11bench",
        "are one process each. Signatures are checked outside of the module, of p11bench's the",
        "first and the last.",
        "",
        f"- commit {commit}, {seconds:.0f} s",
        f"- signatures: {made}, failed: {failed}, wrong: {wrong}",
        f"- longest time from one signature to the next: {worst:.2f} s",
        "",
        "Longest time from one signature to the next, in seconds. Where a process is started for",
        "each signature it holds the start of the process, its login and its end.",
        "",
    ]
    names = list(dict.fromkeys(row.application for row in rows))
    lines.append("| entry member | primary | LNHDirect | " + " | ".join(names) + " |")
    lines.append("|---|---|---|" + "---:|" * len(names))
    cells: dict[tuple[str, bool, bool], dict[str, str]] = {}
    for row in rows:
        cell = f"{row.seen.longest_stall_seconds:.2f}"
        if row.seen.failures or row.seen.wrong:
            cell += f" ({len(row.seen.failures)} failed, {row.seen.wrong} wrong)"
        cells.setdefault((row.outage, row.primary, row.direct), {})[row.application] = cell
    for (outage, primary, direct), found in cells.items():
        head = [outage, "yes" if primary else "no", str(int(direct))]
        lines.append("| " + " | ".join([*head, *(found[name] for name in names)]) + " |")
    return [*lines, ""]
