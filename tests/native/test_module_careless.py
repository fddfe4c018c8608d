"""Careless applications: two users, dlclose, exit, fork and many sessions, in each build.

The scenarios are in native/pkcs11/tests/life/drive_life.c, in C because most of them are about
what happens where no Python is any more.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.native.driver import build, directory_of
from tests.support.demo import Demo

BUILDS: Final = {"plain": "", "asan-ubsan": "address,undefined", "tsan": "thread"}
SCENARIOS: Final = (
    *("users", "copies", "close", "exit", "handlers", "handlers-after-openssl"),
    *("close-again", "end-again"),
    *("fork", "at-once", "sessions"),
)
UNSUPPORTED: Final = {
    "asan-ubsan": ("fork",),
    "tsan": ("sessions",),
}
"""What a sanitizer's run-time cannot bear: a fork of a process whose other threads allocate. 10,000
sessions only take time under TSan."""
LEAVING: Final = ("exit", "handlers-after-openssl")
"""Where something is left on purpose: a thread in a call, OpenSSL's memory after its end."""


@pytest.mark.parametrize(
    ("name", "scenario"),
    [
        (name, scenario)
        for name in BUILDS
        for scenario in SCENARIOS
        if scenario not in UNSUPPORTED.get(name, ())
    ],
)
def test_a_careless_application_ends_well(
    demo: Demo, tmp_path: Path, name: str, scenario: str
) -> None:
    build(BUILDS[name], "life")
    module = Path(demo.module)
    if BUILDS[name]:
        module = directory_of(BUILDS[name]) / "libconclave_pkcs11.so"
    copy = shutil.copy(module, tmp_path / "another.so")
    keyring = demo.keyring(3)
    outcome = subprocess.run(
        [
            directory_of(BUILDS[name]) / "life" / "drive_life",
            *(module, keyring["label"], scenario, copy),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env={
            **demo.environment,
            "TOKEN_PIN": keyring["pin"],
            "ASAN_OPTIONS": f"detect_leaks={int(scenario not in LEAVING)}",
            "TSAN_OPTIONS": "halt_on_error=1 die_after_fork=0",
        },
    )
    assert (outcome.returncode, outcome.stderr) == (0, ""), outcome.stderr
