"""The host key of LunaSH: made at the first start, kept with mode 0600."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncssh
from asyncssh import SSHKey

from conclave import faults
from conclave.appliance.tls import write_private
from conclave.errors import InternalFault

FILE_NAME: Final = "host_key"
PUBLIC_FILE_NAME: Final = "host_key.pub"


def load_host_key(directory: Path) -> SSHKey:
    """Return the host key, an Ed25519 one; make it when there is none."""
    path = directory / FILE_NAME
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519")
        write_private(path, key.export_private_key())
        write_private(directory / PUBLIC_FILE_NAME, key.export_public_key())
    try:
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as cause:
        message = f"The host key {path} cannot be read; remove it to get a new one."
        raise InternalFault(faults.INTERNAL, message) from cause
