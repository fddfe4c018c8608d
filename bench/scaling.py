"""How the rate grows with threads and with client processes: `python -m bench.scaling`.

One appliance alone with default settings, its clients on the same cores over loopback mutual TLS.
Threads are those of one process; processes have one thread each, all log in first and then begin
at the same moment.  SoftHSM2 in process is measured beside it, alternately, where threads grow.
RSA-2048 is set beside what `openssl speed` makes of all cores, too.  Nothing else should run
meanwhile; a thousand logins take three minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from bench.__main__ import Target, build, conclave, measure, softhsm
from bench.cases import Case

OPERATIONS = ("rsa2048-sign", "p256-sign", "aes-gcm-1k")
THREADS = (1, 2, 4, 8, 16, 32, 64)
PROCESSES = (1, 10, 100, 1000)
OF_PROCESSES = "p256-sign"
REPEATS = 3
READY_SECONDS = 900.0


def openssl_rate(seconds: int = 2) -> float:
    """Return the RSA-2048 signatures a second that all cores make with the machine's OpenSSL."""
    command = ["openssl", "speed", "-mr", "-seconds", str(seconds)]
    outcome = subprocess.run(
        [*command, "-multi", str(os.cpu_count() or 1), "rsa2048"],
        check=True, capture_output=True, text=True, timeout=60 + 4 * seconds,
    )  # fmt: skip
    line = next(line for line in outcome.stdout.splitlines() if line.startswith("+F2:"))
    return float(line.split(":")[3])


def arguments(program: Path, target: Target, operation: str, seconds: float) -> list[str]:
    """Return how one process of one thread is started that waits for its start."""
    return [
        *(str(program), "--module", target.module, "--token-label", target.token_label),
        *("--pin-env", "BENCH_PIN", "--op", operation, "--threads", "1"),
        *("--seconds", str(seconds), "--session-objects", "--wait"),
    ]


@contextmanager
def waiting(command: Sequence[str], target: Target, count: int) -> Iterator[list[Any]]:
    """Start processes that are ready to begin; they begin when their input, given first, closes."""
    reader, writer = os.pipe()
    start = os.fdopen(writer, "wb")
    environment = {**os.environ, **target.environment, "BENCH_PIN": target.pin}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=reader, stdout=subprocess.PIPE, text=True, env=environment
                )
            )
            for _ in range(count)
        ]
        os.close(reader)
        try:
            until = time.monotonic() + READY_SECONDS
            for process in processes:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise click.ClickException("a client process ended before it was ready")
                if time.monotonic() > until:
                    raise click.ClickException("the client processes were not ready in time")
            start.close()
            yield processes
        finally:
            start.close()
            for process in processes:
                process.kill()


def processes_rate(
    program: Path, target: Target, count: int, seconds: float
) -> tuple[float, float]:
    """Return the rate of so many processes together, and their median p99 in us."""
    command = arguments(program, target, OF_PROCESSES, seconds)
    with waiting(command, target, count) as processes:
        documents = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    bad = sum(1 for document in documents if document["ok"] is not True)
    if bad:
        raise click.ClickException(f"{bad} of {count} processes have no verified result")
    rate = sum(document["ops_per_s"] for document in documents)
    return rate, statistics.median(document["p99_us"] for document in documents)


def by_threads(program: Path, ours: Target, peer: Target, operation: str, seconds: float) -> None:
    """Print the row of each number of threads."""
    for threads in THREADS:
        case = Case(operation, threads)
        pairs = [
            (measure(program, ours, case, seconds), measure(program, peer, case, seconds))
            for _ in range(REPEATS)
        ]
        mine = statistics.median(pair[0].operations_per_second for pair in pairs)
        others = statistics.median(pair[1].operations_per_second for pair in pairs)
        ratio = statistics.median(
            pair[0].operations_per_second / pair[1].operations_per_second for pair in pairs
        )
        p99 = statistics.median(pair[0].p99_us for pair in pairs)
        if not all(run.ok for pair in pairs for run in pair):
            raise click.ClickException(f"{case.name}: a run without a verified result")
        click.echo(
            f"| {operation} | {threads} | {mine:,.0f} | {others:,.0f} | {ratio:.2f} | {p99:,.0f} |"
        )


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Measured time of a run.")
@click.option("--processes", "most", default=PROCESSES[-1], show_default=True, help="At most.")
def main(seconds: float, most: int) -> None:
    """Print the three tables of docs/benchmarks.md."""
    with tempfile.TemporaryDirectory(prefix="conclave-scaling-") as name:
        directory = Path(name)
        program, peer = build(directory), softhsm(directory)
        with conclave(directory) as ours:
            click.echo("| operation | threads | Conclave ops/s | SoftHSM2 ops/s | ratio | p99 us |")
            click.echo("|---|---:|---:|---:|---:|---:|")
            for operation in OPERATIONS:
                by_threads(program, ours, peer, operation, seconds)
            limits = []
            for _ in range(REPEATS):
                case = Case("rsa2048-sign", 8)
                rate = measure(program, ours, case, seconds).operations_per_second
                limits.append(rate / openssl_rate())
            click.echo(
                f"\nRSA-2048, 8 threads, to `openssl speed`: {statistics.median(limits):.2f}"
            )
            click.echo(f"\n| client processes | {OF_PROCESSES}, all together, ops/s | p99 us |")
            click.echo("|---:|---:|---:|")
            for count in PROCESSES:
                if count <= most:
                    rate, p99 = processes_rate(program, ours, count, 3 * seconds)
                    click.echo(f"| {count} | {rate:,.0f} | {p99:,.0f} |")


if __name__ == "__main__":
    main()
