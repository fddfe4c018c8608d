"""The families user, role and my through OpenSSH's programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.lunash.render.user import user_list
from conclave.operations.users import UserView
from tests.support.ssh_house import PASSWORDS, TRAILER, Answer, SshHouse, open_ssh_house

pytestmark = pytest.mark.system
NEW = "Another-Pass-2"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("users")) as opened:
        yield opened


def done(answer: Answer) -> Answer:
    assert answer.status == 0, answer
    assert answer.lines[-2:] == [TRAILER, ""], answer
    return answer


def test_user_list_has_the_layout_of_the_product(house: SshHouse) -> None:
    lines = done(house.ssh("user list")).lines
    assert lines[1:3] == [
        "                   Users       Roles      Status      RADIUS",
        "    --------------------    --------    --------    --------",
    ]
    assert "                   admin       admin     enabled          no" in lines
    assert "                 monitor     monitor     enabled          no" in lines
    assert "                   audit       audit    disabled          no" in lines


def test_user_list_keeps_its_columns_under_long_names() -> None:
    user = UserView(
        user_id="u" * 32,
        full_name="",
        email="",
        role="role_of_some_length",
        status="enabled",
        built_in=False,
        password_to_be_changed=False,
    )
    assert {len(line) for line in user_list([user])} == {4 + 32 + 4 + 19 + 4 + 8 + 4 + 8}


def test_a_user_is_added_given_a_role_disabled_enabled_and_deleted(house: SshHouse) -> None:
    assert "User carl was successfully added." in done(house.ssh("user add -username carl")).lines
    added = house.ssh("user role add -username carl -role monitor")
    assert "User carl was successfully modified." in done(added).lines
    listed = done(house.ssh("user list")).lines
    assert "                    carl     monitor     enabled          no" in listed
    roles = house.ssh("user role list -username carl -json")
    assert [each["id"] for each in json.loads(roles.out)["roles"]] == ["monitor"]
    assert house.ssh("user role delete -username carl -role operator").status == 1
    taken = house.ssh("user role delete -username carl -role monitor")
    assert "User carl was successfully modified." in done(taken).lines
    shown = json.loads(house.ssh("user show -username carl -json").out)
    assert (shown["role"], shown["passwordToBeChanged"]) == ("", True)
    disabled = house.ssh("user disable -username carl")
    assert "carl was disabled successfully." in done(disabled).lines
    assert house.ssh("hsm show", user="carl", password=DEFAULT_PASSWORD).status == 255
    enabled = house.ssh("user enable -username carl")
    assert "carl was enabled successfully." in done(enabled).lines
    assert house.ssh("user delete -username carl", stdin="quit\n").status == 1
    deleted = house.ssh("user delete -username carl -force")
    assert "User carl was successfully deleted." in done(deleted).lines
    assert house.ssh("user show -username carl").status == 1


def test_section_8_rule_21_user_names_and_passwords_keep_their_rules(house: SshHouse) -> None:
    for name in (".dot", "-dash", "1digit", "a" * 33, '"with space"', "no/slash"):
        refused = house.ssh(f"user add -username {name} -password {NEW}")
        assert refused.status == 1, name
    for weak in ("Short-1", "onlylowercase", "lowerUPPER"):
        refused = house.ssh(f"user add -username weak -password {weak}")
        assert refused.status == 1, weak
        assert weak not in refused.out
    assert house.ssh("user show -username weak").status == 1
    done(house.ssh(f'user add -username A.b-c_9 -password "{NEW} x"'))
    assert house.ssh("user add -username A.b-c_9").status == 1
    done(house.ssh("user delete -username A.b-c_9 -force"))
    assert house.ssh("user delete -username admin -force").status == 1


def test_a_new_user_logs_in_with_the_first_password_and_must_change_it(house: SshHouse) -> None:
    done(house.ssh("user add -username first"))
    typed = f"{NEW}\n{NEW}\n"
    changed = house.ssh("my file list", user="first", password=DEFAULT_PASSWORD, stdin=typed)
    assert "Password change successful." in done(changed).out
    done(house.ssh("user delete -username first -force"))


def test_user_commands_are_the_administrators(house: SshHouse) -> None:
    for line in ("user list", "user add -username x", "role list", "user delete -username x"):
        refused = house.ssh(line, user="monitor")
        assert refused.status == 1
        assert "no rule that lets the role 'monitor'" in refused.out
    assert house.ssh("user list", user="monitor").status == 1


def test_an_administrator_resets_a_password_at_the_prompts(house: SshHouse) -> None:
    done(house.ssh(f"user add -username reset -password {NEW}"))
    typed = "Given-Pass-3\nGiven-Pass-3\n"
    answer = done(house.ssh("user password -username reset", stdin=typed))
    assert "passwd: all authentication tokens updated successfully." in answer.lines
    prompts = ("Enter new password:", "Re-type new password:")
    places = [answer.lines.index(prompt) for prompt in prompts]
    assert places == sorted(places)
    assert "Given-Pass-3" not in answer.out
    assert house.ssh("my file list", user="reset", password=NEW).status == 255
    done(house.ssh("user delete -username reset -force"))


def test_my_password_set_proves_the_current_one(house: SshHouse) -> None:
    old = PASSWORDS["operator"]
    refused = house.ssh("my password set", user="operator", stdin=f"Wrong-Pass-1\n{NEW}\n{NEW}\n")
    assert refused.status == 1
    typed = f"{old}\n{NEW}\n{NEW}\n"
    done(house.ssh("my password set", user="operator", stdin=typed))
    assert house.ssh("hsm show", user="operator", password=old).status == 255
    typed = f"{NEW}\n{old}\n{old}\n"
    done(house.ssh("my password set", user="operator", password=NEW, stdin=typed))


def test_my_files_are_listed_deleted_and_cleared(house: SshHouse, tmp_path: Path) -> None:
    for name in ("one.txt", "two.txt", "three.txt"):
        (tmp_path / name).write_text(name)
        assert house.scp(str(tmp_path / name), "{}:", user="monitor").status == 0
    lines = done(house.ssh("my file list", user="monitor")).lines
    assert any(
        re.search(r"^ +7  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  one\.txt$", line) for line in lines
    )
    done(house.ssh("my file delete one.txt", user="monitor"))
    assert house.ssh("my file delete one.txt", user="monitor").status == 1
    assert house.ssh("my file delete ../admin/x", user="monitor").status == 1
    assert house.ssh("my file clear", user="monitor", stdin="quit\n").status == 1
    listed = json.loads(house.ssh("my file list -json", user="monitor").out)
    assert [each["id"] for each in listed["files"]] == ["three.txt", "two.txt"]
    done(house.ssh("my file clear -force", user="monitor"))
    assert "Files: 0" in done(house.ssh("my file list", user="monitor")).lines


def test_a_public_key_that_was_added_opens_the_shell_until_it_is_removed(
    house: SshHouse, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    private = tmp_path / "id_ed25519"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    private.chmod(0o600)
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    public = tmp_path / "id_ed25519.pub"
    public.write_text(f"{line} desk\n")
    by_key = ["-i", str(private), "-oPreferredAuthentications=publickey"]
    assert house.ssh("my public-key list", options=by_key).status == 255
    assert house.scp(str(public), "{}:").status == 0
    done(house.ssh("my public-key add id_ed25519.pub"))
    assert "Keys: 1" in done(house.ssh("my public-key list", options=by_key)).lines
    assert house.ssh("my public-key delete nothing").status == 1
    done(house.ssh("my public-key delete desk"))
    assert house.ssh("my public-key list", options=by_key).status == 255
    done(house.ssh("my public-key add id_ed25519.pub"))
    done(house.ssh("my public-key clear -force"))
    assert "Keys: 0" in done(house.ssh("my public-key list")).lines
    done(house.ssh("my file clear -force"))


def test_a_custom_role_may_do_what_its_file_says(house: SshHouse, tmp_path: Path) -> None:
    rules = tmp_path / "rules.txt"
    rules.write_text("GET:/api/lunasa/hsms/{hsmid}\nGET:/api/lunasa/hsms/{hsmid}/partitions\n")
    assert house.scp(str(rules), "{}:").status == 0
    done(house.ssh("role create -role watcher -fullname Watcher"))
    done(house.ssh("role import -role watcher -file rules.txt"))
    shown = done(house.ssh("role show -role watcher")).lines
    assert "GET:/api/lunasa/hsms/{hsmid}" in shown
    done(house.ssh(f"user add -username wendy -password {NEW}"))
    done(house.ssh("user role add -username wendy -role watcher"))
    typed = f"{NEW}-x\n{NEW}-x\n"
    answer = house.ssh("partition list", user="wendy", password=NEW, stdin=typed)
    assert "Password change successful." in done(answer).out
    assert house.ssh("user list", user="wendy", password=f"{NEW}-x").status == 1
    assert house.ssh("role delete -role watcher -force").status == 1
    done(house.ssh("role acl export -file acl.csv"))
    assert house.scp("{}:acl.csv", str(tmp_path / "acl.csv")).status == 0
    exported = (tmp_path / "acl.csv").read_text()
    assert "watcher,GET,/api/lunasa/hsms/{}\n" in exported
    (tmp_path / "none.csv").write_text("role,method,resource\n")
    assert house.scp(str(tmp_path / "none.csv"), "{}:").status == 0
    done(house.ssh("role acl import -file none.csv -force"))
    assert house.ssh("partition list", user="wendy", password=f"{NEW}-x").status == 1
    done(house.ssh("role export -role monitor -file monitor.txt"))
    done(house.ssh("user delete -username wendy -force"))
    done(house.ssh("role delete -role watcher -force"))
    assert "watcher" not in done(house.ssh("role list")).out
    done(house.ssh("my file clear -force"))
