#!/usr/bin/env python
"""Fuzz what reads a command line of LunaSH, up to the arguments of the operations.

    .venv/bin/python tools/fuzz_lines.py --seconds 600 [--seed N]

Exits with 1 if anything was found; each finding is printed with the line that caused it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.line_fuzzer import LineFuzzer


def main() -> int:
    """Run and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    report = LineFuzzer(seed=options.seed).run(seconds=options.seconds)
    write = sys.stdout.write
    write(f"seed {options.seed}: {report.inputs} inputs in {options.seconds:.0f} s, ")
    write(f"{len(report.findings)} findings\n")
    for end, count in report.ends.most_common():
        write(f"  {end:<18} {count}\n")
    for finding in report.findings[:5]:
        write(f"FINDING {finding}\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
