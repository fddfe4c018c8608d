"""Run a campaign and write its report: `make campaign NAME=kill`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from campaigns import kill

REPORTS = Path(__file__).parents[1] / "docs" / "campaigns"


def commit() -> str:
    """Return the commit that is checked out, marked when files differ from it."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@click.group()
def main() -> None:
    """Long runs with counts that must come out clean."""


@main.command("kill")
@click.option("--kills", default=500, show_default=True)
@click.option("--seed", default=1, show_default=True)
def kill_command(kills: int, seed: int) -> None:
    """Kill workers, cluster process, login process and daemon under load."""
    directory = Path(tempfile.mkdtemp(prefix="conclave-kill-"))
    try:
        outcome = kill.run(directory / "demo", kills=kills, seed=seed, progress=click.echo)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    lines = [
        "# Campaign: kill",
        "",
        "`kill -9` at random moments under a load of creates and signatures through one",
        "application that never calls C_Finalize.",
        "",
        f"- commit {commit()}, seed {outcome.seed}",
        f"- kills: {sum(outcome.kills.values())} " + str(dict(sorted(outcome.kills.items()))),
        f"- acknowledged keys: {outcome.acknowledged}, missing: {outcome.missing}, "
        f"changed: {outcome.changed}",
        f"- verified signatures: {outcome.signatures}, wrong: {outcome.wrong}",
        f"- longest time without work: {outcome.longest_recovery_seconds:.1f} s",
        f"- faults that the application saw: {dict(sorted(outcome.faults.items()))}",
        "",
    ]
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "kill.md").write_text("\n".join(lines))
    click.echo("\n".join(lines))
    if not outcome.clean:
        raise click.ClickException("a promise was broken")


if __name__ == "__main__":
    main()
