#!/usr/bin/env python
"""Fuzz a reader of what administrators send: media types, uploads, packages, command lines.

    .venv/bin/python tools/fuzz_inputs.py packages --seconds 600 [--seed N]

Exits with 1 if anything was found; a finding's case comes again with the same seed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.input_fuzzer import TARGETS, fuzz


def main() -> int:
    """Run and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    logging.disable()  # a library tells of each broken body
    tally = fuzz(options.target, seed=options.seed, seconds=options.seconds)
    write = sys.stdout.write
    write(f"seed {options.seed}: {tally.inputs} inputs in {options.seconds:.0f} s, ")
    write(f"{len(tally.findings)} findings\n")
    for end, count in tally.ends.most_common():
        write(f"  {end}  {count}\n")
    for finding in tally.findings[:5]:
        write(f"FINDING {finding}\n")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
