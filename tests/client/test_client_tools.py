"""What the tools share: options, batches, statuses, JSON and the page that tells of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.client.cmu import grammar as cmu
from conclave.client.lunacm import grammar as lunacm
from conclave.client.refusals import refusal
from conclave.client.tools.batch import MAX_FILE_BYTES, Batch, read_batch, run_batch
from conclave.client.tools.faces import Outcome, PlainFace, complaint
from conclave.client.tools.grammar import (
    Command,
    Invocation,
    Option,
    credential,
    read_options,
    text_option,
    truth_option,
)
from conclave.client.tools.page import markdown
from conclave.client.tools.prompts import Cancelled
from conclave.client.tools.statuses import STATUSES, Status, next_step, status_of
from conclave.errors import BadInput, Ckr, ConclaveError, Unavailable

PAGE = Path(__file__).parents[2] / "docs/tools.md"
COMMAND = Command(
    ("do",),
    ("d",),
    "do it",
    (
        text_option("label", "text", "the label"),
        truth_option("sign", "signs"),
        Option("force", "f", None, "without a question"),
        *credential("password", "p", "the password"),
    ),
)


def test_the_page_of_the_tools_is_current() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m conclave.client.tools.page"


@pytest.mark.parametrize(
    "words",
    [
        ["-label=a b", "-sign", "-force", "-passwordenv=PIN"],
        ["--label", "a b", "--sign", "--force", "--password-env", "PIN"],
        ["-LABEL", "a b", "-Sign=T", "-f", "-penv=PIN"],
    ],
)
def test_options_are_read_alike_in_each_of_their_forms(words: list[str]) -> None:
    assert read_options(COMMAND, words) == {
        **{"label": "a b", "sign": "T", "force": "", "passwordenv": "PIN"}
    }


def test_a_password_may_be_any_word_and_a_label_no_option() -> None:
    assert read_options(COMMAND, ["-password", "-force"]) == {"password": "-force"}
    assert read_options(COMMAND, ["-p=a=b"]) == {"password": "a=b"}
    with pytest.raises(BadInput, match="-label needs a value"):
        read_options(COMMAND, ["-label", "-force"])
    assert read_options(COMMAND, ["-label", "-5"]) == {"label": "-5"}


@given(st.lists(st.text(max_size=12), max_size=6))
def test_whatever_the_words_are_they_are_read_or_refused(words: list[str]) -> None:
    for parse in (cmu.parse, lunacm.parse):
        try:
            understood = parse([*words, "x"])
        except BadInput as refused:
            assert refused.fault is faults.COMMAND_LINE
        else:
            assert understood.command.name


def test_no_command_has_two_options_of_one_name() -> None:
    for command in (*cmu.COMMANDS, *lunacm.COMMANDS):
        names = [n for o in command.options for n in {o.name.lower(), o.short, "json"}]
        names = [name for name in names if name != "json"]
        assert len(set(names)) == len(names), command.name


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadInput(faults.COMMAND_LINE, "x"), Status.MISUSED),
        (BadInput(faults.CLIENT_CONFIGURATION, "x"), Status.NOT_CONFIGURED),
        (BadInput(faults.KEYRING_PASSWORD_RULE, "x"), Status.CREDENTIAL),
        (Unavailable(faults.UNABLE_TO_CONNECT, "x"), Status.UNREACHABLE),
        (Unavailable(faults.OUTCOME_UNKNOWN, "x"), Status.OUTCOME_UNKNOWN),
        (refusal(Ckr.PIN_LOCKED, "LOGIN"), Status.CREDENTIAL),
        (refusal(Ckr.PIN_EXPIRED, "FIND"), Status.CREDENTIAL),
        (refusal(Ckr.USER_NOT_LOGGED_IN, "FIND"), Status.CREDENTIAL),
        (refusal(Ckr.KEYRING_NOT_FOUND, "LOGIN"), Status.NOT_FOUND),
        (refusal(Ckr.TOKEN_WRITE_PROTECTED, "CREATE_OBJECT"), Status.UNREACHABLE),
        (refusal(Ckr.MAX_OBJECT_COUNT_EXCEEDED, "CREATE_OBJECT"), Status.FULL),
        (refusal(Ckr.MECHANISM_INVALID, "SIGN"), Status.FAILED),
    ],
)
def test_errors_end_with_the_status_that_tells_what_to_do(
    error: ConclaveError, status: Status
) -> None:
    assert status_of(error) is status
    if status is not Status.MISUSED and error.fault is not faults.KEYRING_PASSWORD_RULE:
        assert next_step(error) in complaint(error).splitlines()[-1]
        assert next_step(error)


def test_every_status_has_one_row() -> None:
    assert [row.status for row in STATUSES] == list(Status)


class Echo:
    """A tool whose commands say what they were given, or fail."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    def parse(self, words: Sequence[str]) -> Invocation:
        return Invocation(COMMAND, read_options(COMMAND, words[1:]))

    def carry_out(self, invocation: Invocation) -> Outcome:
        self.seen.append(dict(invocation.values))
        label = invocation.values.get("label")
        if label == "locked":
            raise refusal(Ckr.PIN_LOCKED, "LOGIN")
        if label == "asked":
            raise Cancelled("Enter key type (RSA) : ")
        return Outcome(f"did {label}", {"label": label})


def test_batches_come_as_words_as_lines_and_from_files(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('# first\ndo -label "a b"\n\ndo -label=c\n')
    wanted = [["do", "-label", "a b"], ["do", "-label=c"]]
    for arguments in (
        ["-q", "do", "-label", "a b", "--", "do", "-label=c"],
        ["-q", "-c", 'do -label "a b"', "-c", "do -label=c"],
        ["-quiet", "-f", str(script)],
    ):
        batch = read_batch(arguments)
        assert batch.quiet
        assert batch.commands is not None
        assert list(batch.commands) == wanted
    assert read_batch(["-q"]).commands is None
    assert read_batch(["-json", "do"]).json
    script.write_bytes(bytes(MAX_FILE_BYTES + 1))
    for arguments, told in (
        (["-c"], "needs a command in quotes"),
        (["-f", str(tmp_path / "none")], "cannot be read"),
        (["-f", str(script)], "longer than"),
        (["-c", "do", "do"], "not both"),
        (["-z", "do"], "-q, -json, -c and -f"),
    ):
        with pytest.raises(BadInput, match=told):
            read_batch(arguments)


def test_a_batch_ends_at_the_first_failure(capsys: pytest.CaptureFixture[str]) -> None:
    tool = Echo()
    lines = [["do", "-label=1"], ["do", "-label=locked"], ["do", "-label=2"]]
    assert run_batch(tool, Batch(False, False, lines), PlainFace()) is Status.CREDENTIAL
    assert len(tool.seen) == 2
    out, err = capsys.readouterr()
    assert out == "did 1\n"
    assert "CKR_PIN_LOCKED" in err
    assert "keyring unlock" in err
    assert err.count("CKR_PIN_LOCKED") == 1
    asked = Batch(False, False, [["do", "-label=asked"]])
    assert run_batch(tool, asked, PlainFace()) is Status.CANCELLED
    told = "Cancelled: Nobody answered 'Enter key type (RSA)'; nothing was done.\n"
    assert capsys.readouterr().err == told
    unknown = Batch(False, False, [["do", "-lable=x"]])
    assert run_batch(tool, unknown, PlainFace()) is Status.MISUSED


def test_json_is_one_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [["do", "-label=1"], ["do", "-label=locked"]]
    run_batch(Echo(), Batch(False, True, lines), PlainFace())
    run_batch(Echo(), Batch(False, False, [["do", "-label=asked", "-json"]]), PlainFace())
    out, err = capsys.readouterr()
    done, refused, given_up = map(json.loads, out.splitlines())
    assert done == {
        **{"command": "do", "status": 0, "statusName": "SUCCEEDED", "result": {"label": "1"}}
    }
    assert (refused["status"], refused["error"]["name"]) == (4, "CKR_PIN_LOCKED")
    assert "keyring unlock" in refused["error"]["next"]
    assert (given_up["status"], given_up["command"]) == (8, "do")
    assert given_up["message"] == "Nobody answered 'Enter key type (RSA)'; nothing was done."
    assert err == ""


def test_a_password_on_the_command_line_is_warned_of_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [["do", "-p", "hunter2"]]
    run_batch(Echo(), Batch(False, False, words, typed=True), PlainFace())
    assert capsys.readouterr().err.startswith("Warning: other users of this host can read")
    run_batch(Echo(), Batch(False, False, words), PlainFace())
    out, err = capsys.readouterr()
    assert err == ""
    assert "hunter2" not in out + repr(Batch(False, False, words))
