"""Run a campaign and write its report: `make campaign NAME=kill`, `fuzz`, `cluster`, ..."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from campaigns import (
    api,
    applications,
    cluster,
    cluster_report,
    conformance,
    core,
    fuzz,
    kill,
)
from campaigns.cluster_faults import TABLE
from tests.support.outages import OUTAGES

REPORTS = Path(__file__).parents[1] / "docs" / "campaigns"


def commit() -> str:
    """Return the commit that is checked out, marked when files differ from it."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def write_report(name: str, lines: list[str]) -> None:
    """Show a report and keep it as the last one of its campaign."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.md").write_text("\n".join(lines))
    click.echo("\n".join(lines))


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
    write_report("kill", lines)
    if not outcome.clean:
        raise click.ClickException("a promise was broken")


@main.command("fuzz")
@click.option("--seconds", default=600, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1))
def fuzz_command(seconds: int, seed: int) -> None:
    """Fuzz the decoders of the worker and of the module, and the readers of administration."""
    if shutil.which("clang") is None:
        raise click.ClickException(
            "the module's fuzzers are built with clang: apt-get install clang libclang-rt-14-dev"
        )
    outcomes = fuzz.run(seconds=seconds, seed=seed, progress=click.echo)
    lines = [
        "# Campaign: fuzz",
        "",
        "Mutated requests of clients and of other members for a worker beside a real member;",
        "libFuzzer with the address and undefined-behaviour sanitizers on what the PKCS#11 module",
        "decodes. The seeds are in `tests/service/seeds`, where each succeeds as it stands, and",
        "`native/pkcs11/fuzz/seeds`. Mutated media types, uploads and signed packages for their",
        "readers, with seeds in `tests/support/input_fuzzer.py`; mutated command lines of LunaSH,",
        "made from the declared commands.",
        "",
        f"- commit {commit()}, seed {seed}; {seconds} s each, the module's wire and config a tenth",
        *(
            f"- {outcome.name}: {outcome.inputs:,} inputs, "
            + ("no finding" if outcome.clean else f"FINDING\n\n```\n{outcome.finding}\n```")
            for outcome in outcomes
        ),
        "",
    ]
    write_report("fuzz", lines)
    if not all(outcome.clean for outcome in outcomes):
        raise click.ClickException("a decoder was broken")


@main.command("api")
@click.option("--examples", default=40, show_default=True, type=click.IntRange(min=1))
@click.option("--seconds", type=click.IntRange(min=1), help="How long calls are made up.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1))
def api_command(examples: int, seconds: int | None, seed: int) -> None:
    """Let schemathesis at a real appliance, over the whole OpenAPI document."""
    at_commit = commit()
    order = api.Order(seed=seed, examples=examples, seconds=7200, budget_seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="conclave-api-") as directory:
        outcomes = asyncio.run(api.run(Path(directory), order))
    write_report("api", api.report(order, outcomes, at_commit))
    if not all(outcome.clean for outcome in outcomes):
        raise click.ClickException("an answer was not what the document says")


@main.command("cluster")
@click.option("--seconds", default=3600, show_default=True, type=click.IntRange(min=1))
@click.option("--faults", default=0, type=click.IntRange(min=0), help="End after so many.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--only", multiple=True, type=click.Choice(list(TABLE)), help="Only these faults.")
@click.option("--write/--no-write", default=True, help="Whether to keep the report.")
def cluster_command(
    seconds: int, faults: int, seed: int, only: tuple[str, ...], *, write: bool
) -> None:
    """Break a cluster of three members again and again, under load."""
    cluster.enter_own_network(click.echo)
    directory = Path(tempfile.mkdtemp(prefix="conclave-cluster-"))
    at_commit = commit()  # others may be checked out before the end

    def keep(outcome: cluster_report.Outcome) -> None:
        lines = cluster_report.report(outcome, at_commit)
        (directory / "report.md").write_text("\n".join(lines))

    click.echo(f"commit {at_commit}, seed {seed}, {directory}")
    order = cluster.Order(seed=seed, seconds=seconds, faults=faults, only=only)
    outcome = cluster.run(directory, order, say=click.echo, keep=keep)
    lines = cluster_report.report(outcome, at_commit)
    keep(outcome)
    if write:
        write_report("cluster", lines)
    else:
        click.echo("\n".join(lines))
    if not outcome.clean:
        raise click.ClickException(f"a promise was broken; the logs are in {directory}")
    shutil.rmtree(directory, ignore_errors=True)


@main.command("applications")
@click.option("--only", multiple=True, type=click.Choice(list(OUTAGES)), help="Only these.")
@click.option("--direct", multiple=True, type=click.Choice(["0", "1"]), default=("1", "0"))
@click.option("--write/--no-write", default=True, help="Whether to keep the report.")
def applications_command(only: tuple[str, ...], direct: tuple[str, ...], *, write: bool) -> None:
    """Let the entry member of applications that sign fail in every way."""
    chosen = [each == "1" for each in direct]
    rows, seconds = applications.run(only=only, direct=chosen, say=click.echo)
    lines = applications.report(rows, seconds, commit())
    if write:
        write_report("applications", lines)
    else:
        click.echo("\n".join(lines))
    if not all(row.clean for row in rows):
        raise click.ClickException("an application noticed an outage")


@main.command("conformance")
@click.option("--seconds", default=900, show_default=True, type=click.IntRange(min=1))
@click.option("--pause", default=5.0, show_default=True, help="Seconds between faults; 0: none.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--write/--no-write", default=True, help="Whether to keep the report.")
def conformance_command(seconds: int, pause: float, seed: int, *, write: bool) -> None:
    """Run others' suites while the entry member of three fails every few seconds."""
    at_commit = commit()
    outcome = conformance.run(conformance.Order(seed, seconds, pause), say=click.echo)
    lines = conformance.report(outcome, at_commit)
    if write:
        write_report("conformance", lines)
    else:
        click.echo("\n".join(lines))
    if not outcome.clean:
        raise click.ClickException("a suite failed")


@main.command("core")
@click.option("--sizes", default=(1, 2), multiple=True, type=click.IntRange(1, 4))
def core_command(sizes: tuple[int, ...]) -> None:
    """Interrupt every change of a cluster twice, on the model."""
    outcome = core.run(sizes, click.echo)
    write_report("core", core.report(outcome, sizes, commit()))
    if outcome.faults:
        raise click.ClickException("a promise was broken")


if __name__ == "__main__":
    main()
