"""multitoken's counts and lines, and short loads on a real worker."""

from __future__ import annotations

import re

import pytest

from conclave.client import Client
from conclave.client.multitoken.modes import MODES, load_of
from conclave.client.multitoken.tally import (
    Scene,
    Tally,
    Totals,
    display,
    live_line,
    redrawn,
    summary,
)
from conclave.client.tools.statuses import Status
from conclave.errors import BadInput
from tests.client.conftest import Owner, documented

MULTITOKEN = "conclave.client.multitoken.main"


def test_times_are_known_to_a_few_percent_however_many_there_are() -> None:
    tally = Tally()
    for number in range(1, 1001):
        tally.done(number / 1000)
    totals = tally.totals()
    assert totals.operations == 1000
    assert 0.5 <= totals.median <= 0.53
    assert 0.9 <= totals.p90 <= 0.95
    assert 0.99 <= totals.p99 <= 1.05
    assert totals.longest == 1.0
    assert Tally().totals() == Totals()


def test_a_look_takes_what_came_since_the_last_one() -> None:
    tally = Tally()
    tally.done(0.001)
    assert tally.recent().operations == 1
    tally.done(0.5)
    tally.failed("CKR_DEVICE_ERROR")
    recent = tally.recent()
    assert (recent.operations, recent.longest, recent.failed) == (1, 0.5, 1)
    assert tally.recent() == Totals()
    assert tally.totals().operations == 2


def test_lines_tell_rate_times_and_failures() -> None:
    tally = Tally()
    tally.failed("CKR_DEVICE_ERROR")
    tally.failed("CKR_DEVICE_ERROR")
    totals = Totals(300, tally.totals().failures, 0.002, 0.003, 0.0105, 0.02)
    line = live_line(12.2, totals, interval=2.0, failed=5)
    assert re.sub(r" +", " ", line) == (
        " 12 s 150.0 op/s p50 2.00 p90 3.00 p99 10.50 max 20.00 ms failures 5"
    )
    text = summary("hmac", 4, 10.0, totals)
    assert "op/s        30.0\n" in text
    assert text.endswith("failures    2\n    CKR_DEVICE_ERROR  2")
    assert "0.0 op/s" in live_line(0.0, totals, interval=0.0, failed=0)


def test_the_display_is_drawn_over_the_last_one_and_fits_the_terminal() -> None:
    totals = Totals(10, (("CKR_DEVICE_ERROR", 3),), 0.002, 0.003, 0.004, 0.005)
    lines = display(Scene("hmac 256", 1.0, 60.0, 1.0, Totals(), totals))
    assert lines[0] == "hmac 256   1 s of 60 s"
    assert "now        0.0 op/s" in lines[1]
    assert "all       10.0 op/s" in lines[2]
    assert lines[3] == "  operations 10   failures CKR_DEVICE_ERROR 3"
    assert redrawn(lines, 80, first=True).startswith("\r\x1b[2Khmac")
    again = redrawn(lines, 20, first=False)
    assert again.startswith("\x1b[4A\r\x1b[2Khmac")
    assert all(len(line) <= len("\x1b[4A\r\x1b[2K") + 19 for line in again.split("\n"))


def test_a_mode_has_its_own_key_sizes() -> None:
    for mode, row in MODES.items():
        assert load_of(mode, None, 64).key_size == row.sizes[0]
        assert load_of(mode, str(row.sizes[-1]), 64).key_size == row.sizes[-1]
        with pytest.raises(BadInput, match=f"for mode {mode} is one of {row.sizes[0]}"):
            load_of(mode, "1000", 64)
    with pytest.raises(BadInput, match="did you mean rsasign"):
        load_of("rsasing", None, 64)


@pytest.mark.system
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_loads_and_leaves_nothing_behind(owner: Owner, mode: str) -> None:
    options = ("--mode", mode, "--threads=2", "--timed=0.5", "--password-env=PIN")
    done = owner.run(MULTITOKEN, *options, "--interval=0.2")
    operations = re.search(r"^operations +([0-9]+)$", done.stdout, re.MULTILINE)
    assert operations is not None
    assert int(operations.group(1)) > 0
    assert "op/s   p50" in done.stdout
    assert "failures    0\n" in done.stdout
    assert owner.cmu("list") == ""


@pytest.mark.system
def test_the_documented_load_runs(owner: Owner) -> None:
    assert "mode        ecdsasign\nthreads     4\n" in owner.shell(documented("multitoken"))


@pytest.mark.system
def test_a_refusal_ends_with_a_status(owner: Owner) -> None:
    short = ("--mode=random", "--timed=0.3", "--threads=2", "-q")
    refused = owner.run(
        MULTITOKEN, *short, "--password-fd=0", lines="not the one\n", expect=Status.CREDENTIAL
    )
    assert "CKR_PIN_INCORRECT" in refused.stderr
    with Client.from_environment(owner.environment) as client:
        (token,) = client.tokens()
        assert client.open(token).info().failed_attempts == 1, "not once for each thread"
    assert "not the one" not in refused.stdout + refused.stderr
    assert "Cancelled" in owner.run(MULTITOKEN, *short, expect=Status.CANCELLED).stderr
    for words, complaint in (
        (("--mode=random", "--thread=2"), "did you mean -threads?"),
        ((*short, "--key=77", "--password-env=PIN"), "Option -key for mode random is one of 0"),
        (("--mode=random", "-threads=257"), "Option -threads must be a number from 1 to 256."),
        (("--mode=random", "-timed=nan"), "Option -timed must be a number from 0.1 to 86400."),
    ):
        assert complaint in owner.run(MULTITOKEN, *words, expect=Status.MISUSED).stderr
    nowhere = {**owner.environment, "ChrystokiConfigurationPath": "/nonexistent"}
    Owner(nowhere, owner.directory).run(MULTITOKEN, *short, expect=2)
