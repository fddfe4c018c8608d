"""The checker of the cluster campaign finds each kind of broken promise, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.cluster_applications import Application
from campaigns.cluster_history import (
    Acknowledged,
    Expected,
    History,
    KeyExpected,
    Known,
    Name,
    compare,
    doubly_led,
    judge,
    longest_stalls,
    twice_numbered,
    verdict,
)
from conclave.errors import Ckr

RING = b"r" * 16
ONE: Name = (RING, b"1" * 16)
TWO: Name = (RING, b"2" * 16)


def acknowledged(revision: int, at: float = 0.0) -> Acknowledged:
    return Acknowledged("a", (1, "a"), revision, at)


@pytest.mark.parametrize(
    ("known", "seen", "kind"),
    [
        (Known(Expected.PRESENT, 5, 1), {ONE: 5}, ""),
        (Known(Expected.PRESENT, 5, 1), {}, "missing"),
        (Known(Expected.PRESENT, 5, 1), {ONE: 6}, "changed"),
        (Known(Expected.ABSENT, 0, 2), {}, ""),
        (Known(Expected.ABSENT, 0, 2), {ONE: 5}, "undead"),
        (Known(Expected.OPEN, 0, 2), {ONE: 5}, ""),
        (Known(Expected.OPEN, 0, 2), {}, ""),
    ],
)
def test_a_look_is_held_against_what_was_acknowledged(
    known: Known, seen: dict[Name, int], kind: str
) -> None:
    findings = compare({ONE: known}, {ONE: known}, seen)
    found = {name for name in ("missing", "undead", "changed") if getattr(findings, name)}
    assert found == ({kind} if kind else set())
    assert findings.checked == (0 if known.expected is Expected.OPEN else 1)


def test_nothing_is_concluded_of_an_object_that_was_touched_during_the_look() -> None:
    history = History()
    history.begin(ONE)
    history.settle(ONE, Expected.PRESENT, 5)
    before = history.expectations(RING)
    history.begin(ONE)
    history.settle(ONE, Expected.PRESENT, 5)
    assert compare(before, history.expectations(RING), {}).checked == 0


def test_a_write_without_answer_leaves_its_object_open() -> None:
    history = History()
    history.begin(ONE)
    history.begin(TWO)
    history.settle(TWO, Expected.ABSENT)
    assert history.expectations(RING)[ONE].expected is Expected.OPEN
    assert compare(history.expectations(RING), history.expectations(RING), {ONE: 1}).undead == []
    assert history.expectations(b"other") == {}


def test_two_members_that_write_at_once_are_found() -> None:
    assert twice_numbered([acknowledged(1), acknowledged(2), acknowledged(3)]) == []
    assert twice_numbered([acknowledged(1), acknowledged(2), acknowledged(2)]) == [2]
    assert doubly_led({(1, "a"): {"a"}, (2, "a"): {"b"}}) == []
    assert doubly_led({(1, "a"): {"a"}, (2, "a"): {"a", "b"}}) == [(2, "a")]


def test_stalls_count_for_every_fault_that_was_on() -> None:
    faults = [(1.0, 2.0, "hang"), (4.0, 9.0, "kill")]
    stalls = longest_stalls([0.0, 0.5, 1.5, 3.0, 3.1, 8.0], faults)
    assert stalls == pytest.approx({"none": 0.5, "hang": 1.5, "kill": 4.9})


def test_the_verdict_names_every_broken_promise() -> None:
    history = History()
    assert verdict(history) == []
    history.see_primary((3, "a"), "a", "page", 0.0)
    history.see_primary((3, "a"), "b", "state", 1.0)
    history.acknowledge(acknowledged(7))
    history.acknowledge(acknowledged(7))
    history.complain("missing", "object 1")
    assert [sentence.partition(":")[0] for sentence in verdict(history)] == [
        "missing",
        "epoch",
        "revision",
    ]


@pytest.mark.parametrize(
    ("value", "expected", "complaint"),
    [
        (Ckr.OK, KeyExpected.SIGNS, ""),
        (Ckr.OBJECT_HANDLE_INVALID, KeyExpected.SIGNS, "read-your-writes"),
        (Ckr.KEY_HANDLE_INVALID, KeyExpected.SIGNS, "read-your-writes"),
        (Ckr.KEYRING_NOT_AUTHORIZED, KeyExpected.SIGNS, ""),
        (Ckr.OK, KeyExpected.GONE, "deleted key signs"),
        (Ckr.OBJECT_HANDLE_INVALID, KeyExpected.GONE, ""),
        (Ckr.DEVICE_ERROR, KeyExpected.GONE, ""),
    ],
)
def test_an_answer_to_a_signature_is_held_against_what_was_acknowledged(
    value: int, expected: KeyExpected, complaint: str
) -> None:
    assert judge(value, expected) == complaint


def test_an_application_that_fails_once_or_signs_wrongly_is_found(tmp_path: Path) -> None:
    history = History()
    application = Application("signer", tmp_path, history)
    application.take(["signed", "1.0", "1.5"])
    assert verdict(history) == []
    assert history.counts["signatures of signer"] == 1
    application.take(["WRONG"])
    application.take(["error", "sign", "DeviceError"])
    assert [sentence.partition(":")[0] for sentence in verdict(history)] == [
        "wrong signature",
        "failed signature",
    ]
