"""The rules by which a request is answered, repeated or passed on: without any connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.client.clusters import ClusterEntry
from conclave.client.trials import BUSY_SECONDS, Trial, Verdict
from conclave.errors import Ckr
from conclave.service import wire

ONE, TWO = (
    ClusterEntry(0, host, 50052, Path("c"), Path("k"), Path("a"), "name") for host in ("1", "2")
)
BOTH = (ONE, TWO)


@pytest.mark.parametrize(
    "value", [Ckr.OK, Ckr.PIN_INCORRECT, Ckr.PIN_LOCKED, Ckr.SIGNATURE_INVALID, Ckr.GENERAL_ERROR]
)
def test_a_refusal_is_an_answer(value: int) -> None:
    trial = Trial(wire.Operation.LOGIN)
    trial.interrupted()
    assert trial.judge(value, ONE, BOTH, 0.0) is Verdict.ANSWERED


def test_a_member_that_is_behind_is_left() -> None:
    assert Trial(wire.Operation.FIND).judge(wire.BEHIND, ONE, BOTH, 0.0) is Verdict.ELSEWHERE


def test_a_busy_member_is_asked_again_until_another_may_do_better() -> None:
    trial = Trial(wire.Operation.LOGIN)
    late = BUSY_SECONDS + 0.1
    assert trial.judge(wire.BUSY, ONE, BOTH, 0.0) is Verdict.AGAIN
    assert trial.judge(wire.BUSY, ONE, BOTH, BUSY_SECONDS) is Verdict.AGAIN
    assert trial.judge(wire.BUSY, ONE, BOTH, late) is Verdict.ELSEWHERE
    assert trial.judge(wire.BUSY, TWO, BOTH, late) is Verdict.AGAIN
    alone = Trial(wire.Operation.LOGIN)
    assert alone.judge(wire.BUSY, ONE, (ONE,), 0.0) is Verdict.AGAIN
    assert alone.judge(wire.BUSY, ONE, (ONE,), late) is Verdict.AGAIN


@pytest.mark.parametrize("value", [Ckr.KEYRING_NOT_AUTHORIZED, Ckr.TOKEN_WRITE_PROTECTED])
def test_what_all_members_say_is_the_answer(value: int) -> None:
    trial = Trial(wire.Operation.CREATE_OBJECT)
    assert trial.judge(value, ONE, BOTH, 0.0) is Verdict.ELSEWHERE
    assert trial.judge(value, ONE, BOTH, 0.0) is Verdict.ELSEWHERE
    assert trial.judge(value, TWO, BOTH, 0.0) is Verdict.ANSWERED
    assert Trial(wire.Operation.FIND).judge(value, ONE, (ONE,), 0.0) is Verdict.ANSWERED


def test_refusals_of_others_prove_nothing_about_one_that_may_have_acted() -> None:
    trial = Trial(wire.Operation.CREATE_OBJECT)
    trial.interrupted()
    assert trial.judge(Ckr.TOKEN_WRITE_PROTECTED, ONE, BOTH, 0.0) is Verdict.ELSEWHERE
    assert trial.judge(Ckr.TOKEN_WRITE_PROTECTED, TWO, BOTH, 0.0) is Verdict.ELSEWHERE
    assert trial.judge(Ckr.OK, ONE, BOTH, 0.0) is Verdict.ANSWERED


def test_a_member_that_may_not_use_keys_passes_their_use_on() -> None:
    use, change = Trial(wire.Operation.SIGN), Trial(wire.Operation.SET_PIN)
    assert use.judge(Ckr.DEVICE_ERROR, ONE, BOTH, 0.0) is Verdict.ELSEWHERE
    assert change.judge(Ckr.DEVICE_ERROR, ONE, BOTH, 0.0) is Verdict.ANSWERED


def test_patience_grows_and_is_greater_for_key_generation() -> None:
    sign, generate = Trial(wire.Operation.SIGN), Trial(wire.Operation.GENERATE_KEY_PAIR)
    first = sign.patience()
    assert generate.patience() > first
    sign.interrupted()
    assert sign.may_have_acted
    assert sign.patience() == 2 * first
