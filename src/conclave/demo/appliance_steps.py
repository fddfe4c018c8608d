"""Set up an appliance, its HSM and a cluster, over REST as the guide's chapters 2, 3 and 5 do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from conclave.demo import leftovers
from conclave.demo.errors import step_failed
from conclave.demo.narrator import Narrator
from conclave.demo.options import SSH_PORT, DemoOptions, new_password
from conclave.demo.rest import RestClient
from conclave.settings import ApplianceConfig, Limits, SshSettings, write_config
from conclave.store.postgresql import account as accounts

PARTITION: Final = "clusterpar"
CLUSTER: Final = "demo"
DEVICE: Final = "eth0"
ADMIN: Final = "admin"
FACTORY_PASSWORD: Final = "PASSWORD"  # noqa: S105 - public: every appliance begins with it
PER_CALL: Final = 100
REST_PORT: Final = 8443
SERVICE: Final = "/api/lunasa/services/cluster"


@dataclass(frozen=True, slots=True)
class Passwords:
    """Every password above the keyrings."""

    admin: str = field(default_factory=new_password, repr=False)
    hsm_so: str = field(default_factory=new_password, repr=False)
    po: str = field(default_factory=new_password, repr=False)
    first_co: str = field(default_factory=new_password, repr=False)
    co: str = field(default_factory=new_password, repr=False)
    domain: str = field(default_factory=new_password, repr=False)
    first_krso: str = field(default_factory=new_password, repr=False)


def settings(options: DemoOptions, number: int, address: str) -> ApplianceConfig:
    """Return an appliance's settings: one loopback address, standard ports."""
    limits = Limits()
    if options.min_password is not None:
        limits = msgspec.structs.replace(limits, min_password_characters=options.min_password)
    if options.max_objects is not None:
        limits = msgspec.structs.replace(limits, max_objects=options.max_objects)
    return ApplianceConfig(
        ssh=SshSettings(port=SSH_PORT),
        state_dir=options.state_dir(number),
        host_name="conclave-demo" if number == 1 else f"conclave-demo-{number}",
        interfaces={DEVICE: address},
        # Three wrong HSM SO passwords would zeroize the HSM: not in a place to try things.
        so_lockout="backoff",
        low_cost_for_tests=options.low_cost,
        limits=limits,
    )


def make_appliance(options: DemoOptions, number: int, address: str, narrator: Narrator) -> None:
    """Make an appliance's state directory with `conclave appliance init`."""
    chosen, state_dir = options.settings_file(number), options.state_dir(number)
    account = accounts.find() if options.uses_postgresql else None
    if account is not None:
        # As root, the data of a demonstration that was here before may outlive its directory.
        accounts.remove(state_dir, account)
        for gone in leftovers.sweep(account):
            narrator.detail(f"PostgreSQL's data of {gone} were removed, since it is gone")
    write_config(settings(options, number, address), chosen)
    words = ("appliance", "init", "--state", str(state_dir), "--config", str(chosen))
    narrator.detail("conclave " + " ".join(words))
    outcome = subprocess.run(
        [sys.executable, "-m", "conclave.cli", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    if outcome.returncode != 0:
        raise step_failed(f"`conclave appliance init` failed: {outcome.stderr.strip()}")
    if account is not None:
        leftovers.note(state_dir, account)


def rest_client(state_dir: Path, address: str, told: Callable[[str], None]) -> RestClient:
    """Return a client that trusts this appliance's own certificate and no other."""
    return RestClient(address, REST_PORT, certificate_file(state_dir), told=told)


def certificate_file(state_dir: Path) -> Path:
    """Return the file with which an appliance's REST certificate is verified."""
    return state_dir / "webserver" / "server.pem"


def log_in(rest: RestClient, passwords: Passwords) -> None:
    """Change the administrator's first password and open a private session."""
    rest.use_password(ADMIN, FACTORY_PASSWORD)
    words = {"currentPassword": FACTORY_PASSWORD, "password": passwords.admin}
    rest.call("POST", f"/users/{ADMIN}/actions/changePassword", words)
    rest.use_password(ADMIN, passwords.admin)
    rest.open_session()


def initialize_hsm(rest: RestClient, passwords: Passwords) -> str:
    """Initialise the HSM, log its SO in, and return its path."""
    hsm = str(rest.get("/api/lunasa/hsms")["hsms"][0]["url"])
    body = {"label": "demo_hsm", "password": passwords.hsm_so, "domain": passwords.domain}
    rest.call("PUT", hsm, body)
    login = {"ped": "0", "password": passwords.hsm_so, "role": "so"}
    rest.call("POST", f"{hsm}/login", login)
    return hsm


def make_partition(rest: RestClient, hsm: str, passwords: Passwords) -> None:
    """Make the V1 partition that a cluster needs, with policy 40 off and its roles set."""
    made = {"name": PARTITION, "hasPso": True, "allStorageSpace": True, "version": 1}
    partition = rest.call("POST", f"{hsm}/partitions", made).location
    body = {"label": PARTITION, "password": passwords.po, "domain": passwords.domain}
    rest.call("PUT", partition, body)
    login = {"ped": "0", "password": passwords.po, "role": "so"}
    rest.call("POST", f"{partition}/login", login)
    rest.call("PUT", f"{partition}/policies/40", {"value": 0})
    role = f"{partition}/roles/co"
    first = {"password": passwords.first_co, "ped": "0", "defaultChallenge": False}
    rest.call("PUT", role, first)
    change = {"oldPassword": passwords.first_co, "newPassword": passwords.co}
    rest.call("PATCH", role, change)


def start_service(rest: RestClient, options: DemoOptions, address: str) -> None:
    """Configure the cluster service and start it."""
    config = "/api/cluster/config"
    rest.call("PUT", config, {"service": "core", "IpAddress": address})
    rest.call("PUT", config, {"service": "identity", "mode": options.identity})
    rest.call("PATCH", SERVICE, {"onBoot": True})
    rest.call("POST", f"{SERVICE}/actions/start", {})
    if rest.get(SERVICE)["status"] != "running":
        message = f"The cluster service at {address} did not start; see its `log` directory."
        raise step_failed(message)


def create_cluster(rest: RestClient, passwords: Passwords, engine: str = "sqlite") -> str:
    """Create the cluster and return its id."""
    so = [{"type": "SO", "password": passwords.hsm_so}]
    body = {"authentication": so, "clusterLabel": CLUSTER, "engine": engine}
    rest.call("POST", "/api/clusters", body)
    return str(rest.get("/api/clusters")["data"][0]["clusterUUID"])


def authorize(rest: RestClient, cluster_id: str, co_password: str) -> dict[str, Any]:
    """Authorize the local member and return its description."""
    members = f"/api/clusters/{cluster_id}/members"
    member = local_member(rest, cluster_id)
    co = [{"type": "CO", "password": co_password, "partitionLabel": PARTITION}]
    body = {"action": "authorize", "authentication": co}
    rest.call("PUT", f"{members}/{member['memberUUID']}", body)
    authorized: dict[str, Any] = rest.get(f"{members}/{member['memberUUID']}")
    if not authorized["memberActive"]:
        raise step_failed("The member is not active after its authorization.")
    return authorized


def authorize_again(rest: RestClient, cluster_id: str, co_password: str) -> dict[str, Any]:
    """Authorize a member whose appliance has just been started, once its service runs."""
    # The appliance starts it by itself; the action joins in and ends when the start does.
    rest.call("POST", f"{SERVICE}/actions/start", {})
    return authorize(rest, cluster_id, co_password)


def local_member(rest: RestClient, cluster_id: str) -> dict[str, Any]:
    """Return the description of the member that answers."""
    members: list[dict[str, Any]] = rest.get(f"/api/clusters/{cluster_id}/members")["data"]
    return next(member for member in members if member["local"])


def join(rest: RestClient, passwords: Passwords, cluster_id: str, address: str) -> None:
    """Join the cluster of the member at an address, and follow the join to its end.

    The cluster's users replace the appliance's, which ends the session in which they were made.
    """
    rest.use_password(ADMIN, passwords.admin)
    co = [{"type": "CO", "password": passwords.co, "partitionLabel": PARTITION}]
    body = {
        "action": "join",
        "authentication": co,
        "remoteClusterIpAddress": address,
        "remoteAdminPassword": passwords.admin,
    }
    rest.call("PUT", f"/api/clusters/{cluster_id}", body)


def create_keyrings(rest: RestClient, passwords: Passwords, count: int) -> list[dict[str, Any]]:
    """Create demo1 to demo`count` and return them as listed."""
    co = [{"type": "CO", "password": passwords.co, "partitionLabel": PARTITION}]
    made: list[dict[str, Any]] = []
    while len(made) < count:
        body = {
            "authentication": co,
            "keyRingLabel": "demo",
            "keyRingPassword": passwords.first_krso,
            "total": min(PER_CALL, count - len(made)),
            "index": len(made) + 1,
        }
        made += rest.call("POST", "/api/keyrings", body).body["data"]
    return made
