"""The client's package, as `make client` packs it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_client_package(directory: Path) -> Path:
    """Pack the client below a directory, with the rights that a careful user's files get."""
    package = directory / "client.tar.gz"
    places = (f"CLIENT_BUILD={directory}/build/client", f"CLIENT_PACKAGE={package}")
    subprocess.run(
        ["make", "--assume-old=setup", "client", *places],
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=120,
        umask=0o077,
    )
    return package
