"""The command `vtl`: what this host is registered with, and whether it works.

Ends with 0, with 1 when a cluster does not answer or nothing is there, with 2 when the client is
not configured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from conclave import __version__, faults
from conclave.client.clusters import ClusterEntry, registered_clusters
from conclave.client.configuration import configuration_path, read_document
from conclave.client.lunacm.main import FAILED, NOT_CONFIGURED, SUCCEEDED
from conclave.client.lunacm.render import complaint
from conclave.client.session import Client
from conclave.errors import BadInput, ConclaveError, NotFound
from conclave.service import wire
from conclave.shell_words import nearest

USAGE: Final = """    verify         show the keyrings that this client reaches
    listServers    show the clusters that this client is registered with
    listSlots      show slots and labels (also: list)"""


def main() -> None:
    """Run vtl and end the process with its status."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run vtl with these arguments and return its exit status."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        sys.stdout.write(f"vtl (Conclave) v{__version__}\n\n{USAGE}\n")
        return SUCCEEDED
    try:
        command = command_of(arguments)
        entries = registered_clusters(read_document(configuration_path(environment)))
    except ConclaveError as error:
        sys.stderr.write(complaint(error) + "\n")
        return FAILED if error.fault is faults.COMMAND_LINE else NOT_CONFIGURED
    try:
        if not entries:
            message = "There are no registered servers; use LNHClientRegistration.sh."
            raise NotFound(faults.CLIENT_CONFIGURATION, message)
        sys.stdout.write(command(entries, environment) + "\n")
    except (KeyboardInterrupt, BrokenPipeError):
        return FAILED
    except ConclaveError as error:
        sys.stderr.write(complaint(error) + "\n")
        return FAILED
    return SUCCEEDED


Command = Callable[[Sequence[ClusterEntry], Mapping[str, str]], str]


def command_of(arguments: Sequence[str]) -> Command:
    """Return the command of these words; raise BadInput naming the nearest one."""
    commands: dict[str, Command] = {
        "verify": _verify,
        "listservers": _list_servers,
        "listslots": _list_slots,
        "list": _list_slots,
    }
    command = commands.get(arguments[0].lower())
    if command is None:
        near = nearest(arguments[0], list(commands))
        hint = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(commands)}."
        raise BadInput(faults.COMMAND_LINE, f"There is no such command. {hint}")
    if len(arguments) > 1:
        raise BadInput(faults.COMMAND_LINE, f"vtl {arguments[0].lower()} takes no options.")
    return command


def server_lines(entries: Sequence[ClusterEntry]) -> str:
    """Return one line for each registered cluster."""
    return "\n".join(f"Server: {entry.index:02}  {entry.host}:{entry.port}" for entry in entries)


def slot_table(tokens: Sequence[wire.Token]) -> str:
    """Return what `verify` says of the keyrings that it found."""
    rows = [f"{token.slot:>4}    {token.serial:>16}    {token.label}" for token in tokens]
    head = (
        "The following Conclave Slots/Keyrings were found:\n\n"
        "Slot    Serial #            Label\n"
        "====    ================    =====\n"
    )
    return head + "\n".join(rows)


def slot_lines(tokens: Sequence[wire.Token]) -> str:
    """Return one line for each slot."""
    lines = [f"Slot #{token.slot}: {token.label}" for token in tokens]
    return "\n".join([f"Number of slots: {len(tokens)}", *lines])


def _verify(_entries: Sequence[ClusterEntry], environment: Mapping[str, str]) -> str:
    tokens = _tokens(environment)
    if not tokens:
        message = "The cluster answers, but this client finds no keyring in it."
        raise NotFound(faults.SLOT_NOT_FOUND, message)
    return slot_table(tokens)


def _list_slots(_entries: Sequence[ClusterEntry], environment: Mapping[str, str]) -> str:
    return slot_lines(_tokens(environment))


def _list_servers(entries: Sequence[ClusterEntry], _environment: Mapping[str, str]) -> str:
    return server_lines(entries)


def _tokens(environment: Mapping[str, str]) -> list[wire.Token]:
    with Client.from_environment(environment) as client:
        return client.tokens()


if __name__ == "__main__":
    main()
