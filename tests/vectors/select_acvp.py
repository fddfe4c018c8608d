"""Select vectors of NIST's ACVP out of an unpacked BoringSSL.

python -m tests.vectors.select_acvp BORINGSSL/util/fipstools/acvp/acvptool/test

Writes the JSON file beside this script.
"""

from __future__ import annotations

import bz2
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.vectors.select_cases import Case, write

Found = dict[str, Any]


def tests(file: Path) -> Iterator[tuple[Found, Found]]:
    """Yield the tests of a file, each with its group."""
    for part in json.loads(bz2.decompress(file.read_bytes())):
        for group in part.get("testGroups", []):
            for test in group["tests"]:
                yield group, test


def hkdf(root: Path) -> Iterator[Case]:
    """Yield HKDF's cases with SHA-224, the one hash that Wycheproof and RFC 5869 leave out."""
    expected = tests(root / "expected/HKDF.bz2")
    answers = {test["tcId"]: test["dkm"] for _, test in expected if "dkm" in test}
    for group, test in tests(root / "vectors/HKDF.bz2"):
        of_sha224 = group["kdfConfiguration"]["hmacAlg"] == "SHA2-224"
        if not of_sha224 or test["tcId"] not in answers:
            continue
        parties = (test["fixedInfoPartyU"], test["fixedInfoPartyV"])
        info = [party.get(name, "") for party in parties for name in ("partyId", "ephemeralData")]
        yield {
            "hash": "sha224",
            "secret": test["kdfParameter"]["z"],
            "salt": test["kdfParameter"]["salt"],
            "info": "".join(info),
            "derived": answers[test["tcId"]],
        }


def main(root: Path) -> None:
    """Write the file."""
    origin = "NIST ACVP, KDA HKDF Sp800-56Cr1, vector set 1580868, published with BoringSSL"
    write("hkdf_acvp", origin, "ISC and OpenSSL licences (BoringSSL)", list(hkdf(root)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
