"""What befalls a member, and how it comes back, while the others serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave.demo import processes
from tests.native.waiting import wait_until
from tests.support.appliances import CRYPTO_PORT, SERVICE, Appliance, Street

GONE_SECONDS: Final = 60.0
OTHER_PORT: Final = 50055


def kill(_street: Street, struck: Appliance) -> None:
    """End all processes of a member at once, by SIGKILL."""
    processes.kill_family(struck.daemon.process.pid)
    struck.daemon.process.wait()


def start(street: Street, struck: Appliance) -> None:
    """Start a member's daemon."""
    struck.start()
    street.settle()


def hang(_street: Street, struck: Appliance) -> None:
    """Stop all processes of a member where they are, by SIGSTOP."""
    processes.stop_family(struck.daemon.process.pid)


def wake(street: Street, struck: Appliance) -> None:
    """Let the processes of a member go on."""
    processes.wake_family(struck.daemon.process.pid)
    street.settle()


def stop_service(_street: Street, struck: Appliance) -> None:
    """Stop a member's cluster service in order."""
    struck.done("POST", f"{SERVICE}/actions/stop")


def start_service(street: Street, struck: Appliance) -> None:
    """Start a member's cluster service."""
    struck.done("POST", f"{SERVICE}/actions/start")
    street.settle()


def restart_service(street: Street, struck: Appliance) -> None:
    """Restart a member's cluster service, as an update does."""
    struck.done("POST", f"{SERVICE}/actions/restart")
    street.settle()


def kill_and_delete(street: Street, struck: Appliance) -> None:
    """Kill a member and delete it at another."""
    others = [each for each in street.members if each is not struck]
    url = others[0].member(struck)["url"]
    kill(street, struck)

    def gone() -> bool:
        return not any(each.member(struck)["visibleToServicingNode"] for each in others)

    assert wait_until(gone, GONE_SECONDS)
    answer = others[0].finished(others[0].delete(url))
    assert answer.status_code < 400, answer.text
    street.members.remove(struck)
    street.settle()


def return_and_rejoin(street: Street, struck: Appliance) -> None:
    """Start a deleted member, reset it, and let it join again."""
    struck.start()

    def removed() -> bool:
        return bool(struck.get(SERVICE)["state"] == "removed")

    assert wait_until(removed, GONE_SECONDS), struck.get(SERVICE)
    struck.factory_reset()
    rejoin(street, struck)


def leave(street: Street, struck: Appliance) -> None:
    """Let a member leave."""
    struck.leave()
    street.members.remove(struck)
    street.settle()


def rejoin(street: Street, struck: Appliance) -> None:
    """Let an appliance join again."""
    struck.join(street.members[0])
    street.members.append(struck)
    street.settle()


def promote_another(street: Street, struck: Appliance) -> None:
    """Make another member primary, or this one."""
    primary = street.primary()
    target = struck if primary is not struck else street.others()[0]
    body = {"action": "config", "primary": True}
    target.done("PUT", struck.member(target)["url"], body)
    street.settle()


def change_port(street: Street, struck: Appliance, port: int = OTHER_PORT) -> None:
    """Give a member another crypto port."""
    struck.done("PUT", "/api/cluster/config", {"service": "crypto", "port": port})
    restart_service(street, struck)


def change_port_back(street: Street, struck: Appliance) -> None:
    """Give a member its usual crypto port again."""
    change_port(street, struck, CRYPTO_PORT)


def nothing(_street: Street, _struck: Appliance) -> None:
    """Do nothing: the outage has ended by itself."""


@dataclass(frozen=True)
class Outage:
    """One kind of outage."""

    begin: Callable[[Street, Appliance], None]
    end: Callable[[Street, Appliance], None] = nothing


OUTAGES: Final = {
    "killed": Outage(kill, start),
    "hung": Outage(hang, wake),
    "stopped": Outage(stop_service, start_service),
    "restarted": Outage(restart_service),
    "killed and deleted": Outage(kill_and_delete, return_and_rejoin),
    "left": Outage(leave, rejoin),
    "another promoted": Outage(promote_another),
    "other port": Outage(change_port, change_port_back),
}
