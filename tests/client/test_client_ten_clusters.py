"""Ten clusters in one Chrystoki.conf, and the module among the dead ones (rule L2)."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path

import pytest

from conclave.client.clusters import MAX_CLUSTERS
from conclave.client.module_path import module_path
from tests.client.conftest import Owner

pytestmark = pytest.mark.system
LIVE, REFUSING, INCOMPLETE, UNUSED = 9, 3, 5, 7
LIMIT_SECONDS = 120
"""Nine clusters one after the other, each for its ReceiveTimeout, would take longer."""
RECEIVE_TIMEOUT_MS = 60_000


def entries(owner: Owner, index: int, port: int) -> str:
    """Return a cluster's entries, with the files of the registered client."""
    text = (owner.directory / "Chrystoki.conf").read_text()
    lines = [line for line in text.splitlines() if "LNHServer" in line]
    server = next(line for line in lines if "LNHServer00 " in line)
    if port:
        lines[lines.index(server)] = f"    LNHServer00 = 127.0.0.1:{port};"
    if index == INCOMPLETE:
        lines = [line for line in lines if "CAFile" not in line]
    return "\n".join(lines).replace("00 = ", f"{index:02} = ") + "\n"


def test_section_8_rule_13_ten_clusters_of_which_dead_ones_delay_no_other(
    owner: Owner, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        text = f"LunaSA Client = {{\n    ReceiveTimeout = {RECEIVE_TIMEOUT_MS};\n"
        for index in set(range(MAX_CLUSTERS)) - {UNUSED}:
            port = 0
            if index != LIVE:
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", 0))
                port = taken.getsockname()[1]
                if index != REFUSING:
                    # It takes connections and never says a word.
                    taken.listen()
            text += entries(owner, index, port)
        (tmp_path / "Chrystoki.conf").write_text(text + "}\n")
        shown = subprocess.run(
            ["pkcs11-tool", "--module", str(module_path()), "--list-slots"],
            check=False,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            env={**owner.environment, "ChrystokiConfigurationPath": str(tmp_path)},
        )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("token label") == 1, shown.stdout
    assert "ring-" in shown.stdout
