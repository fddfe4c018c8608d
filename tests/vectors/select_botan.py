"""Select vectors out of an unpacked Botan.

python -m tests.vectors.select_botan BOTAN/src/tests/data

Writes the JSON file beside this script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.vectors.select_cases import Case, write


def blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield the named values of each paragraph."""
    for block in text.split("\n\n"):
        pairs = (line.split("=", 1) for line in block.splitlines() if "=" in line)
        yield {name.strip("# "): value.strip() for name, value in pairs}


def pss_sha3(root: Path) -> Iterator[Case]:
    """Yield the signatures with SHA-3; a paragraph with a key's numbers is for what follows."""
    key: dict[str, int] = {}
    for block in blocks((root / "pubkey/rsa_pss.vec").read_text()):
        if "P" in block:
            key = {name: int(block[name], 0) for name in ("E", "P", "Q")}
        if not block.get("Hash", "").startswith("SHA-3("):
            continue
        yield {
            "hash": f"sha3_{block['Hash'][6:9]}",
            "modulus": f"{key['P'] * key['Q']:x}",
            "exponent": f"{key['E']:x}",
            "message": block["Msg"],
            "salt": block["Nonce"],
            "signature": block["Signature"],
        }


def main(root: Path) -> None:
    """Write the file."""
    origin = "Botan, src/tests/data/pubkey/rsa_pss.vec, PSS with SHA-3: signatures of Bouncy Castle"
    write("rsa_pss_sha3", origin, "BSD-2-Clause", list(pss_sha3(root)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
