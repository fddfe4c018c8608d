#!/usr/bin/env python
"""Fuzz the worker's frame and request decoders beside a real member; seeds are in the repository.

    .venv/bin/python tools/fuzz_frames.py --seconds 600 [--seed N]

Exits with 1 if anything was found; each finding is printed with the bytes that caused it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.frame_fuzzer import FrameFuzzer, Report
from tests.support.worker_bench import worker_bench


async def _fuzz(seconds: float, seed: int) -> Report:
    with tempfile.TemporaryDirectory() as directory:
        async with worker_bench(Path(directory)) as bench:
            return await FrameFuzzer(bench, seed=seed).run(seconds=seconds)


def main() -> int:
    """Run and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    report = uvloop.run(_fuzz(options.seconds, options.seed))
    write = sys.stdout.write
    write(f"seed {options.seed}: {report.inputs} inputs in {options.seconds:.0f} s, ")
    write(f"{report.ended} connections ended, {len(report.findings)} findings\n")
    for value, count in report.values.most_common():
        write(f"  {value:#010x}  {count}\n")
    for finding in report.findings[:5]:
        write(f"FINDING {finding}\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
