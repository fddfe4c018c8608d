"""vtl's words and tables, and vtl and LunaCM's `partition clear` against a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.client import vtl
from conclave.client.clusters import ClusterEntry
from conclave.errors import BadInput
from conclave.service import wire
from tests.client.conftest import Owner, documented

VTL = "conclave.client.vtl"
LUNACM = "conclave.client.lunacm.main"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["verfy"], 'Did you mean "verify"'),
        (["addServer", "-n", "x"], "There is no such command"),
        (["verify", "-n"], "vtl verify takes no options"),
    ],
)
def test_a_refusal_names_what_is_near(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        vtl.command_of(words)
    assert vtl.command_of(["LISTSLOTS"]) is vtl.command_of(["list"])


def test_tables_have_the_known_shape() -> None:
    token = wire.Token(4, b"k" * 16, "ring one", "1682975235230", 0, 8, 255)
    assert vtl.slot_table([token]).splitlines()[2:] == [
        "Slot    Serial #            Label",
        "====    ================    =====",
        "   4       1682975235230    ring one",
    ]
    assert vtl.slot_lines([token]) == "Number of slots: 1\nSlot #4: ring one"
    entry = ClusterEntry(3, "10.0.0.1", 50052, Path("c"), Path("k"), Path("a"), "n")
    assert vtl.server_lines([entry]) == "Server: 03  10.0.0.1:50052"


@pytest.mark.system
def test_the_documented_commands_find_the_keyring(owner: Owner) -> None:
    text = owner.shell(documented("vtl"))
    assert "Server: 00  127.0.0.1:" in text
    assert "Slots/Keyrings were found" in text
    assert "Number of slots: 1\nSlot #" in text


@pytest.mark.system
def test_vtl_ends_with_a_status(owner: Owner, tmp_path: Path) -> None:
    nowhere = {**owner.environment, "ChrystokiConfigurationPath": str(tmp_path)}
    stranger = Owner(nowhere, owner.directory)
    stranger.run(VTL, "verify", expect=2)
    (tmp_path / "Chrystoki.conf").write_text("LunaSA Client = {\n}\n")
    none = stranger.run(VTL, "verify", expect=1)
    assert "There are no registered servers" in none.stderr
    assert "Did you mean" in owner.run(VTL, "verifi", expect=1).stderr


@pytest.mark.system
def test_lunacm_clears_a_keyring_when_it_is_told_to_proceed(owner: Owner) -> None:
    for label in ("one", "two"):
        owner.cmu("generatekey", f"-label={label}")
    refused = owner.run(LUNACM, "-q", "par", "clear", "-f", expect=1)
    assert "The Crypto Officer must log in first" in refused.stdout
    login = "role login -name co -passwordenv PIN\n"
    kept = owner.run(LUNACM, "-q", lines=f"{login}partition clear\nno\n", expect=1)
    assert "All 2 objects of this slot will be destroyed." in kept.stdout
    assert len(owner.cmu("list").splitlines()) == 2
    done = owner.run(LUNACM, "-q", lines=f"{login}partition clear\nproceed\n")
    assert "2 objects were destroyed." in done.stdout
    assert owner.cmu("list") == ""
