"""The registration script with an enrolment token in place of a password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.registering import (
    CLUSTER_ID,
    PASSWORD,
    Member,
    at_terminal,
    files_below,
    register,
)

TOKEN = "enrol-" + "Ab0_-" * 12 + "wxyz"


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("way", ["environment", "descriptor"])
def test_a_token_does_without_a_password(
    member: Member, tmp_path: Path, way: str, shell: str
) -> None:
    options: tuple[str, ...] = ("--fingerprint", member.authority.fingerprint, "-l", 'a "b\\ c')
    environment, given = {"CONCLAVE_ENROLMENT_TOKEN": TOKEN}, ""
    if way == "descriptor":
        options, environment, given = (*options, "--token-fd", "0"), {}, TOKEN + "\n"
    outcome = register(
        member, tmp_path, *options, environment=environment, shell=shell, given=given
    )
    assert outcome.returncode == 0, outcome.stderr
    asked, authorization, body = member.seen[1]
    assert asked == f"POST /api/clusters/{CLUSTER_ID}/clients/actions/enrol"
    assert authorization == ""
    sent = json.loads(body)
    assert (sent["token"], sent["label"]) == (TOKEN, 'a "b\\ c')
    assert TOKEN not in outcome.stdout + outcome.stderr
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(TOKEN.encode() not in content for content in left)


def test_a_token_is_asked_for_unseen(member: Member, tmp_path: Path) -> None:
    fingerprint = ("--fingerprint", member.authority.fingerprint)
    with at_terminal(member, tmp_path, "--token", *fingerprint) as terminal:
        terminal.wait_for("Enrolment token:")
        terminal.send(TOKEN + "\n")
        terminal.wait_for("is registered with cluster")
        assert terminal.status() == 0
    assert TOKEN not in terminal.seen
    assert json.loads(member.seen[1][2])["token"] == TOKEN


@pytest.mark.parametrize(
    ("environment", "options", "told"),
    [
        ({"CONCLAVE_ENROLMENT_TOKEN": "enrol-short"}, (), "that is no enrolment token"),
        ({"CONCLAVE_ENROLMENT_TOKEN": TOKEN}, ("-u", "mon"), "who made it set the user"),
        (
            {"CONCLAVE_ENROLMENT_TOKEN": TOKEN, "CONCLAVE_ADMIN_PASSWORD": PASSWORD},
            ("--token",),
            "not both",
        ),
        ({}, ("--token-fd", "12"), "--token-fd"),
        ({}, ("--token",), "CONCLAVE_ENROLMENT_TOKEN"),
    ],
)
def test_a_token_that_cannot_serve_is_refused_before_it_is_sent(
    member: Member,
    tmp_path: Path,
    environment: dict[str, str],
    options: tuple[str, ...],
    told: str,
) -> None:
    fingerprint = ("--fingerprint", member.authority.fingerprint)
    outcome = register(member, tmp_path, *fingerprint, *options, environment=environment)
    assert outcome.returncode != 0
    assert told in outcome.stderr
    assert all(asked.startswith("GET") for asked, _, _ in member.seen)
    assert files_below(tmp_path / "client") == set()


def test_a_lost_answer_is_asked_for_again_with_the_same_key(member: Member, tmp_path: Path) -> None:
    member.drop = 1
    fingerprint = ("--fingerprint", member.authority.fingerprint)
    environment = {"CONCLAVE_ENROLMENT_TOKEN": TOKEN}
    outcome = register(member, tmp_path, *fingerprint, environment=environment)
    assert outcome.returncode == 0, outcome.stderr
    bodies = [body for asked, _, body in member.seen if asked.startswith("POST")]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
