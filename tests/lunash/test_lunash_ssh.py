"""LunaSH as OpenSSH's programs see it: logins, exit statuses, prompts, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.appliance.users import DEFAULT_PASSWORD
from tests.support.ssh_house import FAILED_TRAILER, TRAILER, SshHouse, open_ssh_house
from tests.support.terminal import Terminal

pytestmark = pytest.mark.system
SO = "Sophie-Officer-1"
INIT = "hsm init -label lab -defaultdomain"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("ssh")) as opened:
        yield opened


def initialize(house: SshHouse) -> None:
    hsm = house.appliance.hsm
    house.loop.run(hsm.initialize("lab", SO.encode(), b"domain", confirmed=True))


def test_one_command_ends_with_the_trailer_and_status_0(house: SshHouse) -> None:
    answer = house.ssh("hsm show")
    assert answer.status == 0, answer
    assert answer.lines[-2:] == [TRAILER, ""]
    assert "   HSM Details:" in answer.lines


def test_a_refused_command_has_the_error_shape_and_status_1(house: SshHouse) -> None:
    answer = house.ssh("partition show -partition nowhere")
    assert answer.status == 1
    assert "Error:  'partition show' failed. (" in answer.out
    assert answer.lines[-2:] == [FAILED_TRAILER, ""]


def test_an_unknown_command_is_refused_and_the_nearest_named(house: SshHouse) -> None:
    answer = house.ssh("hsm shwo")
    assert answer.status == 1
    assert "Did you mean 'hsm show'?" in answer.out


def test_commands_and_options_ignore_case_and_may_be_abbreviated(house: SshHouse) -> None:
    answer = house.ssh("PART LI -JSON")
    assert answer.status == 0, answer
    assert '"partitions"' in answer.out
    assert TRAILER in answer.err


def test_a_wrong_password_lets_nobody_in(house: SshHouse) -> None:
    assert house.ssh("hsm show", password="Wrong-Password-1").status == 255


def test_d4_prompts_are_answered_from_standard_input_without_a_terminal(house: SshHouse) -> None:
    initialize(house)
    login = f"hsm login\n{SO}\n{INIT}\n"
    answer = house.ssh(stdin=f"{login}{SO}\n{SO}\nproceed\n")
    assert answer.status == 0, answer
    assert "'hsm init' successful." in answer.out
    assert SO not in answer.out
    answer = house.ssh(INIT, stdin=f"{SO}\n{SO}\nquit\n")
    assert (answer.status, "aborted by the user" in answer.out) == (1, True)
    answer = house.ssh(INIT, stdin=f"{SO}\n")
    assert answer.status == 1, answer


def test_d4_prompts_are_answered_through_a_forced_terminal(house: SshHouse) -> None:
    initialize(house)
    login = f"hsm login\n{SO}\n"
    typed = f"{login}{INIT}\n{SO}\n{SO}\nproceed\n{login}exit\n"
    answer = house.ssh(options=["-tt"], stdin=typed)
    assert answer.status == 0, answer
    assert "'hsm init' successful." in answer.out
    assert "'hsm login' successful." in answer.out
    assert "Proceeding..." in answer.out
    assert SO not in answer.out


def test_d4_prompts_are_answered_at_a_terminal(house: SshHouse) -> None:
    initialize(house)

    def scene(terminal: Terminal) -> None:
        terminal.wait_for("lunash:>")
        terminal.send("hsm log\tin\r")
        terminal.wait_for("password:")
        terminal.send(SO + "\r")
        terminal.wait_for("'hsm login' successful.")
        terminal.wait_for("lunash:>")
        terminal.send("partition cr -pa p1 -v 1\r")
        terminal.wait_for("to quit now.")
        terminal.send("proceed\r")
        terminal.wait_for("'partition create' successful.")
        terminal.wait_for("lunash:>")
        terminal.send("partition list\r")
        terminal.wait_for("p1")
        terminal.wait_for("lunash:>")
        terminal.send("exit\r")
        assert terminal.status() == 0
        assert SO not in terminal.seen
        assert "*" * len(SO) in terminal.seen

    house.at_terminal(scene)


def test_lines_of_standard_input_are_commands_without_a_terminal(house: SshHouse) -> None:
    answer = house.ssh(stdin="hsm show\n\npartition list\n")
    assert answer.status == 0, answer
    assert answer.out.count(TRAILER) == 2
    assert house.ssh(stdin="hsm shwo\nhsm show\n").status == 1


def test_help_by_all_its_names(house: SshHouse) -> None:
    for line in ("?", "help", "help cluster", "cluster help", "? cluster member", "hsm init ?"):
        answer = house.ssh(line)
        assert answer.status == 0, answer
    assert "cluster" in house.ssh("?").out
    assert "-copassword <password>" in house.ssh("help cluster member authorize").out


def test_a_role_without_the_right_is_refused_before_any_question(house: SshHouse) -> None:
    answer = house.ssh(INIT, user="monitor")
    assert answer.status == 1
    assert "no rule that lets the role 'monitor' run 'hsm init'" in answer.out
    assert "Please enter" not in answer.out


def test_no_way_leads_to_the_host(house: SshHouse) -> None:
    answer = house.ssh("sh -c id")
    assert (answer.status, "uid=" in answer.out) == (1, False)
    answer = house.ssh(options=["-W", "127.0.0.1:22"])
    assert answer.status == 255
    answer = house.ssh(options=["-s"], user="admin", stdin="")
    assert answer.status != 0
    answer = house.ssh("hsm show", options=["-R", "0:127.0.0.1:22", "-oExitOnForwardFailure=yes"])
    assert answer.status == 255


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]])
def test_files_go_up_and_down_by_scp(house: SshHouse, tmp_path: Path, protocol: list[str]) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "up.spkg").write_bytes(content)
    answer = house.scp(str(tmp_path / "up.spkg"), "{}:", options=protocol)
    assert answer.status == 0, answer
    answer = house.scp("{}:up.spkg", str(tmp_path / "down.spkg"), options=protocol)
    assert answer.status == 0, answer
    assert (tmp_path / "down.spkg").read_bytes() == content


@pytest.mark.parametrize("protocol", [["-s"], ["-O"]])
@pytest.mark.parametrize(
    "target", ["../out.txt", "/etc/out.txt", "a/b.txt", "../../../../tmp/out.txt", ".hidden.txt"]
)
def test_nothing_is_written_outside_the_file_area(
    house: SshHouse, tmp_path: Path, protocol: list[str], target: str
) -> None:
    (tmp_path / "f").write_text("x")
    # The first of these tests may be the first to look into the area, which makes it.
    house.appliance.files.directory("admin")
    before = set(house.appliance.paths.files.rglob("*"))
    assert house.scp(str(tmp_path / "f"), "{}:" + target, options=protocol).status != 0
    assert set(house.appliance.paths.files.rglob("*")) == before


def test_links_are_not_followed_and_not_made(house: SshHouse, tmp_path: Path) -> None:
    area = house.appliance.paths.files / "admin"
    area.mkdir(parents=True, exist_ok=True)
    (area / "link").symlink_to("/etc/hostname")
    assert house.scp("{}:link", str(tmp_path / "got")).status != 0
    assert house.sftp("ln -s /etc/hostname other\n").status != 0
    assert not (area / "other").exists()
    (area / "link").unlink()


def test_a_first_password_must_be_changed_at_the_login(tmp_path: Path) -> None:
    new = "Changed-Pass-1"
    with open_ssh_house(tmp_path / "first", settled=False) as house:
        refused = house.ssh("hsm show", password=DEFAULT_PASSWORD)
        assert refused.status == 1
        assert "you must change your password" in refused.out
        assert house.scp("/etc/hostname", "{}:x.txt").status != 0
        typed = f"weak\nweak\n{new}\n{new}\n"
        answer = house.ssh("hsm show", password=DEFAULT_PASSWORD, stdin=typed)
        assert answer.status == 0, answer
        assert "Password change successful." in answer.out
        assert new not in answer.out
        assert house.ssh("hsm show", password=DEFAULT_PASSWORD).status == 255
        assert house.ssh("hsm show", password=new).status == 0
        lines, _ = house.loop.run(house.appliance.audit.page(0, 100))
        changes = [line for line in lines if b'"user.password"' in line]
        assert [(b'"done"' in line, b'"refused"' in line) for line in changes] == [
            (True, False),
            (False, True),
        ]
        assert sum(b'"login"' in line and b'"lunash"' in line for line in lines) >= 4


def test_a_session_has_the_commands_that_were_offered_at_its_opening(tmp_path: Path) -> None:
    installed = False
    with open_ssh_house(
        tmp_path / "families",
        offered=lambda command: installed or command.path[0] not in {"cluster", "keyring"},
    ) as house:
        assert "Unknown command" in house.ssh("keyring list").out
        installed = True
        assert "'keyring list' failed" in house.ssh("keyring list").out
