"""Measure Conclave against SoftHSM2, alternately, in one run: `make bench`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from bench.cases import CASES, Case
from bench.report import Row, Run, complaints, neighbours, summarise, table

SOFTHSM_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
)
SOURCES = Path(__file__).with_name("p11bench")


@dataclass(frozen=True, slots=True)
class Target:
    """A module with one usable token."""

    name: str
    module: str
    token_label: str
    pin: str
    environment: Mapping[str, str]


def build(directory: Path) -> Path:
    """Compile p11bench and return the program's path."""
    program = directory / "p11bench"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "p11-kit-1"], check=True, capture_output=True, text=True
    ).stdout.split()
    command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-pthread", *flags]
    command += [str(path) for path in sorted(SOURCES.glob("*.c"))]
    subprocess.run([*command, "-o", str(program), "-lcrypto", "-ldl", "-lm"], check=True)
    return program


def softhsm(directory: Path) -> Target:
    """Make a SoftHSM2 token of its own below `directory`."""
    module = next((path for path in SOFTHSM_MODULES if Path(path).exists()), None)
    if module is None:
        raise click.ClickException("SoftHSM2 is not installed: run `make setup`")
    tokens = directory / "softhsm-tokens"
    tokens.mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    pin = "bench-pin-1234"
    subprocess.run(
        [
            *("softhsm2-util", "--init-token", "--free", "--label", "bench"),
            *("--so-pin", "bench-so-1234", "--pin", pin),
        ],
        check=True,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    return Target("SoftHSM2", module, "bench", pin, environment)


@contextmanager
def conclave(directory: Path) -> Iterator[Target]:
    """Run a Conclave installation of its own below `directory`."""
    state, document = directory / "conclave", directory / "conclave.json"
    program = [sys.executable, "-m", "conclave.cli", "demo", str(state)]
    click.echo("starting a cluster of one member ...", err=True)
    subprocess.run(
        [*program, "--max-objects", "0", "--detach", "--json", str(document)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        demo = json.loads(document.read_text())
        keyring = demo["keyrings"][0]
        client = demo["client"]
        yield Target(
            "Conclave", client["module"], keyring["label"], keyring["pin"], client["environment"]
        )
    finally:
        subprocess.run([*program[:-1], "--stop", str(state)], check=True, stdout=subprocess.DEVNULL)


def measure(program: Path, target: Target, case: Case, seconds: float) -> Run:
    """Run p11bench once."""
    outcome = subprocess.run(
        [
            *(str(program), "--module", target.module, "--token-label", target.token_label),
            *("--pin-env", "BENCH_PIN", "--op", case.operation, "--threads", str(case.threads)),
            *("--seconds", str(seconds), *case.arguments),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **target.environment, "BENCH_PIN": target.pin},
        timeout=120 + seconds,
    )
    if not outcome.stdout.strip():
        raise click.ClickException(
            f"{target.name}, {case.name}: no result. {outcome.stderr.strip()}"
        )
    return Run.from_json(json.loads(outcome.stdout))


def compare(
    program: Path, ours: Target, peer: Target, case: Case, *, repeats: int, seconds: float
) -> tuple[Row, list[str]]:
    """Run one case alternately and return its row and what is wrong with it."""
    mine, others = [], []
    for _ in range(repeats):
        mine.append(measure(program, ours, case, seconds))
        others.append(measure(program, peer, case, seconds))
    return summarise(case, mine, others), complaints(case, [*mine, *others])


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Alternated pairs per case.")
@click.option("--seconds", default=1.0, show_default=True, help="Measured time of a run.")
@click.option("--only", multiple=True, help="Only operations of this name; may be repeated.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
def main(repeats: int, seconds: float, only: tuple[str, ...], json_file: Path | None) -> None:
    """Compare Conclave over loopback mutual TLS with SoftHSM2 in process, on the same cores."""
    cases = [case for case in CASES if not only or case.operation in only]
    directory = Path(tempfile.mkdtemp(prefix="conclave-bench-"))
    rows: list[Row] = []
    wrong: list[str] = []
    try:
        program = build(directory)
        peer = softhsm(directory)
        with conclave(directory) as ours:
            for case in cases:
                click.echo(f"{case.name} ...", err=True)
                row, problems = compare(program, ours, peer, case, repeats=repeats, seconds=seconds)
                rows.append(row)
                wrong += problems
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    click.echo(table(rows))
    if json_file is not None:
        json_file.write_text(
            json.dumps(
                [
                    {"case": r.case.name, "ours": r.ours, "peer": r.peers, "ratio": r.ratio}
                    | {"p99_ratio": r.p99_ratio, "p99_us": r.ours_p99_us, "holds": r.holds}
                    for r in rows
                ],
                indent=1,
            )
        )
    wrong += neighbours(rows)
    if wrong:
        raise click.ClickException("these figures cannot be believed:\n  " + "\n  ".join(wrong))
    if any(row.holds is False for row in rows):
        raise SystemExit(2)


if __name__ == "__main__":
    main()
