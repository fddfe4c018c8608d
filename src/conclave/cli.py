"""The command `conclave`: appliances, the client's files, and the demonstration."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import click
import msgspec

from conclave import __version__
from conclave.audit.command import audit_command
from conclave.errors import ConclaveError
from conclave.settings import ApplianceConfig, load_config

STATE_OPTION = click.option(
    "--state",
    "state_dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The appliance's state directory.",
)

CONFIG_OPTION = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the settings from this file instead of the defaults.",
)
HOST_NAME_OPTION = click.option("--host-name", help="The appliance's host name.")
INTERFACE_OPTION = click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="DEVICE=ADDRESS",
    help="A network device and its address; may be repeated.",
)


class _Commands(click.Group):
    """A group that prints our refusals as one line and loads distant commands when asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a refusal ends it with status 1."""
        try:
            return super().invoke(ctx)
        except ConclaveError as refusal:
            raise click.ClickException(refusal.message) from refusal


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="conclave")
def main() -> None:
    """Conclave, a software HSM cluster."""


@main.group()
def appliance() -> None:
    """Make and run an appliance."""


@appliance.command("init")
@STATE_OPTION
@CONFIG_OPTION
@HOST_NAME_OPTION
@INTERFACE_OPTION
def appliance_init(
    state_dir: Path, config_file: Path | None, host_name: str | None, interfaces: tuple[str, ...]
) -> None:
    """Make the state directory of a new appliance: settings, HSM, webserver certificate."""
    from conclave.appliance.initialize import initialize_appliance

    config = _chosen_config(state_dir, config_file, host_name, interfaces)
    serial = initialize_appliance(config)
    click.echo(f"Appliance made in {config.state_dir}; its HSM has the serial number {serial}.")


@appliance.command("run")
@STATE_OPTION
def appliance_run(state_dir: Path) -> None:
    """Run the appliance in the foreground until it is told to stop."""
    from conclave.appliance.daemon import run_appliance
    from conclave.appliance.paths import StatePaths

    root = state_dir.absolute()
    # The directory that was named counts: a copied one must not run on its original.
    run_appliance(msgspec.structs.replace(load_config(StatePaths(root).config), state_dir=root))


@appliance.command("install")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Install into this directory instead of onto the host.",
)
@CONFIG_OPTION
@HOST_NAME_OPTION
@INTERFACE_OPTION
def appliance_install(
    root: Path, config_file: Path | None, host_name: str | None, interfaces: tuple[str, ...]
) -> None:
    """Set up a host: account, directories, systemd unit, and the appliance's first state.

    Without --config the host's own name and addresses are taken, and port 22 for LunaSH.
    """
    from conclave.appliance import installation

    config = _chosen_config(Path(installation.STATE), config_file, host_name, interfaces)
    if config_file is None:
        ssh = msgspec.structs.replace(config.ssh, port=installation.SSH_PORT)
        config = msgspec.structs.replace(config, ssh=ssh)
        if host_name is None:
            config = msgspec.structs.replace(config, host_name=socket.gethostname())
        if not interfaces:
            config = msgspec.structs.replace(config, interfaces=installation.host_interfaces())
    made = installation.install(config, root.absolute())
    serial = f"its HSM has the serial number {made.serial}" if made.serial else "as it was"
    click.echo(f"Appliance in {made.state}: {serial}. Unit: {made.unit}.")
    click.echo("Start it with: systemctl start conclave")


@appliance.command("trust")
@STATE_OPTION
@click.argument("key", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def appliance_trust(state_dir: Path, key: Path) -> None:
    """Let the appliance install packages that this public release key has signed."""
    from conclave.appliance.paths import StatePaths
    from conclave.packages.shelf import trust_release_key

    name = trust_release_key(StatePaths(state_dir.absolute()).release_keys, key)
    click.echo(f"The appliance trusts the release key {name}.")


@main.command(
    "package",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def package(ctx: click.Context) -> None:
    """Make and inspect secure packages (.spkg)."""
    from conclave.packages.command import package as package_command

    package_command.main(args=ctx.args, prog_name="conclave package", standalone_mode=False)


main.add_command(audit_command)


@main.group()
def client() -> None:
    """Install what a client needs, and help applications find the PKCS#11 module."""


@client.command("install")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Install into this directory instead of onto the host.",
)
def client_install(root: Path) -> None:
    """Install the registration script and the PKCS#11 module; neither needs Python."""
    from conclave.client.installation import install_client

    made = install_client(root.absolute())
    click.echo(f"PKCS#11 module: {made.module}\nRegister with: {made.script}")


@client.command("module-path")
def client_module_path() -> None:
    """Print the path of the PKCS#11 module."""
    from conclave.client.module_path import module_path

    click.echo(str(module_path()))


@main.command(
    "demo",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Set up a complete installation on this machine and sign with it."""
    from conclave.demo.command import demo as demo_command
    from conclave.demo.fault import fault_command

    # A directory of that name is reached as ./fault.
    command, name, words = demo_command, "conclave demo", ctx.args
    if words[:1] == ["fault"]:
        command, name, words = fault_command, "conclave demo fault", words[1:]
    command.main(args=words, prog_name=name, standalone_mode=False)


def _chosen_config(
    state_dir: Path, config_file: Path | None, host_name: str | None, interfaces: tuple[str, ...]
) -> ApplianceConfig:
    root = Path(os.path.abspath(state_dir))  # noqa: PTH100 - the directory need not exist yet
    config = ApplianceConfig(state_dir=root) if config_file is None else load_config(config_file)
    changes: dict[str, Any] = {"state_dir": root}
    if host_name is not None:
        changes["host_name"] = host_name
    if interfaces:
        changes["interfaces"] = dict(_split_interface(entry) for entry in interfaces)
    return msgspec.structs.replace(config, **changes)


def _split_interface(entry: str) -> tuple[str, str]:
    device, separator, address = entry.partition("=")
    if not (device and separator and address):
        message = f"must be DEVICE=ADDRESS; it is {entry!r}"
        raise click.BadParameter(message, param_hint="--interface")
    return device, address


if __name__ == "__main__":
    main()
