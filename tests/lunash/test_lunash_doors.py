"""No operation stands behind one door only, unless its declaration says why."""

from __future__ import annotations

from pathlib import Path

from conclave.lunash.catalogue import COMMANDS, OPERATIONS_BY_NAME, operations_of
from conclave.lunash.grammar import make_tree
from conclave.lunash.page import markdown
from conclave.operations.catalogue import OPERATIONS
from conclave.operations.commands import Kind

ROOT = Path(__file__).parents[2]
HARMLESS = frozenset(
    {"cluster enable", "cluster disable", "service start", "service stop", "service restart"}
)
"""Commands that call service.act for another action than the factory reset, the one that waits."""


def test_each_operation_stands_behind_both_doors_or_says_why_not() -> None:
    called = {each.name for command in COMMANDS for each in operations_of(command)}
    one_door = {
        each.name
        for each in OPERATIONS
        if not each.only.startswith(("REST: ", "LunaSH: "))
        and not (each.name in called and each.method)
    }
    assert one_door == set()


def test_each_reason_for_one_door_names_the_door_that_there_is() -> None:
    called = {each.name for command in COMMANDS for each in operations_of(command)}
    for each in OPERATIONS:
        if each.only.startswith("LunaSH: "):
            assert (each.name in called, each.method) == (True, ""), each.name
        elif each.only:
            assert each.only.startswith("REST: "), each.name
            assert (each.name in called, bool(each.method)) == (False, True), each.name


def test_commands_call_declared_operations_only() -> None:
    for command in COMMANDS:
        assert set(command.operations) <= OPERATIONS_BY_NAME.keys(), command.words
        assert (command.run is None) == (len(operations_of(command)) == 1) or command.run, command
        assert operations_of(command) or command.only, command.words


def test_what_destroys_asks_before_it_does() -> None:
    for command in COMMANDS:
        for each in operations_of(command):
            if each.waits_when is not None and command.words not in HARMLESS:
                assert command.proceed, f"{command.words} calls {each.name}, which waits"


def test_words_and_shortcuts_are_unambiguous() -> None:
    assert make_tree(COMMANDS).children
    for command in COMMANDS:
        names = [option.name.lower() for option in command.all_options]
        shorts = [option.short for option in command.all_options if option.short]
        assert len(set(names)) == len(names), command.words
        assert len(set(shorts)) == len(shorts), command.words


def test_each_list_and_show_prints_json() -> None:
    for command in COMMANDS:
        if command.path[-1] in {"list", "show"}:
            assert command.prints_json, command.words


def test_choices_are_given_for_choices_only() -> None:
    for command in COMMANDS:
        for option in command.all_options:
            assert (option.kind is Kind.CHOICE) == bool(option.choices), (command.words, option)


def test_the_page_of_commands_is_current() -> None:
    page = (ROOT / "docs/lunash.md").read_text()
    assert page == markdown(), "run: python -m conclave.lunash.page > docs/lunash.md"
