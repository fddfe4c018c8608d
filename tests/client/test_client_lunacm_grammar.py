"""LunaCM's language: what is understood, what is refused, and what never reaches a history."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.client.lunacm import grammar, render
from conclave.client.lunacm.editing import CarefulHistory
from conclave.client.lunacm.shell import check_characters
from conclave.client.refusals import refusal
from conclave.client.tools.batch import split_batch, split_line
from conclave.client.tools.prompts import given_password, read_line
from conclave.errors import BadInput, Ckr
from conclave.service import wire


def test_commands_and_options_ignore_case_and_values_keep_it() -> None:
    invocation = grammar.parse(["ROLE", "Login", "-NAME", "CO", "-Password", "SecreT"])
    assert invocation.command.name == "role login"
    assert invocation.values == {"name": "CO", "password": "SecreT"}


def test_short_names_are_those_of_the_table_and_no_others() -> None:
    assert grammar.parse(["ro", "logi", "-n", "co"]).command.name == "role login"
    assert grammar.parse(["s", "s", "-s", "3"]).values == {"slot": "3"}
    assert grammar.parse(["par", "con"]).command.name == "partition contents"
    for words in (["rol", "login"], ["role", "log"], ["partition", "show"]):
        with pytest.raises(BadInput, match="not found"):
            grammar.parse(words)


def test_no_two_short_names_collide() -> None:
    seen = [words for row in grammar.COMMANDS for words in (row.words, row.short)]
    assert len(set(seen)) == len(seen)
    for row in grammar.COMMANDS:
        names = [name for option in row.options for name in (option.name, option.short)]
        assert len(set(names)) == len(names), row.name


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["login"], 'Command "login" not found.'),
        (["role", "dance"], 'Subcommand "dance" not found.'),
        (["rolle", "list"], 'Command "rolle" not found. Did you mean "role"'),
        (["role", "lgin"], 'Did you mean "login"'),
        (["role", "login", "-nam", "co"], "did you mean -name[?]"),
        (["HAGroup", "list"], "hagroup is not for keyrings: a cluster"),
        (["par", "clone", "-objects", "1"], "partition clone is not for keyrings"),
        (["role"], "needs a subcommand: list, login"),
        (["role", "login"], "needs the option -name"),
        (["role", "login", "-name"], "-name needs a value: -name=<role>"),
        (["role", "login", "-n", "co", "-n", "po"], "given twice"),
        (
            ["role", "login", "-n", "co", "-user", "x"],
            "role login has no such option; it takes -name",
        ),
        (["slot", "list", "-slot", "1"], "it takes none"),
        (["partition", "create"], "keyring create"),
    ],
)
def test_a_refusal_names_what_is_wrong(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        grammar.parse(words)


def test_a_word_that_may_be_a_password_is_not_repeated() -> None:
    with pytest.raises(BadInput) as refused:
        grammar.parse(["role", "login", "-name", "co", "my-secret-word"])
    assert "my-secret-word" not in str(refused.value)
    assert "hunter2" not in repr(grammar.parse(["role", "login", "-n", "co", "-p", "hunter2"]))


def test_double_quotes_hold_blanks_together() -> None:
    assert split_line('role login -p "a b"  -n co') == [
        *("role", "login", "-p", "a b", "-n", "co"),
    ]
    assert split_line('""') == [""]
    assert split_line("  ") == []
    with pytest.raises(BadInput, match="not closed"):
        split_line('role "x')


plain = st.text(st.characters(codec="ascii", exclude_characters='" \t\r\n'), min_size=1)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters='"\n\r')), max_size=5))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    assert split_line(" ".join(f'"{word}"' for word in words)) == words


@given(st.lists(plain))
def test_a_batch_is_cut_at_its_separator(words: list[str]) -> None:
    commands = split_batch(words)
    assert [word for command in commands for word in command] == [w for w in words if w != "--"]
    assert all(commands)


def test_completion_offers_what_may_follow() -> None:
    assert grammar.completions([], "r") == ["role"]
    assert grammar.completions(["role"], "log") == ["login", "logout"]
    assert grammar.completions(["role", "show"], "-") == ["-name"]
    assert "-name" not in grammar.completions(["role", "login", "-name", "co"], "-")
    assert grammar.completions(["nothing"], "") == []


def test_help_lists_every_command_and_explains_one() -> None:
    everything = grammar.help_text(())
    assert all(row.summary in everything for row in grammar.COMMANDS)
    assert "-oldpw" in grammar.help_text(("role", "changepw"))
    with pytest.raises(BadInput):
        grammar.help_text(("dance",))


def test_no_history_takes_a_password(tmp_path: Path) -> None:
    history = CarefulHistory(tmp_path / "history")
    history.append_string("slot list")
    history.append_string('ro cpw -n co -OLD "hunter2" -new x')
    history.append_string("role login -name co -p hunter2")
    assert "hunter2" not in (tmp_path / "history").read_text()
    assert "slot list" in (tmp_path / "history").read_text()
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o600
    assert history.get_strings() == ["slot list"]


def test_passwords_come_from_descriptors_line_by_line() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"first one\r\nsecond\n\nlast")
        os.close(writing)
        values = {"passwordfd": str(reading)}
        assert given_password(values, "password", {}) == "first one"
        assert [read_line(reading) for _ in range(4)] == ["second", "", "last", None]
        with pytest.raises(BadInput, match="no password"):
            given_password(values, "password", {})
    finally:
        os.close(reading)


def test_passwords_come_from_the_environment_or_from_one_place_only() -> None:
    assert given_password({"oldpwenv": "PIN"}, "oldpw", {"PIN": "x"}) == "x"
    assert given_password({}, "oldpw", {}) is None
    with pytest.raises(BadInput, match="'PIN'"):
        given_password({"oldpwenv": "PIN"}, "oldpw", {})
    with pytest.raises(BadInput, match="exclude each other"):
        given_password({"oldpw": "x", "oldpwfd": "3"}, "oldpw", {})
    with pytest.raises(BadInput, match="cannot be read"):
        given_password({"oldpwfd": "999"}, "oldpw", {})


@pytest.mark.parametrize("password", [" blank first", 'quo"te', "umläut!!", "tab\tulator", ""])
def test_a_new_password_keeps_to_the_allowed_characters(password: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_characters(password)
    assert not password.strip() or password not in str(refused.value)
    check_characters("A z0!#$%'()*+,-./:=?@[]^_{}~")


def test_an_error_prints_the_name_of_its_return_value() -> None:
    text = render.failure(refusal(Ckr.PIN_INCORRECT, "LOGIN"))
    assert text.startswith("Error in execution: CKR_PIN_INCORRECT.\n")
    assert text.endswith("Command Result : 0xa0 (CKR_PIN_INCORRECT)")
    assert "0x8abcdef0" in refusal(0x8ABCDEF0, "LOGIN").message


def test_slots_and_objects_have_the_known_shape() -> None:
    token = wire.Token(4, b"k" * 16, "ring one", "123", 0x40D, 8, 255)
    listing = render.slot_list([token], 4)
    assert "    Slot Id ->              4\n    Label ->                ring one\n" in listing
    assert listing.endswith("Current Slot Id: 4")
    assert render.slot_list([], None).endswith("Current Slot Id: None")
    rows = [render.ObjectLine(1, "mine", 3, "00ff"), render.ObjectLine(2, "odd", 99, "11")]
    text = render.contents(wire.Role.KRCO, rows)
    assert "Object Type:   Private Key" in text
    assert text.endswith("Number of objects:  2")
    assert "CKF_TOKEN_INITIALIZED" in render.partition_info(
        wire.TokenDetails(token, 2, 256, False, 0)
    )
