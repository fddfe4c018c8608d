"""LunaSH's language: lines to commands, arguments and completions; whatever is typed."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.arguments import fill, in_the_words_of, put, require_one_each
from conclave.lunash.catalogue import COMMANDS, operations_of
from conclave.lunash.completion import completions
from conclave.lunash.grammar import (
    MAX_LINE_BYTES,
    HelpWanted,
    Invocation,
    Node,
    holds_secret,
    make_tree,
    parse,
    read_line,
)
from conclave.lunash.help import help_lines, synopsis
from conclave.operations.calling import decode_arguments
from conclave.operations.commands import Command, Kind, Option

ROOT = make_tree(COMMANDS)
BY_WORDS = {command.words: command for command in COMMANDS}
GUIDE = """
cluster config -service core -ipaddress 192.0.2.1
cluster enable
service start cluster
cluster status
cluster config -service admin -interface eth1 -port 50075
cluster config -service crypto -interface eth1 -port 50055
cluster config show
cluster create -label lab -password SoSecret
cluster member list -clusterid U
cluster member authorize -partition par -memberid U -copassword CoSecret
cluster list
cluster join -clusterid U -clusteripaddress 192.0.2.2 -remotepassword R -partition par -force
cluster member config -memberid U -group name
cluster group list
cluster member show -memberid U
cluster member config -memberid U -primary
cluster leave -memberid U -partition par -copassword CoSecret
sysconf config factoryreset -service cluster
cluster member delete -memberid U -copassword CoSecret
keyring create -label l -password p -partition par -total 3 -index 1 -copassword CoSecret
keyring list
keyring show -keyringid U
keyring unlock -keyringid U -copassword CoSecret
keyring unlock -label l
keyring delete -label l -copassword CoSecret
keyring delete -keyringid U
service stop cluster
service restart cluster
cluster disable
cluster member show
cluster member list
hsm login
""".strip().splitlines()
"""Commands of the guide's chapters 2, 3, 5, 6 and 7, as it prints them."""


def invoked(line: str, root: Node = ROOT) -> Invocation:
    parsed = parse(read_line(line), root)
    assert isinstance(parsed, Invocation), line
    return parsed


def refused(line: str, root: Node = ROOT) -> str:
    with pytest.raises(BadInput) as raised:
        parse(read_line(line), root)
    assert raised.value.fault is faults.COMMAND_LINE
    return raised.value.message


def sample(option: Option) -> str:
    if option.kind is Kind.CHOICE:
        return option.choices[0]
    return "5" if option.kind is Kind.NUMBER else "Sample"


def typed(option: Option, name: str) -> list[str]:
    """Return an option as it is typed, by one of its names."""
    return [f"-{name}"] + ([] if option.kind is Kind.FLAG else [sample(option)])


EACH_OPTION = [(command, option) for command in COMMANDS for option in command.all_options]


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("line", GUIDE)
def test_each_command_of_the_guide_is_understood_in_any_case(line: str) -> None:
    literal = invoked(line)
    assert literal.command.words.lower() == line.partition(" -")[0].removesuffix(" cluster").lower()
    shouted = " ".join(
        word.upper() if word.startswith("-") else word for word in line.split()
    ).replace(literal.command.words.lower(), literal.command.words.upper())
    assert invoked(shouted) == literal


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_each_beginning_of_a_command_means_it_or_is_ambiguous(command: Command) -> None:
    words = command.path
    for place, word in enumerate(words):
        for end in range(1, len(word) + 1):
            begun = [*words[:place], word[:end], *words[place + 1 :]]
            try:
                parsed = parse(read_line(" ".join(begun)), ROOT)
            except BadInput as error:
                assert "is ambiguous" in error.message, begun
                assert word in error.message
            else:
                assert isinstance(parsed, Invocation)
                if parsed.command is not command:
                    # A whole word wins over the longer ones that it begins.
                    assert word[:end].lower() in {each.lower() for each in parsed.command.path}


def test_each_option_is_known_by_its_name_and_its_shortcut() -> None:
    for command, option in EACH_OPTION:
        if option.positional:
            continue
        expected = "" if option.kind is Kind.FLAG else sample(option)
        for name in {option.name, option.name.upper(), option.short} - {""}:
            words = typed(option, name)
            line = " ".join((command.words, *words))
            assert invoked(line).values == {option.name: expected}, line
            assert "was given twice" in refused(" ".join((line, *words)))


def test_each_target_is_a_field_or_a_place_of_the_path() -> None:
    for command, option in EACH_OPTION:
        if command.run is not None or not option.target:
            continue
        (operation,) = operations_of(command)
        if option.target.startswith("path:"):
            assert option.target.removeprefix("path:") in operation.placeholders
            continue
        value: object = 5 if option.kind is Kind.NUMBER else sample(option)
        document = fill(command, {option.name: value})
        try:
            operation.decode(msgspec.json.encode(document))
        except msgspec.ValidationError as error:
            # What else is missing or breaks a rule does not matter here.
            assert "unknown field" not in str(error), (command.words, option.name)


def test_an_incomplete_command_is_no_command() -> None:
    parsed = parse(read_line("cluster member"), ROOT)
    assert isinstance(parsed, HelpWanted)
    assert parsed.incomplete
    assert any("authorize" in line for line in help_lines(parsed.node))


def test_unknown_words_are_named_only_when_they_are_nearly_known() -> None:
    assert refused("clsuter list") == "Unknown command: 'clsuter'. Did you mean 'cluster'?"
    assert refused("cluster meber list").endswith("Did you mean 'cluster member'?")
    for line in ("My-Pa55word!", "cluster My-Pa55word!", "keyring list My-Pa55word!"):
        assert "My-Pa55word!" not in refused(line)
    for line in ("user Canary-Password", "user Passw0rd", "my passworD!"):
        assert refused(line) == f"'{line.split()[0]}' has no such subcommand. Did you mean " + (
            f"'{line.split()[0]} password'?"
        )
    assert "did you mean -copassword?" in refused("keyring delete -copasword x")
    assert "Secret" not in refused("keyring delete -Secret-That-Is-No-Option")


def test_values_that_are_missing_wrong_or_too_many_are_named() -> None:
    assert refused("keyring delete -label") == "Option -label needs a value: <keyringlabel>."
    assert "-label needs a value" in refused("keyring delete -label -copassword x")
    assert "-total must be a number; it is '1x'" in refused("keyring create -total 1x")
    assert "-service must be one of core, admin" in refused("cluster config -service cores")
    assert "a word too many" in refused("service start cluster now")
    assert "was given twice" in refused("keyring show -label a -label b")


def test_an_option_that_a_beginning_leaves_open_is_refused() -> None:
    message = refused("keyring create -pa x")
    assert message.endswith("is ambiguous: -password, -partition.")


def test_synopsis_says_what_excludes_what() -> None:
    (delete,) = [command for command in COMMANDS if command.words == "keyring delete"]
    either = "{-keyringid <UUID> | -label <keyringlabel>}"
    assert synopsis(delete) == f"keyring delete {either} [-copassword <password>]"


def test_two_ways_to_say_the_same_are_refused() -> None:
    command = BY_WORDS["keyring show"]
    with pytest.raises(BadInput, match="-keyringid or -label, not both"):
        require_one_each(command, {"keyringid": "x", "label": "y"})
    require_one_each(command, {"label": "y"})


# ---------------------------------------------------------------- lines


def test_a_line_may_have_64_kb_and_no_more() -> None:
    beginning = "keyring show -label "
    longest = beginning + "x" * (MAX_LINE_BYTES - len(beginning))
    assert len(invoked(longest).values["label"]) == MAX_LINE_BYTES - len(beginning)
    assert refused(longest + "x") == "A line may have 65536 bytes at most; this one is longer."
    # Bytes count, not characters.
    assert "longer" in refused("keyring show -label " + "é" * (MAX_LINE_BYTES // 2))


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\ue000", "\ud800"])
def test_control_characters_are_refused_by_number_and_place(character: str) -> None:
    message = refused(f"keyring {character}list")
    assert message == f"The line holds a control character, U+{ord(character):04X}, at 9."


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"a b"', "a b"),
        ('"-copassword"', "-copassword"),
        ('""', ""),
        ("a'b\\c", "a'b\\c"),
        ('a" "b', "a b"),
        ("$(id)`id`;id|id>/tmp/x&", "$(id)`id`;id|id>/tmp/x&"),
        ("é", "é"),
    ],
)
def test_only_double_quotes_mean_anything(written: str, value: str) -> None:
    assert invoked(f"keyring show -label {written}").values == {"label": value}


def test_a_quote_that_is_not_closed_is_refused() -> None:
    assert refused('keyring show -label "a') == "A double quote is not closed."


LABELS = st.text(
    st.characters(
        codec="utf-8", categories=("L", "M", "N", "P", "S", "Zs"), exclude_characters='"'
    ),
    max_size=40,
)


@given(LABELS)
def test_a_quoted_value_arrives_as_it_was_typed(label: str) -> None:
    assert invoked(f'keyring show -label "{label}"').values == {"label": label}


VOCABULARY = st.sampled_from(
    sorted(
        {word for command in COMMANDS for word in command.path}
        | {f"-{option.name}" for _, option in EACH_OPTION}
        | {"?", "help", '"', '"a b"', "-", "--", "-1", "5", "value", "\t", "\x00", "clsuter"}
    )
)
LINES = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(VOCABULARY, st.text(max_size=8)), max_size=12).map(" ".join),
)


@given(LINES)
def test_any_line_is_understood_or_refused_and_nothing_else(line: str) -> None:
    holds_secret(line, ROOT)
    begun, offered = completions(line, ROOT)
    assert all(each.lower().startswith(begun.lower()) for each in offered)
    try:
        words = read_line(line)
        parsed = parse(words, ROOT) if words else None
    except BadInput as error:
        assert error.fault is faults.COMMAND_LINE
        assert len(error.message) < 2000
        return
    if isinstance(parsed, Invocation):
        known = {option.name for option in parsed.command.all_options}
        assert parsed.values.keys() <= known
        assert line not in repr(parsed) or line == parsed.command.words
    elif parsed is not None:
        assert help_lines(parsed.node)


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_completion_leads_to_each_command_and_option(command: Command) -> None:
    before = ""
    for word in command.path:
        for end in range(len(word) + 1):
            _, offered = completions(before + word[:end], ROOT)
            assert word in offered, before + word[:end]
        before += f"{word} "
    for option in command.all_options:
        if option.positional:
            continue
        begun, offered = completions(f"{before}-{option.name[0]}", ROOT)
        assert (begun, f"-{option.name}" in offered) == (f"-{option.name[0]}", True)
        given_already = " ".join(typed(option, option.name))
        assert f"-{option.name}" not in completions(f"{before}{given_already} -", ROOT)[1]
        if option.choices:
            assert completions(f"{before}-{option.name} ", ROOT)[1] == list(option.choices)


def test_nothing_is_offered_where_nothing_can_follow() -> None:
    assert completions("clsuter ", ROOT) == ("", [])
    assert completions('keyring show -label "a', ROOT) == ("", [])
    assert completions('keyring show -label "a"', ROOT) == ("", [])
    assert completions("keyring show -label ", ROOT) == ("", [])
    assert completions("? clus", ROOT) == ("clus", ["cluster"])


# ---------------------------------------------------------------- secrets


def test_lines_with_secrets_are_told_apart() -> None:
    assert holds_secret("keyring delete -label x -copassword y", ROOT)
    assert holds_secret("CLUSTER CREATE -label x -PASSW y", ROOT)
    # What was not understood may be a password.
    assert holds_secret("My-Pa55word!", ROOT)
    assert not holds_secret("keyring list", ROOT)
    assert not holds_secret("keyring show -label x", ROOT)


# ---------------------------------------------------------------- arguments


TARGETS = [
    ".".join((*steps, "a"))
    for length in range(3)
    for steps in itertools.product(("a", "a[0]", "a[1]"), repeat=length)
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_field_is_put_where_its_target_says(target: str) -> None:
    document: dict[str, object] = {}
    put(document, target, "value")
    place: object = document
    for step in target.replace("[", ".").replace("]", "").split("."):
        if isinstance(place, list):
            assert len(place) == int(step) + 1
            place = place[int(step)]
        else:
            assert isinstance(place, dict)
            (place,) = place.values()
    assert place == "value"


def test_options_fill_the_arguments_of_their_operation() -> None:
    create = BY_WORDS["keyring create"]
    answers = {"label": "ring", "password": "p", "partition": "par", "total": 2, "copassword": "c"}
    assert fill(create, answers) == {
        "authentication": [{"type": "CO", "partitionLabel": "par", "password": "c"}],
        "keyRingLabel": "ring",
        "keyRingPassword": "p",
        "total": 2,
    }


def test_refusals_name_options_in_place_of_fields() -> None:
    create = BY_WORDS["keyring create"]
    error = BadInput(faults.BAD_REQUEST, "Field authentication[0].partitionLabel breaks a rule.")
    assert in_the_words_of(create, error).message == "-partition breaks a rule."
    other = BadInput(faults.BAD_REQUEST, "Field keyRingLabels is something else.")
    assert in_the_words_of(create, other).message == other.message


@pytest.mark.parametrize(
    ("words", "told", "shown"),
    [
        (
            "syslog export",
            "A file's name must end in one of tar.gz, log, txt; it is 'x'.",
            "A file's name must end in one of tar.gz, log, txt; it is 'x'.",
        ),
        ("syslog export", "Field log breaks a rule.", "-logname breaks a rule."),
        (
            "sysconf time",
            "time must be hh:mm:ss; it is '9'.",
            "<HH:MM> must be hh:mm:ss; it is '9'.",
        ),
        (
            "cluster member config",
            "Give either group or primary, and not both.",
            "Give either -group or -primary, and not both.",
        ),
        (
            "sysconf ntp addserver",
            "Field server breaks a rule.",
            "<server> breaks a rule.",
        ),
    ],
)
def test_a_word_that_is_also_a_field_stays_a_word(words: str, told: str, shown: str) -> None:
    error = BadInput(faults.BAD_REQUEST, told)
    assert in_the_words_of(BY_WORDS[words], error).message == shown


def test_options_that_do_not_go_together_are_named() -> None:
    config = BY_WORDS["cluster config"]
    (operation,) = operations_of(config)
    document = fill(config, {"service": "core", "ipaddress": "192.0.2.1", "port": 50070})
    with pytest.raises(BadInput) as raised:
        decode_arguments(operation, msgspec.json.encode(document))
    told = in_the_words_of(config, raised.value).message
    assert told == "-port does not go with the other options of 'cluster config'."
