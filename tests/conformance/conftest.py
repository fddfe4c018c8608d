"""A keyring for applications, and SoftHSM2 as the yardstick."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.demo import Demo
from tests.support.token import SOFTHSM_MODULES, Token, serial_of


@pytest.fixture(scope="session")
def token(demo: Demo) -> Token:
    """Return the demo's second keyring."""
    keyring = demo.keyring(1)
    return Token(
        module=demo.module,
        label=keyring["label"],
        serial=serial_of(demo.module, keyring["label"], demo.environment),
        pin=keyring["pin"],
        environment=demo.environment,
    )


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Token:
    """Return a fresh token of SoftHSM2."""
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory / 'tokens'}\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(configuration)}
    module = next(path for path in SOFTHSM_MODULES if Path(path).exists())
    subprocess.run(
        [
            *("softhsm2-util", "--init-token", "--free", "--label", "yardstick"),
            *("--so-pin", "yardstick-so", "--pin", "yardstick-pin"),
        ],
        check=True,
        capture_output=True,
        env=environment,
    )
    serial = serial_of(module, "yardstick", environment)
    return Token(module, "yardstick", serial, "yardstick-pin", environment)
