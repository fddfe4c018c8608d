"""The tools as programs: whatever becomes of their input and output, they end with a status."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conclave.client.tools.statuses import Status
from tests.client.conftest import TOOLS

MODULES = {**TOOLS, "lunacm": "conclave.client.lunacm.main"}
SECONDS = 60.0


def shell(
    name: str, words: str, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool with these words and redirections by sh, where no cluster is registered."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m {MODULES[name]} {words}', sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={"ChrystokiConfigurationPath": str(directory), "LC_ALL": "C.UTF-8", **environment},
    )


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--help >/dev/full", "No space left on device"),
        ("--version >/dev/full", "No space left on device"),
        ("--help >&-", "Bad file descriptor"),
    ],
)
def test_output_that_is_lost_is_told_and_no_success(
    name: str, words: str, reason: str, tmp_path: Path
) -> None:
    done = shell(name, words, tmp_path)
    assert done.stderr == f"Error: Reading or writing failed: {reason}.\n"
    assert done.returncode == Status.FAILED


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "Chrystoki.conf").symlink_to("Chrystoki.conf")
    done = shell("cmu", "list", tmp_path)
    assert f"{tmp_path}/Chrystoki.conf cannot be read: Too many levels" in done.stderr
    assert done.returncode == Status.NOT_CONFIGURED


@pytest.mark.parametrize("name", MODULES)
def test_nobody_reads_complaints_and_the_status_stays(name: str, tmp_path: Path) -> None:
    for words in ("-f none 2>&-", "-f none 2>/dev/full"):
        done = shell(name, words, tmp_path)
        assert done.stderr == ""
        assert done.returncode == Status.MISUSED


@pytest.mark.parametrize("name", ["lunacm", "cmu", "vtl"])
@pytest.mark.parametrize("words", ["<&-", "</dev/null"])
def test_without_input_there_are_no_commands(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "Chrystoki.conf").write_text("LunaSA Client = {\n LNHServer00 = 127.0.0.1:1;\n}\n")
    done = shell(name, f"-q {words}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (Status.SUCCEEDED, "", "")


@pytest.mark.parametrize("name", ["cmu", "vtl"])
def test_an_interrupt_is_a_cancelled_command(name: str, tmp_path: Path) -> None:
    (tmp_path / "Chrystoki.conf").write_text("LunaSA Client = {\n LNHServer00 = 127.0.0.1:1;\n}\n")
    with subprocess.Popen(
        [sys.executable, "-m", MODULES[name], "-q"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"ChrystokiConfigurationPath": str(tmp_path)},
    ) as tool:
        assert tool.stdin and tool.stdout and tool.stderr
        tool.stdin.write(b"help\n")
        tool.stdin.flush()
        assert tool.stdout.readline(), "it has begun"
        tool.send_signal(signal.SIGINT)
        assert tool.wait(SECONDS) == Status.CANCELLED
        assert tool.stderr.read() == b""


@pytest.mark.parametrize(
    ("name", "words"), [("lunacm", "role login -name co"), ("cmu", "list"), ("vtl", "verify")]
)
def test_help_needs_no_registration_and_what_does_says_so_in_json(
    name: str, words: str, tmp_path: Path
) -> None:
    assert words.split(maxsplit=1)[0] in shell(name, "help", tmp_path).stdout
    done = shell(name, f"-json {words}", tmp_path)
    told = json.loads(done.stdout)
    assert told["statusName"] == "NOT_CONFIGURED"
    assert "LNHClientRegistration.sh" in told["error"]["next"]
    assert (done.returncode, done.stderr) == (Status.NOT_CONFIGURED, "")


def test_letters_that_the_terminal_lacks_are_shown_by_number(tmp_path: Path) -> None:
    shown = shell("lunacm", "sl\u00f6t", tmp_path, PYTHONIOENCODING="ascii")
    assert 'Command "sl\\xf6t" not found' in shown.stdout


@pytest.mark.parametrize("asked", ["-h", "-help", "--help"])
@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("lunacm", "role login -name co", "-passwordenv=<variable>"),
        ("lunacm", "ro", "role changepw"),
        ("cmu", "list -label=x", "-display=<names>"),
        ("cmu", "gen", "-modulusBits=<number>"),
        ("vtl", "addServer -index=01", "-certificate=<path>"),
        ("vtl", "verify", "ask each cluster"),
        ("multitoken", "-mode=hmac", "modes and their key sizes"),
    ],
)
def test_help_stands_behind_a_command_too(
    name: str, words: str, told: str, asked: str, tmp_path: Path
) -> None:
    done = shell(name, f"{words} {asked}", tmp_path)
    assert told in done.stdout
    assert (done.returncode, done.stderr) == (Status.SUCCEEDED, "")


@pytest.mark.parametrize("name", MODULES)
def test_help_says_how_commands_are_given(name: str, tmp_path: Path) -> None:
    text = shell(name, "--help", tmp_path).stdout
    assert f"usage: {name} " in text
    assert "-json" in text
    if name != "multitoken":
        for word in ("-c ", "-f ", "[-- <command> ...]", "help <command>"):
            assert word in text


def test_bytes_that_are_no_text_are_refused_or_shown(tmp_path: Path) -> None:
    refused = shell("cmu", "-json gen -keyType=EDDSA -label=\udcff", tmp_path)
    assert (refused.returncode, refused.stderr) == (Status.MISUSED, "")
    assert json.loads(refused.stdout)["error"]["message"] == "Option -label must be UTF-8."
    unknown = shell("lunacm", "-json n\u00f6 -- help", tmp_path, PYTHONIOENCODING="ascii")
    told = json.loads(unknown.stdout)["error"]["message"]
    assert told.startswith('Command "n\u00f6" not found')
    unread = shell("cmu", "-json import -inputFile=\udcff", tmp_path)
    assert "udcff" in json.loads(unread.stdout)["error"]["message"]
