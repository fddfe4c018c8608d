"""The command `conclave audit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click


@click.group("audit")
def audit_command() -> None:
    """Verify the audit log of an appliance."""


@audit_command.command("verify")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--key", default="", metavar="HEX", help="Public key that must have signed the end.")
def verify_command(files: tuple[Path, ...], key: str) -> None:
    """Check that the records of FILES, oldest file first, are whole and unchanged.

    An export ends with a checkpoint, which --key holds against the appliance's public key as
    GET /api/lunasa/audit shows it.
    """
    from conclave.audit.chain import verify

    verdict = verify(_lines(files), trusted_key=key)
    click.echo(
        f"whole: {verdict.records} records, {verdict.first} to {verdict.head.sequence},"
        f" last hash {verdict.head.digest}"
    )
    if verdict.signed_by:
        trust = "as asked for" if key else "compare it with the appliance's"
        click.echo(f"the end is signed with the key {verdict.signed_by} ({trust})")
    else:
        click.echo("the end is not signed: later records may have been cut off")


def _lines(files: tuple[Path, ...]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as stream:
            yield from stream
