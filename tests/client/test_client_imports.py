"""The package needs nothing of the server's: not its libraries, not its modules."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ALLOWED = {"cryptography", "msgspec", "conclave", "cffi", "typing_extensions"}
TERMINAL = {"prompt_toolkit", "wcwidth"}
"""What asks at a terminal, with what it needs itself."""
SERVER = {"appliance", "audit", "cluster", "demo", "hsm", "lunash", "operations", "rest", "store"}
PROBE = """
import importlib, json, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
names = set(sys.modules) - before
tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
parts = {name.split(".")[1] for name in names if name.startswith("conclave.")}
print(json.dumps([sorted(tops), sorted(parts)]))
"""


def imported(module: str) -> tuple[set[str], set[str]]:
    """Return the libraries and the parts of Conclave that a fresh interpreter loads with it."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    libraries, parts = json.loads(done.stdout)
    return set(libraries), set(parts)


@pytest.mark.parametrize(
    ("module", "more"),
    [
        ("conclave.client", set[str]()),
        ("conclave.client.cmu.main", set[str]()),
        ("conclave.client.vtl", set[str]()),
        ("conclave.client.multitoken.main", set[str]()),
        ("conclave.client.lunacm.main", set[str]()),
        ("conclave.client.lunacm.editing", TERMINAL),
    ],
)
def test_the_client_loads_what_its_documentation_says(module: str, more: set[str]) -> None:
    libraries, parts = imported(module)
    assert {name for name in libraries if not name.startswith("_")} - ALLOWED == more
    assert parts & SERVER == set()
    assert {"client", "errors"} <= parts


def test_the_probe_sees_a_server() -> None:
    libraries, parts = imported("conclave.store.engine")
    assert "sqlalchemy" in libraries
    assert "store" in parts
