"""The steps from nothing to a signature, and from a stopped installation to a running one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from conclave.appliance.paths import StatePaths
from conclave.client.module_path import module_path
from conclave.demo import appliance_steps as appliance
from conclave.demo import client_steps as client
from conclave.demo.appliance_steps import Passwords
from conclave.demo.daemon import Daemon, process_ids
from conclave.demo.document import ClientRow, DemoDocument, KeyringRow, MemberRow
from conclave.demo.errors import step_failed
from conclave.demo.members import (
    Members,
    administrator,
    first_view,
    member_row,
    members_seen,
    table,
    wait_until_read_write,
    write_certificates,
)
from conclave.demo.narrator import Narrator
from conclave.demo.options import DemoOptions, member_addresses
from conclave.demo.release import Release, install, make_release, trust
from conclave.demo.rest import RestClient

Start = Callable[[Path], Daemon]


def build(options: DemoOptions, narrator: Narrator, start: Start) -> DemoDocument:
    """Build a new installation and return its description."""
    with member_addresses(options.members or 1) as addresses:
        return _build_at(addresses, options, narrator, start)


def _build_at(
    addresses: Sequence[str], options: DemoOptions, narrator: Narrator, start: Start
) -> DemoDocument:
    module = module_path()
    passwords = Passwords()
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with narrator.step("guide chapter 2", "Make the secure package of the cluster service"):
        release = make_release(options.directory / "release")
        narrator.detail(f"{release.name}, {len(release.content)} bytes")
    daemons = [_make_and_start(options, narrator, start, release, number=1, addresses=addresses)]
    rest = appliance.rest_client(options.state_dir(1), addresses[0], narrator.detail)
    try:
        _prepare(options, narrator, rest, passwords, release, address=addresses[0])
        with narrator.step("guide chapter 3", "Create a cluster"):
            cluster_id = appliance.create_cluster(rest, passwords, options.engine)
        with narrator.step("guide chapter 3", "Authorize its member"):
            members = [appliance.authorize(rest, cluster_id, passwords.co)]
        fingerprint = rest.get("/api/cluster/ca")["fingerprint"]
        if len(addresses) > 1:
            daemons += _join_the_others(
                options,
                narrator,
                start,
                passwords,
                release,
                cluster_id=cluster_id,
                addresses=addresses,
            )
            places = [
                (daemon.state_dir, address)
                for daemon, address in zip(daemons, addresses, strict=True)
            ]
            members = _settle(narrator, passwords.admin, cluster_id, places)
            write_certificates(options.directory, [daemon.state_dir for daemon in daemons])
        with narrator.step("guide chapter 5", f"Create {options.keyrings} keyring(s)"):
            keyrings = appliance.create_keyrings(rest, passwords, options.keyrings)
    finally:
        rest.close()
    with narrator.step("guide chapter 4", "Register this machine as a client"):
        client.register(
            options,
            narrator,
            address=addresses[0],
            cluster_id=cluster_id,
            fingerprint=fingerprint,
            admin_password=passwords.admin,
        )
    rows = _use(options, narrator, passwords, keyrings)
    return DemoDocument(
        cluster_id=cluster_id,
        partition_label=appliance.PARTITION,
        hsm_so_password=passwords.hsm_so,
        po_password=passwords.po,
        co_password=passwords.co,
        admin_password=passwords.admin,
        ca_file=str(options.ca_file),
        members=_member_rows(addresses, members, daemons),
        client=ClientRow(module=str(module), environment=client.client_environment(options)),
        keyrings=rows,
    )


def _make_and_start(
    options: DemoOptions,
    narrator: Narrator,
    start: Start,
    release: Release,
    *,
    number: int,
    addresses: Sequence[str],
) -> Daemon:
    address = addresses[number - 1]
    title = "Make an appliance that trusts the package's key" + _of(number, addresses)
    with narrator.step("guide chapter 2", title):
        appliance.make_appliance(options, number, address, narrator)
        trust(release, StatePaths(options.state_dir(number)).release_keys)
        daemon = start(options.state_dir(number))
        door = f"https://{address}:{appliance.REST_PORT}"
        narrator.detail(f"REST at {door}, process {daemon.process.pid}")
    return daemon


def _prepare(
    options: DemoOptions,
    narrator: Narrator,
    rest: RestClient,
    passwords: Passwords,
    release: Release,
    *,
    address: str,
    which: str = "",
) -> None:
    """Do what each appliance needs before it can create or join a cluster."""
    with narrator.step("guide chapter 2", "Change the administrator's first password" + which):
        appliance.log_in(rest, passwords)
    with narrator.step("guide chapter 2", "Initialise the HSM" + which):
        hsm = appliance.initialize_hsm(rest, passwords)
    with narrator.step("guide chapter 2", "Install the secure package" + which):
        install(rest, appliance.ADMIN, release)
    with narrator.step("guide chapter 2", "Make the V1 partition, its roles, policy 40 off"):
        appliance.make_partition(rest, hsm, passwords)
    with narrator.step("guide chapter 2", "Configure and start the cluster service" + which):
        appliance.start_service(rest, options, address)


def _join_the_others(
    options: DemoOptions,
    narrator: Narrator,
    start: Start,
    passwords: Passwords,
    release: Release,
    *,
    cluster_id: str,
    addresses: Sequence[str],
) -> list[Daemon]:
    """Make member 2 and those after it, one after another, and let each join at member 1."""
    daemons = []
    for number in range(2, len(addresses) + 1):
        daemons.append(
            _make_and_start(options, narrator, start, release, number=number, addresses=addresses)
        )
        address, which = addresses[number - 1], _of(number, addresses)
        rest = appliance.rest_client(options.state_dir(number), address, narrator.detail)
        try:
            _prepare(options, narrator, rest, passwords, release, address=address, which=which)
            with narrator.step("guide chapter 3", f"Join the cluster at {addresses[0]}{which}"):
                appliance.join(rest, passwords, cluster_id, addresses[0])
        finally:
            rest.close()
    return daemons


def _of(number: int, addresses: Sequence[str]) -> str:
    return f": member {number} of {len(addresses)}" if len(addresses) > 1 else ""


def _settle(
    narrator: Narrator, password: str, cluster_id: str, places: Sequence[tuple[Path, str]]
) -> Members:
    with narrator.step("guide chapter 3", "Wait until every member sees every member Read-Write"):
        return wait_until_read_write(places, password, cluster_id)


def _use(
    options: DemoOptions,
    narrator: Narrator,
    passwords: Passwords,
    keyrings: list[dict[str, Any]],
) -> list[KeyringRow]:
    with narrator.step("guide chapter 5", "Change each KRSO's password, initialise each KRCO"):
        rows = client.set_up_roles(options, narrator, passwords, keyrings)
    with narrator.step("any PKCS#11 application", "Make an RSA and an EC key"):
        client.make_keys(options, narrator, rows[0])
    with narrator.step("any PKCS#11 application", "Sign with them, verify with OpenSSL"):
        client.sign_and_verify(options, narrator, rows[0])
    return rows


def resume(
    options: DemoOptions, narrator: Narrator, document: DemoDocument, start: Start
) -> DemoDocument:
    """Start a stopped installation again and return its description."""
    rows = document.members
    for number, row in enumerate(rows, start=1):
        if Path(row.state_dir) != options.state_dir(number):
            message = f"The installation was moved: its state was in {row.state_dir}."
            raise step_failed(message)
    addresses = [row.address for row in rows]
    daemons = []
    for number, row in enumerate(rows, start=1):
        with narrator.step("guide chapter 2", "Start the appliance" + _of(number, addresses)):
            daemons.append(start(Path(row.state_dir)))
    if len(rows) > 1:
        write_certificates(options.directory, [daemon.state_dir for daemon in daemons])
    present = _members_still(document)
    members = [_authorize_again(narrator, document, present[0])]
    if len(present) > 1:
        places = [(Path(row.state_dir), row.address) for row in present]
        members = _settle(narrator, document.admin_password, document.cluster_id, places)
    with narrator.step("any PKCS#11 application", "Sign with the keys, verify with OpenSSL"):
        client.sign_and_verify(options, narrator, document.keyrings[0])
    known = {member["memberUUID"]: member for member in members}
    renewed = [
        member_row(daemon.state_dir, known[row.member_id], daemon.process.pid)
        if row.member_id in known
        else msgspec.structs.replace(row, pids=process_ids(daemon.process.pid))
        for row, daemon in zip(rows, daemons, strict=True)
    ]
    return msgspec.structs.replace(document, members=renewed)


def _members_still(document: DemoDocument) -> list[MemberRow]:
    """Return the rows of those that did not leave the cluster, the primary first."""
    seen = first_view(document)
    if not seen:
        message = f"None of the appliances is a member of cluster {document.cluster_id} any more."
        raise step_failed(message)
    primary = {member["memberUUID"]: bool(member["primaryNode"]) for member in seen}
    still = [row for row in document.members if row.member_id in primary]
    return sorted(still, key=lambda row: not primary[row.member_id])


def _authorize_again(narrator: Narrator, document: DemoDocument, row: MemberRow) -> dict[str, Any]:
    """Authorize one member; the others get what they need from it by themselves."""
    rest = appliance.rest_client(Path(row.state_dir), row.address, narrator.detail)
    try:
        title = "Authorize the member again, as after each restart"
        with narrator.step("guide chapter 3", title):
            rest.use_password(appliance.ADMIN, document.admin_password)
            rest.open_session()
            return appliance.authorize_again(rest, document.cluster_id, document.co_password)
    finally:
        rest.close()


def _member_rows(
    addresses: Sequence[str], members: Members, daemons: Sequence[Daemon]
) -> list[MemberRow]:
    found = {member["ipAddress"]: member for member in members}
    return [
        member_row(daemon.state_dir, found[address], daemon.process.pid)
        for address, daemon in zip(addresses, daemons, strict=True)
    ]


def members_table(document: DemoDocument) -> str:
    """Return the members as the first one sees them."""
    row = document.members[0]
    with administrator(Path(row.state_dir), row.address, document.admin_password) as rest:
        return table(document, members_seen(rest, document.cluster_id))
