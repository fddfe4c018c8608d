"""An application that does nothing but sign while its cluster goes through everything.

Run as `python -m campaigns.cluster_signer MODULE TOKEN-LABEL KEY-LABEL {one,each}` with the PIN in
TOKEN_PIN: one process for all signatures, or a pkcs11-tool for each.  Its receipts are those of
`campaigns.load`; `ready` comes first.  It ends when standard input closes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pkcs11

from campaigns.load import Receipts, ec_signer, make_ec_pair, sign_forever

PAUSE_SECONDS: Final = {"one": 0.02, "each": 0.2}
TOOL_SECONDS: Final = 60.0


class ToolError(subprocess.SubprocessError):
    """What pkcs11-tool said when it failed."""


def tool_signer(
    module: str, token_label: str, key_label: str, directory: Path
) -> Callable[[bytes], bytes]:
    """Return how a pkcs11-tool of its own signs a digest."""
    digest_file, signature_file = directory / "digest", directory / "signature"
    command = [
        *("pkcs11-tool", "--module", module, "--token-label", token_label),
        *("--login", "--pin", "env:TOKEN_PIN", "--sign", "--mechanism", "ECDSA"),
        *("--label", key_label, "--input-file", str(digest_file)),
        *("--output-file", str(signature_file)),
    ]

    def sign(digest: bytes) -> bytes:
        digest_file.write_bytes(digest)
        signature_file.unlink(missing_ok=True)
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS
        )
        if run.returncode:
            raise ToolError(" ".join((run.stdout + run.stderr).split()))
        return signature_file.read_bytes()

    return sign


def main() -> None:
    """Make a key, and sign with it until standard input closes."""
    module, token_label, key_label, way = sys.argv[1:5]
    receipts, stop = Receipts(), threading.Event()
    token = pkcs11.lib(module).get_token(token_label=token_label)
    with (
        token.open(rw=True, user_pin=os.environ["TOKEN_PIN"]) as session,
        tempfile.TemporaryDirectory() as directory,
    ):
        private, outside = make_ec_pair(session, key_label)
        sign = (
            ec_signer(private)
            if way == "one"
            else tool_signer(module, token_label, key_label, Path(directory))
        )
        thread = threading.Thread(
            target=sign_forever,
            args=(sign, outside, receipts, stop),
            kwargs={"pause_seconds": PAUSE_SECONDS[way]},
        )
        receipts.write("ready")
        thread.start()
        sys.stdin.read()
        stop.set()
        thread.join(2 * TOOL_SECONDS)
    receipts.write("ended")


if __name__ == "__main__":
    main()
