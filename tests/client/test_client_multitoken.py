"""multitoken's counts and lines, and short loads on a real worker."""

from __future__ import annotations

import re

import pytest

from conclave.client import Client
from conclave.client.multitoken.modes import MODES, load_of
from conclave.client.multitoken.tally import Tally, Totals, live_line, summary
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
    assert 0.99 <= totals.p99 <= 1.05
    assert Tally().totals() == Totals(0, (), 0.0, 0.0)


def test_lines_tell_rate_times_and_failures() -> None:
    tally = Tally()
    tally.failed("CKR_DEVICE_ERROR")
    tally.failed("CKR_DEVICE_ERROR")
    totals = Totals(300, tally.totals().failures, 0.002, 0.0105)
    line = live_line(12.2, totals, before=100, interval=2.0)
    assert re.sub(r" +", " ", line) == " 12 s 100.0 op/s p50 2.00 ms p99 10.50 ms failures 2"
    text = summary("hmac", 4, 10.0, totals)
    assert "op/s        30.0\n" in text
    assert text.endswith("failures    2\n    CKR_DEVICE_ERROR  2")
    assert "0.0 op/s" in live_line(0.0, totals, before=0, interval=0.0)


def test_a_mode_has_its_own_key_sizes() -> None:
    for mode, (_begin, sizes) in MODES.items():
        assert load_of(mode, None, 64).key_bits == sizes[0]
        with pytest.raises(BadInput, match=f"for mode {mode} is one of {sizes[0]}"):
            load_of(mode, 1000, 64)


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
    refused = owner.run(MULTITOKEN, *short, "--password-fd=0", lines="not the one\n", expect=1)
    assert "CKR_PIN_INCORRECT" in refused.stderr
    with Client.from_environment(owner.environment) as client:
        (token,) = client.tokens()
        assert client.open(token).info().failed_attempts == 1, "not once for each thread"
    assert "not the one" not in refused.stdout + refused.stderr
    assert "Cancelled." in owner.run(MULTITOKEN, *short, expect=1).stderr
    near = owner.run(MULTITOKEN, "--mode=random", "--thread=2", expect=2)
    assert "--threads" in near.stderr
    sized = owner.run(MULTITOKEN, *short, "--key=77", "--password-env=PIN", expect=1)
    assert "Option --key for mode random is one of 0" in sized.stderr
    nowhere = {**owner.environment, "ChrystokiConfigurationPath": "/nonexistent"}
    Owner(nowhere, owner.directory).run(MULTITOKEN, *short, expect=2)
