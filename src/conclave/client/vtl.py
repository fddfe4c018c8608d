"""The command `vtl`: what this host is registered with, whether it works, and its entries.

All clusters are asked at the same time, so that one that is away delays nobody by more than some
seconds.  Batches, JSON and statuses are those of the other tools (`conclave.client.tools`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from conclave import faults
from conclave.client import server_entries
from conclave.client.slots import PATIENCE_SECONDS, Clusters, Listing
from conclave.client.tools.batch import read_batch, run_batch
from conclave.client.tools.faces import Outcome, PlainFace, complain, complaint, printable
from conclave.client.tools.grammar import (
    Command,
    Invocation,
    Option,
    command_help,
    find_command,
    read_options,
    text_option,
)
from conclave.client.tools.program import Program, batch_usage
from conclave.client.tools.prompts import Prompts, prompts_of
from conclave.client.tools.statuses import Status, next_step, status_of
from conclave.errors import ConclaveError, NotFound
from conclave.service import wire

COMMANDS: Final = (
    Command(("verify",), ("v",), "ask each cluster for the keyrings that this client reaches"),
    Command(("listServers",), ("ls",), "list the registered clusters; asks none of them"),
    Command(("listSlots",), ("list",), "list slots and labels of the clusters that answer"),
    Command(
        ("addServer",),
        ("as",),
        "write the entries of a cluster that certified this client elsewhere",
        (
            text_option("server", "address:port", "of a member, its crypto port", required=True),
            text_option("certificate", "path", "this client's certificate", required=True),
            text_option("key", "path", "its key", required=True),
            text_option("ca", "path", "the cluster's CA", required=True),
            text_option("cn", "name", "in every member's certificate, if it is not the usual one"),
            text_option("index", "number", "00 to 09; the first that is free by default"),
            Option("force", "f", None, "replace what the index holds"),
        ),
    ),
    Command(
        ("deleteServer",),
        ("ds",),
        "take the entries of a cluster out; its files stay",
        (
            text_option("index", "number", "as listServers shows it", required=True),
            Option("force", "f", None, "do not ask whether to proceed"),
        ),
    ),
    Command(("help",), ("?",), "list the commands, or explain one"),
)


def main() -> NoReturn:
    """Run vtl and end the process with its status."""
    Program("vtl", lambda: f"{batch_usage('vtl')}\n{help_text(())}", run).main()


def run(arguments: Sequence[str]) -> int:
    """Run vtl with these arguments and return its exit status."""
    if not arguments and sys.stdin.isatty():
        arguments = ("help",)
    try:
        return run_batch(
            Verifier(os.environ, prompts_of(sys.stdin)), read_batch(arguments), PlainFace()
        )
    except ConclaveError as error:
        complain(complaint(error))
        return status_of(error)


class Verifier:
    """One run of vtl."""

    def __init__(self, environment: Mapping[str, str], prompts: Prompts) -> None:
        self._environment = environment
        self._prompts = prompts

    def parse(self, words: Sequence[str]) -> Invocation:
        """Return what the words ask for; raise BadInput naming the nearest command."""
        command = command_of(words[0])
        if command.name == "help":
            return Invocation(command, rest=tuple(words[1:]))
        return Invocation(command, read_options(command, words[1:]))

    def carry_out(self, invocation: Invocation) -> Outcome:
        """Ask the clusters, or only the file that names them."""
        name = invocation.command.name
        if name == "help":
            text = help_text(invocation.rest)
            return Outcome(text, {"text": text})
        if name == "addServer":
            return server_entries.add_server(invocation.values, self._environment)
        if name == "deleteServer":
            return server_entries.delete_server(invocation.values, self._environment, self._prompts)
        clusters = Clusters.from_environment(self._environment)
        if name == "listServers":
            return servers(clusters.registered())
        try:
            listings = clusters.listings(grace_seconds=PATIENCE_SECONDS)
        finally:
            clusters.close()
        return verified(listings) if name == "verify" else slots(listings)


def command_of(word: str) -> Command:
    """Return the command of a word; raise BadInput naming the nearest one."""
    return find_command(COMMANDS, word, f"There are {', '.join(row.name for row in COMMANDS)}.")


def help_text(words: Sequence[str]) -> str:
    """Return the list of commands, or one command's options; raise BadInput for no command."""
    return command_help("vtl", COMMANDS, words)


def servers(listings: Sequence[Listing]) -> Outcome:
    """Return the registered clusters, with what is wrong with the entries of one."""
    lines = [f"Server: {each.index:02}  {each.where}" for each in listings]
    data = [_cluster_data(each) for each in listings]
    broken = any(each.error for each in listings)
    status = Status.NOT_CONFIGURED if broken else Status.SUCCEEDED
    return Outcome("\n".join(lines), {"clusters": data}, status, _complaints(listings))


def verified(listings: Sequence[Listing]) -> Outcome:
    """Return the keyrings that were found, and each cluster that does not answer or has none."""
    silent = [each for each in listings if each.error]
    tokens = [token for each in listings for token in each.tokens]
    if not tokens and not silent:
        message = (
            "Every registered cluster answers, but this client finds no keyring; an administrator"
            " creates one with keyring create."
        )
        raise NotFound(faults.SLOT_NOT_FOUND, message)
    empty = [
        f"Cluster {each.index:02} ({each.where}) answers and has no keyring for this client."
        for each in listings
        if not each.error and not each.tokens
    ]
    data = {"clusters": [{**_cluster_data(each), **_tokens_data(each)} for each in listings]}
    text = slot_table(tokens) if tokens else ""
    return Outcome(text, data, _status(silent), (*_complaints(listings), *empty))


def slots(listings: Sequence[Listing]) -> Outcome:
    """Return one line for each slot."""
    tokens = [token for each in listings for token in each.tokens]
    data = {"slots": [row for each in listings for row in _tokens_data(each)["slots"]]}
    silent = [each for each in listings if each.error]
    return Outcome(slot_lines(tokens), data, _status(silent), _complaints(listings))


def slot_table(tokens: Sequence[wire.Token]) -> str:
    """Return what `verify` says of the keyrings that it found."""
    rows = [
        f"{token.slot:>4}    {token.serial:>16}    {printable(token.label)}" for token in tokens
    ]
    head = (
        "The following Conclave Slots/Keyrings were found:\n\n"
        "Slot    Serial #            Label\n"
        "====    ================    =====\n"
    )
    return head + "\n".join(rows)


def slot_lines(tokens: Sequence[wire.Token]) -> str:
    """Return how many slots there are, and each with its label."""
    lines = [f"Slot #{token.slot}: {printable(token.label)}" for token in tokens]
    return "\n".join([f"Number of slots: {len(tokens)}", *lines])


def _status(silent: Sequence[Listing]) -> Status:
    statuses = [status_of(each.error) for each in silent if each.error]
    return statuses[0] if statuses else Status.SUCCEEDED


def _complaints(listings: Sequence[Listing]) -> tuple[str, ...]:
    lines = []
    for each in listings:
        if each.error:
            lines.append(f"Cluster {each.index:02} ({each.where}) fails: {each.error.message}")
            lines.append(f"    {_advice(each.error)}")
    return tuple(line for line in lines if line.strip())


def _advice(error: ConclaveError) -> str:
    """Return what to do next, by somebody who is looking which clusters answer already."""
    if error.fault is faults.UNABLE_TO_CONNECT:
        return "Does the network let this host through to that port, and is the member running?"
    return next_step(error)


def _cluster_data(listing: Listing) -> dict[str, Any]:
    error = listing.error
    told = {"error": error.message, "next": _advice(error)} if error else {}
    return {"index": listing.index, "entry": listing.where, "ok": error is None, **told}


def _tokens_data(listing: Listing) -> dict[str, Any]:
    rows = [
        {"slot": token.slot, "label": token.label, "serial": token.serial, "keyringId": id_text}
        for token in listing.tokens
        for id_text in (token.keyring_id.hex(),)
    ]
    return {"slots": rows}


if __name__ == "__main__":
    main()
