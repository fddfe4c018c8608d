"""The steps from nothing to a signature, and from a stopped installation to a running one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from conclave.client.module_path import module_path
from conclave.demo import appliance_steps as appliance
from conclave.demo import client_steps as client
from conclave.demo.appliance_steps import Passwords
from conclave.demo.daemon import Daemon, process_ids, ready_facts
from conclave.demo.document import ClientRow, DemoDocument, KeyringRow, MemberRow
from conclave.demo.errors import step_failed
from conclave.demo.narrator import Narrator
from conclave.demo.options import DemoOptions, free_loopback_address
from conclave.demo.rest import RestClient

Start = Callable[[], Daemon]
REST_PORT = 8443


def build(options: DemoOptions, narrator: Narrator, start: Start) -> DemoDocument:
    """Build a new installation and return its description."""
    module = module_path()
    passwords = Passwords()
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    address = free_loopback_address()
    with narrator.step("guide chapter 2", "Make an appliance, cluster service preinstalled"):
        appliance.make_appliance(options, address, narrator)
        daemon = start()
        narrator.detail(f"REST at https://{address}:{REST_PORT}, process {daemon.process.pid}")
    rest = appliance.rest_client(options, address, REST_PORT, narrator)
    try:
        cluster_id, member, keyrings = _administer(options, narrator, rest, passwords, address)
        fingerprint = rest.get("/api/cluster/ca")["fingerprint"]
    finally:
        rest.close()
    with narrator.step("guide chapter 4", "Register this machine as a client"):
        client.register(
            options,
            narrator,
            address=address,
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
        ca_file=str(appliance.ca_file(options)),
        members=[_member_row(options, member, daemon)],
        client=ClientRow(module=str(module), environment=client.client_environment(options)),
        keyrings=rows,
    )


def _administer(
    options: DemoOptions,
    narrator: Narrator,
    rest: RestClient,
    passwords: Passwords,
    address: str,
) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Do what administrators do; return cluster id, member and keyrings."""
    with narrator.step("guide chapter 2", "Change the administrator's first password, log in"):
        appliance.log_in(rest, passwords)
    with narrator.step("guide chapter 2", "Initialise the HSM"):
        hsm = appliance.initialize_hsm(rest, passwords)
    with narrator.step("guide chapter 2", "Make the V1 partition, its roles, policy 40 off"):
        appliance.make_partition(rest, hsm, passwords)
    with narrator.step("guide chapter 2", "Configure and start the cluster service"):
        appliance.start_service(rest, options, address)
    with narrator.step("guide chapter 3", "Create a cluster"):
        cluster_id = appliance.create_cluster(rest, passwords)
    with narrator.step("guide chapter 3", "Authorize its member"):
        member = appliance.authorize(rest, cluster_id, passwords.co)
    with narrator.step("guide chapter 5", f"Create {options.keyrings} keyring(s)"):
        keyrings = appliance.create_keyrings(rest, passwords, options.keyrings)
    return cluster_id, member, keyrings


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
    row = document.members[0]
    if Path(row.state_dir) != options.state_dir:
        message = f"The installation was moved: its state was in {row.state_dir}."
        raise step_failed(message)
    with narrator.step("guide chapter 2", "Start the appliance"):
        daemon = start()
    rest = appliance.rest_client(options, row.address, row.rest_port, narrator)
    try:
        with narrator.step("guide chapter 3", "Authorize the member again, as after each restart"):
            rest.use_password(appliance.ADMIN, document.admin_password)
            rest.open_session()
            rest.call("POST", f"{appliance.SERVICE}/actions/start", {})
            member = appliance.authorize(rest, document.cluster_id, document.co_password)
    finally:
        rest.close()
    with narrator.step("any PKCS#11 application", "Sign with the keys, verify with OpenSSL"):
        client.sign_and_verify(options, narrator, document.keyrings[0])
    return msgspec.structs.replace(document, members=[_member_row(options, member, daemon)])


def _member_row(options: DemoOptions, member: dict[str, Any], daemon: Daemon) -> MemberRow:
    facts = ready_facts(options.state_dir)
    return MemberRow(
        member_id=member["memberUUID"],
        name=member["memberName"],
        address=member["ipAddress"],
        rest_port=REST_PORT,
        admin_port=member["adminPort"],
        crypto_port=member["cryptoPort"],
        ssh_port=None,
        hsm_serial=str(facts["hsmSerial"]),
        state_dir=str(options.state_dir),
        pids=process_ids(daemon.process.pid),
    )
