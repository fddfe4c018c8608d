"""The command `conclave demo fault`: let a member fail, and bring it back.

Each fault tells what it did and what to watch.  `conclave demo --stop` undoes all of them but the
clock, which `heal` sets right.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGKILL
from typing import Final

import click
import msgspec
from cryptography import x509

from conclave.demo import appliance_steps as appliance
from conclave.demo import isolation, processes
from conclave.demo.daemon import POSTGRES, process_ids, running_pid, start_daemon
from conclave.demo.document import (
    DEFAULT_DIRECTORY,
    FILE_NAME,
    DemoDocument,
    MemberRow,
    read_document,
    write_document,
)
from conclave.demo.errors import no_such_member, not_possible
from conclave.demo.members import administrator, wait_until_serving, write_certificates
from conclave.demo.options import MEMBER_PREFIX
from conclave.demo.page import conclave_command, members_command
from conclave.demo.rest import RestClient
from conclave.errors import ConclaveError

RETURN_SECONDS: Final = 30.0
CERTIFICATE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
DEFAULT_SKEW_SECONDS: Final = 60
MOST_SKEW_SECONDS: Final = 366 * 86_400
MOST_FAULT_SECONDS: Final = 86_400
ONE_OF_SEVERAL: Final = (
    "Applications go on with another member; writers wait for 2 s at most while it is dropped."
    " If it is the primary, the others are Read-Only until it is back."
)
ALONE: Final = "There is no other member: calls of applications fail until it is back."
PARTS: Final = ("appliance", "cluster", POSTGRES, "worker")


@dataclass(frozen=True, slots=True)
class Victim:
    """A member of a demonstration."""

    directory: Path
    document: DemoDocument
    row: MemberRow

    @property
    def state_dir(self) -> Path:
        """Return its state directory."""
        return Path(self.row.state_dir)

    @property
    def name(self) -> str:
        """Return how this command calls it."""
        return self.state_dir.name

    def others(self) -> list[MemberRow]:
        """Return the other members."""
        return [row for row in self.document.members if row is not self.row]

    def expected(self) -> str:
        """Return what applications notice while it is away."""
        return ONE_OF_SEVERAL if self.others() else ALONE

    def daemon(self) -> int:
        """Return its daemon's process id; raise Conflict when it does not run."""
        pid = running_pid(self.state_dir)
        if pid is None:
            message = f"{self.name} does not run; `resume` starts it."
            raise not_possible(message)
        return pid


def kill(victim: Victim, what: str) -> str:
    """Kill the whole appliance or one of its processes, and return what to expect."""
    daemon = victim.daemon()
    if what == "appliance":
        pids = processes.kill_family(daemon)
        return (
            f"killed {victim.name}: daemon and {len(pids) - 1} processes below it, with SIGKILL.\n"
            f"{victim.expected()} `resume` starts it again."
        )
    found = {
        name: pid
        for name, pid in process_ids(daemon).items()
        if name == what or name.startswith(f"{what}-")
    }
    if not found:
        message = (
            f"{victim.name} has no process {what} now; it has {', '.join(process_ids(daemon))}."
        )
        raise not_possible(message)
    for pid in found.values():
        processes.send([pid], SIGKILL)
    names = ", ".join(f"{name} ({pid})" for name, pid in found.items())
    return f"killed {names} of {victim.name} with SIGKILL; it is replaced by itself."


def hang(victim: Victim) -> str:
    """Hold all processes of a member, and return what to expect."""
    held = processes.stop_family(victim.daemon())
    return (
        f"holds {len(held)} processes of {victim.name} with SIGSTOP: its connections stay open, and"
        f" nothing answers.\n{victim.expected()} `resume` lets it go on."
    )


def resume(victim: Victim) -> str:
    """Let a held member go on, or start a killed one; wait until it serves."""
    pid = running_pid(victim.state_dir)
    if pid is None:
        start_daemon(victim.state_dir, outlives_us=True)
        done = f"started {victim.name}"
    elif any(map(processes.is_stopped, processes.family(pid))):
        woken = processes.wake_family(pid)
        done = f"let {len(woken)} processes of {victim.name} go on"
    else:
        return f"found {victim.name} running: there was nothing to do."
    alone = all(running_pid(Path(row.state_dir)) is None for row in victim.others())
    if pid is None and alone:
        with _admin(victim) as rest:
            appliance.authorize_again(rest, victim.document.cluster_id, victim.document.co_password)
        done += ", and authorized it, since no other member could"
    returned = _wait_for_return(victim)
    _write_pids(victim)
    return f"{done}.\n{returned}"


def isolate(victim: Victim) -> str:
    """Cut a member off from the others, and return what to expect."""
    victim.daemon()
    others = victim.others()
    if not others:
        message = f"{victim.name} is the only member: there is nobody to be cut off from."
        raise not_possible(message)
    isolation.isolate(victim.row.address, [row.address for row in others], victim.row.core_port)
    return (
        f"cut {victim.row.address}, port {victim.row.core_port}, off from the other members by"
        " routing rules (`ip rule`); applications still reach it.\nIt turns Read-Only within 2 s;"
        " if it is the primary, the others do. `heal` ends it, and so does `conclave demo --stop`."
    )


def heal(victim: Victim) -> str:
    """End isolation and skew; wait until the member serves."""
    cut = isolation.heal([victim.row.address])
    done = f"joined {victim.name} with the other members again" if cut else ""
    if running_pid(victim.state_dir) is None:
        return f"{done or 'found nothing to heal'}; {victim.name} does not run."
    _set_clock(victim, 0)
    clock = f"set the clock of {victim.name} right"
    return f"{' and '.join(filter(None, (done, clock)))}.\n{_wait_for_return(victim)}"


def skew(victim: Victim, seconds: int) -> str:
    """Set a member's clock off the host's by so many seconds."""
    victim.daemon()
    _set_clock(victim, seconds)
    return (
        f"set the clock of {victim.name} {abs(seconds)} s {'behind' if seconds < 0 else 'ahead'},"
        " over REST.\nThe cluster's order does not follow appliance clocks; a join of an appliance"
        " that is more than 30 s off is refused. `heal` sets it right."
    )


def _set_clock(victim: Victim, seconds: int) -> None:
    wanted = datetime.now(UTC) + timedelta(seconds=seconds)
    body = {"date": f"{wanted:%Y-%m-%d}", "time": f"{wanted:%H:%M:%S}", "timeZone": "UTC"}
    with _admin(victim) as rest:
        rest.call("PUT", "/api/lunasa/time", body)
    rows = victim.document.members
    if len(rows) > 1:
        # An appliance whose certificate is not valid yet by its clock makes itself another, soon.
        deadline = time.monotonic() + CERTIFICATE_SECONDS
        while not _is_certified(victim, wanted) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        write_certificates(victim.directory, [Path(row.state_dir) for row in rows])


def _is_certified(victim: Victim, moment: datetime) -> bool:
    """Tell whether the appliance's REST certificate is valid at a time of its clock."""
    text = appliance.certificate_file(victim.state_dir).read_bytes()
    certificate = x509.load_pem_x509_certificate(text)
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def _admin(victim: Victim) -> AbstractContextManager[RestClient]:
    return administrator(victim.state_dir, victim.row.address, victim.document.admin_password)


def _wait_for_return(victim: Victim) -> str:
    started = time.monotonic()
    document = victim.document
    if wait_until_serving(
        victim.state_dir,
        victim.row.address,
        document.admin_password,
        document.cluster_id,
        RETURN_SECONDS,
    ):
        return f"It was Read-Write {time.monotonic() - started:.1f} s later."
    return (
        f"It is not Read-Write {RETURN_SECONDS:.0f} s later: it needs the primary. Look at the"
        f" members and at {victim.state_dir}/log/cluster.log."
    )


def _write_pids(victim: Victim) -> None:
    """Keep the document true after a start."""
    row = msgspec.structs.replace(victim.row, pids=process_ids(victim.daemon()))
    rows = [row if each is victim.row else each for each in victim.document.members]
    document = msgspec.structs.replace(victim.document, members=rows)
    write_document(document, victim.directory / FILE_NAME)


UNDONE_BY: Final[dict[str, Callable[[Victim], str]]] = {
    "kill": resume,
    "hang": resume,
    "isolate": heal,
}
"""What ends a fault after --seconds."""
FAULTS: Final = (*UNDONE_BY, "resume", "heal", "skew")


@click.command("fault", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("fault", type=click.Choice(FAULTS))
@click.argument("member")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="The demonstration's directory.",
)
@click.option(
    "--seconds",
    type=int,
    help="kill, hang, isolate: end the fault after so long. skew: how far the clock goes off"
    f" ({DEFAULT_SKEW_SECONDS}); less than 0 is behind.",
)
@click.option(
    "--what",
    type=click.Choice(PARTS),
    help="kill: which process; the default is the whole appliance.",
)
def fault_command(
    *, fault: str, member: str, directory: Path, seconds: int | None, what: str | None
) -> None:
    """Let MEMBER of a running demonstration fail, or bring it back.

    MEMBER is a number, a directory name such as member-2, or the name or id that REST shows.

    \b
    kill     kill its processes; resume starts it again
    hang     hold its processes; resume lets them go on
    isolate  cut it off from the other members (needs root); heal ends it
    skew     set its clock wrong; heal sets it right
    """
    _check(fault, seconds, what)
    try:
        victim = _find(directory.absolute(), member)
        told = _do(fault, victim, seconds, what)
        click.echo(f"{datetime.now(UTC):%H:%M:%S} {told}\n\nWatch:\n{_watch(victim)}")
        if seconds is not None and fault in UNDONE_BY:
            _undo_later(UNDONE_BY[fault], victim, seconds)
    except (ConclaveError, OSError) as failure:
        raise click.ClickException(str(failure)) from failure


def _check(fault: str, seconds: int | None, what: str | None) -> None:
    if what is not None and fault != "kill":
        message = f"goes with kill only, not with {fault}"
        raise click.BadParameter(message, param_hint="--what")
    if seconds is None:
        return
    if fault in {"resume", "heal"} or what not in {None, "appliance"}:
        message = f"goes with a fault that lasts; {fault} {what or ''}".rstrip() + " does not"
        raise click.BadParameter(message, param_hint="--seconds")
    least, most = (
        (-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS) if fault == "skew" else (1, MOST_FAULT_SECONDS)
    )
    if not least <= seconds <= most:
        message = f"must lie between {least} and {most} for {fault}; it is {seconds}"
        raise click.BadParameter(message, param_hint="--seconds")


def _find(directory: Path, member: str) -> Victim:
    document = read_document(directory)
    for row in document.members:
        name = Path(row.state_dir).name
        if member in {name, name.removeprefix(MEMBER_PREFIX), row.name, row.member_id}:
            return Victim(directory, document, row)
    known = ", ".join(Path(row.state_dir).name for row in document.members)
    message = f"MEMBER must be one of {known}; it is {member[:64]!r}."
    raise no_such_member(message)


def _do(fault: str, victim: Victim, seconds: int | None, what: str | None) -> str:
    match fault:
        case "kill":
            return kill(victim, what or "appliance")
        case "hang":
            return hang(victim)
        case "isolate":
            return isolate(victim)
        case "skew":
            return skew(victim, DEFAULT_SKEW_SECONDS if seconds is None else seconds)
        case "resume":
            return resume(victim)
        case _:
            return heal(victim)


def _undo_later(undo: Callable[[Victim], str], victim: Victim, seconds: int) -> None:
    click.echo(f"\nIt ends in {seconds} s, or with Ctrl-C.")
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        click.echo("")
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {undo(victim)}")


def _watch(victim: Victim) -> str:
    """Return commands that show the fault from another member, or from this one if it is alone."""
    witness = (victim.others() or [victim.row])[0]
    lines = [members_command(victim.document, victim.directory, witness)]
    lines += [f"tail -f {row.state_dir}/log/cluster.log" for row in (witness, victim.row)]
    lines.append(f"{conclave_command()} demo --stop {victim.directory}")
    return "\n".join(f"    {line}" for line in dict.fromkeys(lines))
