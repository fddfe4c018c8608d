"""Real appliances side by side: daemons of their own, each on its own loopback address.

A house prepares them as the guide's chapter 2 says; what tests do with them goes by REST.
"""

from __future__ import annotations

import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx
import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from conclave.appliance.initialize import initialize_appliance
from conclave.client import Client, KeyringSession, Role, configuration, template
from conclave.client.templates import Value
from conclave.crypto.standard import Cka, Ckm
from conclave.demo import appliance_steps as steps
from conclave.demo import client_steps
from conclave.demo.appliance_steps import PARTITION, Passwords
from conclave.demo.daemon import Daemon, start_daemon, stop_daemon
from conclave.demo.document import KeyringRow
from conclave.demo.narrator import Narrator
from conclave.demo.options import DemoOptions, free_loopback_address
from conclave.demo.rest import MEDIA_TYPE
from conclave.settings import PackageSettings
from conclave.store.postgresql import account as accounts
from tests.native.waiting import wait_until

NUMBER: Final = 1
"""Each appliance is the only one in its directory."""
CALL_SECONDS: Final = 90.0
TASK_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 60.0
CRYPTO_PORT: Final = 50052
SERVICE: Final = "/api/lunasa/services/cluster"
KEYRING_PASSWORD: Final = "first-password"
KEY_LABEL: Final = "signer"
P256: Final = bytes.fromhex("06082a8648ce3d030107")
_SILENT: Final = Narrator(lambda _text: None)
Member = dict[str, Any]


@dataclass(repr=False)
class Appliance:
    """One appliance, its administrator and its daemon."""

    options: DemoOptions
    address: str
    passwords: Passwords
    admin_password: str
    """The cluster's once it has joined one."""
    daemon: Daemon
    http: httpx.Client

    @classmethod
    def prepared(cls, directory: Path, domain: str) -> Self:
        """Make an appliance and start its cluster service, as the guide's chapter 2 says."""
        passwords = Passwords(domain=domain)
        options = DemoOptions(directory=directory, low_cost=True)
        directory.mkdir(mode=0o700)
        address = free_loopback_address()
        # There are many appliances on this machine: one crypto worker each.
        # They run the source as it is here, not a package of it.
        settings = msgspec.structs.replace(
            steps.settings(options, NUMBER, address),
            workers=1,
            packages=PackageSettings(cluster_service="preinstalled"),
        )
        initialize_appliance(settings)
        daemon = start_daemon(settings.state_dir, outlives_us=False)
        rest = steps.rest_client(settings.state_dir, address, _SILENT.detail)
        try:
            steps.log_in(rest, passwords)
            hsm = steps.initialize_hsm(rest, passwords)
            steps.make_partition(rest, hsm, passwords)
            steps.start_service(rest, options, address)
        except BaseException:
            stop_daemon(daemon)
            raise
        finally:
            rest.close()
        trusted = ssl.create_default_context(cafile=str(steps.certificate_file(settings.state_dir)))
        http = httpx.Client(
            base_url=f"https://{address}:{steps.REST_PORT}", verify=trusted, timeout=CALL_SECONDS
        )
        return cls(options, address, passwords, passwords.admin, daemon, http)

    # ---- the daemon

    def kill(self) -> None:
        """End the daemon and, with it, all its processes, as a power failure would."""
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()

    def start(self) -> None:
        """Start the daemon again; the cluster service starts with it."""
        self.daemon = start_daemon(self.daemon.state_dir, outlives_us=False)

    def close(self) -> None:
        """End everything and remove what lies outside the test's directory."""
        self.http.close()
        stop_daemon(self.daemon)
        accounts.remove(self.daemon.state_dir, accounts.find())

    # ---- REST

    def call(
        self, method: str, path: str, body: object = None, *, user: tuple[str, str] | None = None
    ) -> httpx.Response:
        """Send one request as admin, or as another user."""
        return self.http.request(
            method,
            path,
            json=body,
            headers={"Content-Type": MEDIA_TYPE},
            auth=user or ("admin", self.admin_password),
        )

    def done(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send one request, follow its task to the end, and fail when it was refused."""
        response = self.finished(self.call(method, path, body))
        assert response.status_code < 400, f"{method} {path}: {response.text}"
        return response

    def get(self, path: str) -> Any:
        """Return the body of a resource."""
        return self.done("GET", path).json()

    def finished(self, response: httpx.Response, *, afterwards: str = "") -> httpx.Response:
        """Return the answer, or, of a task, its response when it has ended; start it if it waits.

        A task's last state must say the same as its response.  `afterwards` is the password of
        admin once the task has made another one valid.
        """
        task = response.headers.get("Location", "")
        if response.status_code >= 400 or not task.startswith("/tasks/"):
            return response
        if response.content and response.json()["state"] == "Waiting":
            started = self.call("POST", f"{task}/actions/start")
            assert started.status_code == 202, started.text
        ended: list[httpx.Response] = []

        def over() -> bool:
            ended[:] = [self.call("GET", task)]
            if ended[0].status_code == 401 and afterwards:
                self.admin_password = afterwards
                return False
            return ended[0].status_code != 200

        assert wait_until(over, TASK_SECONDS), f"{task} did not end: {ended[0].text}"
        outcome = self.call("GET", f"{task}/response")
        if outcome.status_code == 401 and afterwards:
            self.admin_password = afterwards
            outcome = self.call("GET", f"{task}/response")
        state = self.task(task, afterwards)["state"]
        assert state == ("Finished" if outcome.status_code < 400 else "Error"), outcome.text
        return outcome

    def task(self, url: str, afterwards: str = "") -> dict[str, Any]:
        """Return a task as the list of tasks shows it."""
        listed = self.call("GET", "/tasks")
        if listed.status_code == 401 and afterwards:
            self.admin_password = afterwards
            listed = self.call("GET", "/tasks")
        tasks: list[dict[str, Any]] = listed.json()["tasks"]
        return next(task for task in tasks if task["instance"] == url)

    def login(self, user: str, password: str) -> int:
        """Return the status of a call that everybody may make for oneself."""
        return self.call("GET", f"/users/{user}", user=(user, password)).status_code

    # ---- the cluster

    def co(self, *, label: bool = True, password: str = "") -> list[dict[str, str]]:
        """Return the credential of the CO of this appliance's partition."""
        entry = {"type": "CO", "password": password or self.passwords.co}
        return [{**entry, "partitionLabel": PARTITION} if label else entry]

    def cluster(self) -> str:
        """Return the cluster's path, seen from here."""
        (found,) = self.get("/api/clusters")["data"]
        return f"/api/clusters/{found['clusterUUID']}"

    def members(self) -> dict[str, Member]:
        """Return the members by their addresses, seen from here."""
        listed: list[Member] = self.get(f"{self.cluster()}/members")["data"]
        return {member["ipAddress"]: member for member in listed}

    def member(self, other: Appliance | None = None) -> Member:
        """Return a member, this one or another, as this one shows it."""
        shown: Member = self.get(self.members()[(other or self).address]["url"])
        return shown

    def join_request(self, at: Appliance, **changes: object) -> dict[str, object]:
        """Return the body of a join at another appliance."""
        usual: dict[str, object] = {
            "action": "join",
            "authentication": self.co(),
            "remoteClusterIpAddress": at.address,
            "remoteAdminPassword": at.admin_password,
        }
        return usual | changes

    def join(self, at: Appliance) -> httpx.Response:
        """Join the cluster of another appliance; return the first answer when all is done."""
        answer = self.call("PUT", at.cluster(), self.join_request(at))
        # From the end of the join on the cluster's users hold here.
        outcome = self.finished(answer, afterwards=at.admin_password)
        assert outcome.status_code < 400, outcome.text
        self.takes_over_admin(at)
        return answer

    def takes_over_admin(self, at: Appliance) -> None:
        """Wait until the cluster's password of admin is this appliance's."""
        wanted = at.admin_password
        if self.admin_password != wanted:
            own = ("admin", self.admin_password)
            assert wait_until(
                lambda: self.call("GET", "/users/admin", user=own).status_code == 401,
                TASK_SECONDS,
            )
            self.admin_password = wanted

    def leave(self) -> None:
        """Leave the cluster."""
        body = {"action": "leave", "authentication": self.co()}
        self.done("PATCH", self.member()["url"], body)

    def delete(self, url: str, **changes: object) -> httpx.Response:
        """Ask this appliance to delete another member."""
        return self.call("DELETE", url, {"authentication": self.co(label=False), **changes})

    def factory_reset(self) -> None:
        """Reset the cluster service, name the core address again, and start, at each boot too."""
        self.done("POST", f"{SERVICE}/actions/factoryreset")
        self.done("PATCH", SERVICE, {"onBoot": True})
        self.done("PUT", "/api/cluster/config", {"service": "core", "IpAddress": self.address})
        self.done("POST", f"{SERVICE}/actions/start")

    def make_keyring(self, label: str) -> Member:
        """Make a keyring here."""
        body = {
            "authentication": self.co(),
            "keyRingLabel": label,
            "keyRingPassword": KEYRING_PASSWORD,
        }
        made: Member = self.done("POST", "/api/keyrings", body).json()["data"][0]
        return made

    def keyrings(self) -> dict[str, str]:
        """Return the keyrings' ids by label, seen from here."""
        listed = self.get("/api/keyrings")["data"]
        return {each["keyRingLabel"]: each["keyRingUUID"] for each in listed}


@dataclass(repr=False)
class Street:
    """Appliances of which some are one cluster; `members` tells which are meant to be."""

    directory: Path
    appliances: list[Appliance] = field(default_factory=list)
    members: list[Appliance] = field(default_factory=list)

    def build(self, domain: str) -> Appliance:
        """Make one more appliance without cluster."""
        made = Appliance.prepared(self.directory / f"a{len(self.appliances) + 1}", domain)
        self.appliances.append(made)
        return made

    def all_read_write(self) -> bool:
        """Tell whether every member sees every member Read-Write, and the same primary."""
        addresses = {each.address for each in self.members}
        primaries = set()
        for each in self.members:
            seen = each.members()
            if set(seen) != addresses or not all(map(serves, seen.values())):
                return False
            primaries |= {address for address, member in seen.items() if member["primaryNode"]}
        return len(primaries) == 1

    def settle(self) -> None:
        """Wait until the cluster is whole, or fail and say how it looks."""
        views: list[object] = []

        def whole() -> bool:
            try:
                return self.all_read_write()
            except AssertionError as refused:  # a member that starts refuses calls
                views[:] = [str(refused)]
                return False

        if not wait_until(whole, SETTLE_SECONDS):
            brief = [
                {address: member["mode"] for address, member in each.members().items()}
                for each in self.members
                if each.daemon.process.poll() is None
            ]
            raise AssertionError(f"The cluster did not settle: {brief} {views}")

    def primary(self) -> Appliance:
        """Return the primary as the first member sees it."""
        seen = self.members[0].members()
        return next(each for each in self.members if seen[each.address]["primaryNode"])

    def others(self, *but: Appliance) -> list[Appliance]:
        """Return the members that are not primary, in the order in which they joined."""
        primary = self.primary()
        return [each for each in self.members if each is not primary and each not in but]


def serves(member: Member) -> bool:
    """Tell whether a member is shown as one that does everything."""
    shown = (member["mode"], member["visibleToServicingNode"], member["memberActive"])
    return shown == ("Read-Write", True, True)


def cluster_of(built: Street, count: int, domain: str = "Domain-of-the-cluster") -> Appliance:
    """Let a street have one cluster of so many members; return the first."""
    first, *joiners = [built.build(domain) for _ in range(count)]
    create_cluster(first)
    built.members.append(first)
    for joiner in joiners:
        joiner.join(first)
        built.members.append(joiner)
        built.settle()
    return first


def create_cluster(first: Appliance) -> Member:
    """Create a cluster and authorize its member; return how it was listed before that."""
    so = [{"type": "SO", "password": first.passwords.hsm_so}]
    first.done("POST", "/api/clusters", {"authentication": so, "clusterLabel": "myNewCluster"})
    members = f"{first.cluster()}/members"
    (member,) = first.get(members)["data"]
    body = {"action": "authorize", "authentication": first.co()}
    first.done("PUT", f"{members}/{member['memberUUID']}", body)
    before: Member = member
    return before


@contextmanager
def street(directory: Path) -> Iterator[Street]:
    """Yield a street without appliances, and end whatever was built in it."""
    built = Street(directory)
    try:
        yield built
    finally:
        for each in built.appliances:
            each.daemon.process.kill()  # an orderly stop of all takes long and is tested elsewhere
        for each in built.appliances:
            each.close()


# ---------------------------------------------------------------- a client


class Registered:
    """A client of its own, registered at a member, with a keyring and a key pair in it."""

    def __init__(self, directory: Path, at: Appliance) -> None:
        self.options = DemoOptions(directory=directory)
        directory.mkdir(mode=0o700)
        cluster = at.cluster()
        client_steps.register(
            self.options,
            _SILENT,
            address=at.address,
            cluster_id=cluster.rpartition("/")[2],
            fingerprint=at.get("/api/cluster/ca")["fingerprint"],
            admin_password=at.admin_password,
        )
        self.environment = client_steps.client_environment(self.options)
        first = Passwords(first_krso=KEYRING_PASSWORD)
        (self.keyring,) = client_steps.set_up_roles(
            self.options, _SILENT, first, [at.make_keyring(directory.name)]
        )
        with Client.from_environment(self.environment) as client:
            self.public, self.private = new_pair(log_in(client, self.keyring))

    def forget_members(self) -> None:
        """Remove what the module keeps of the members."""
        for hints in self.options.client_dir.rglob("*.members"):
            hints.unlink()

    def point_at(self, entry: Appliance, *, direct: bool) -> None:
        """Name another entry member, and say whether others may be used directly."""
        path = self.options.client_dir / configuration.FILE_NAME
        entries = {
            "LNHServer00": f"{entry.address}:{CRYPTO_PORT}",
            "LNHDirect": str(int(direct)),
        }
        document = configuration.read_document(path)
        edited = configuration.set_entries(document, "LunaSA Client", entries)
        configuration.write_document(edited, path)


class Signer:
    """A registered client in a thread of its own that signs all the time."""

    def __init__(self, directory: Path, at: Appliance) -> None:
        registered = Registered(directory, at)
        self.keyring = registered.keyring
        self.public, self._private = registered.public, registered.private
        self.client = Client.from_environment(registered.environment)
        self.session = log_in(self.client, self.keyring)
        self.count = 0
        self.failures: list[Exception] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(SETTLE_SECONDS)
        self.client.close()

    def goes_on(self) -> None:
        """Wait until a few more signatures were made, all so far without a failure."""
        wanted = self.count + 5
        assert wait_until(lambda: self.count >= wanted or bool(self.failures), SETTLE_SECONDS)
        assert self.failures == []

    def _run(self) -> None:
        while not self._ended.is_set():
            data = str(self.count).encode()
            try:
                signature = self.session.sign(self._private, Ckm.ECDSA_SHA256, data)
                check(self.public, signature, data)
            except Exception as failure:  # noqa: BLE001 - told by goes_on
                self.failures.append(failure)
                return
            self.count += 1


def log_in(client: Client, keyring: KeyringRow) -> KeyringSession:
    """Log the KRCO in."""
    session = client.open(client.token(keyring.label))
    session.login(Role.KRCO, keyring.pin.encode())
    return session


def new_pair(session: KeyringSession) -> tuple[ec.EllipticCurvePublicKey, bytes]:
    """Make an EC key pair in a keyring; return the public key and the private one's reference."""
    common: dict[int, Value] = {Cka.TOKEN: True, Cka.LABEL: KEY_LABEL, Cka.ID: "1"}
    public, private = session.generate_key_pair(
        Ckm.EC_KEY_PAIR_GEN,
        template({**common, Cka.EC_PARAMS: P256, Cka.VERIFY: True}),
        template({**common, Cka.PRIVATE: True, Cka.SIGN: True}),
    )
    encoded = session.attributes(public.reference, [Cka.EC_POINT])[Cka.EC_POINT]
    assert encoded is not None
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded[2:])
    return key, private.reference


def check(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Verify a signature outside of Conclave."""
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
