"""Select vectors out of an unpacked OpenSSL.

python -m tests.vectors.select_openssl OPENSSL/test/recipes/30-test_evp_data

Writes the JSON file beside this script.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import dh
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tests.vectors.select_cases import Case, write

OFFERED = ("ffdhe2048", "ffdhe3072", "ffdhe4096")
KEY = re.compile(
    r"^(?:Private|Public)Key\s*=\s*(\S+)\n(-----BEGIN.*?-----END [A-Z ]+-----)", re.M | re.S
)


def ffdhe(root: Path) -> Iterator[Case]:
    """Yield the agreements in the groups of RFC 7919; a short secret is filled up (PKCS #3)."""
    text = (root / "evppkey_ffdhe.txt").read_text()
    keys = {name: pem.encode() for name, pem in KEY.findall(text)}
    for block in text.split("\n\n"):
        found = dict(re.findall(r"^(\w+)\s*=\s*(\S+)", block, re.M))
        if not {"Derive", "PeerKey", "SharedSecret"} <= set(found) or "kdf" in block:
            continue
        group = found["Derive"].partition("-")[0]
        if group not in OFFERED or "Ctrl" in found:
            continue
        private = load_pem_private_key(keys[found["Derive"]], None)
        public = load_pem_public_key(keys[found["PeerKey"]])
        assert isinstance(private, dh.DHPrivateKey)
        assert isinstance(public, dh.DHPublicKey)
        yield {
            "group": group,
            "private": f"{private.private_numbers().x:x}",
            "public": f"{public.public_numbers().y:x}",
            "secret": found["SharedSecret"].rjust(public.key_size // 4, "0"),
        }


def main(root: Path) -> None:
    """Write the file."""
    origin = "OpenSSL 3.0, test/recipes/30-test_evp_data/evppkey_ffdhe.txt, up to 4096 bits"
    write("dh_ffdhe", origin, "Apache-2.0", list(ffdhe(root)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
