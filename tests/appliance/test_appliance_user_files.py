"""The users' files: nothing outside a user's directory is ever touched."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave import faults
from conclave.appliance.user_files import (
    FILES_MAX,
    INCOMING_MAX,
    SHOWN_CHARACTERS,
    UserFiles,
    check_name,
    shown_name,
)
from conclave.errors import BadInput, NotFound


@pytest.fixture
def files(tmp_path: Path) -> UserFiles:
    return UserFiles(tmp_path / "files", 1000, 2500)


def test_files_are_stored_listed_read_and_deleted(files: UserFiles) -> None:
    stored = files.store("admin", "one two.txt", [b"abc", b"def"])
    assert stored.size_bytes == 6
    files.store("admin", "one two.txt", [b"new"])
    assert [(each.name, each.size_bytes) for each in files.list("admin")] == [("one two.txt", 3)]
    with files.open("admin", "one two.txt") as stream:
        assert stream.read() == b"new"
    assert files.list("operator") == ()
    files.delete("admin", "one two.txt")
    with pytest.raises(NotFound, match="no file"):
        files.delete("admin", "one two.txt")
    files.store("admin", "a.txt", [b""])
    assert files.clear("admin") == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "-rf",
        " x",
        "x ",
        "a\0b",
        "ä",
        "a" * 65,
    ],
)
def test_a_name_is_one_plain_component(name: str, files: UserFiles) -> None:
    for act in (
        lambda: files.open("admin", name),
        lambda: files.store("admin", name, [b"x"]),
        lambda: files.delete("admin", name),
    ):
        with pytest.raises(BadInput, match=r"A file's name must (be|end)"):
            act()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_a_name_that_is_let_through_is_its_own_last_component(name: str) -> None:
    try:
        checked = check_name(name)
    except BadInput:
        return
    assert (Path("/files/admin") / checked).parent == Path("/files/admin")
    assert Path(checked).name == checked


@pytest.mark.parametrize("user_id", ["", ".", "..", "../admin", "a/b", "/"])
def test_a_user_is_one_plain_component(user_id: str, files: UserFiles) -> None:
    with pytest.raises(BadInput):
        files.directory(user_id)


def test_links_and_devices_are_no_files(files: UserFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    directory = files.directory("admin")
    (directory / "link").symlink_to(secret)
    os.mkfifo(directory / "fifo")
    (directory / "directory").mkdir()
    assert files.list("admin") == ()
    for name in ("link", "fifo", "directory"):
        with pytest.raises(NotFound):
            files.open("admin", name)
    (directory / "link").rename(directory / "link.txt")
    files.store("admin", "link.txt", [b"mine"])
    assert secret.read_text() == "secret"


def test_a_file_too_large_leaves_the_old_one(files: UserFiles) -> None:
    files.store("admin", "kept.txt", [b"old"])
    with pytest.raises(BadInput) as refusal:
        files.store("admin", "kept.txt", [b"x" * 600, b"x" * 600])
    assert refusal.value.fault is faults.REQUEST_TOO_LARGE
    with files.open("admin", "kept.txt") as stream:
        assert stream.read() == b"old"
    assert [path.name for path in files.directory("admin").iterdir()] == ["kept.txt"]


def test_the_number_of_files_is_bounded(files: UserFiles) -> None:
    directory = files.directory("admin")
    for number in range(FILES_MAX):
        (directory / f"f{number}.txt").touch()
    with pytest.raises(BadInput, match="no more are allowed"):
        files.store("admin", "one_more.txt", [b""])
    files.store("admin", "f1.txt", [b"replaced"])
    with files.receiving("admin") as incoming:
        files.give_name(incoming, "f2.txt")
        with pytest.raises(BadInput, match="no more are allowed"):
            files.give_name(incoming, "one_more.txt")


def test_interrupted_uploads_are_swept(files: UserFiles) -> None:
    (files.directory("admin") / ".part-0123").write_text("half")
    files.sweep()
    assert list(files.directory("admin").iterdir()) == []


def test_the_bytes_of_a_user_are_bounded_and_the_message_names_limit_and_value(
    files: UserFiles,
) -> None:
    for name in ("a.txt", "b.txt"):
        files.store("admin", name, [b"x" * 1000])
    with pytest.raises(BadInput, match=r"2500 bytes.*max_user_bytes.*2000.*501") as refusal:
        files.store("admin", "c.txt", [b"x" * 501])
    assert refusal.value.fault is faults.REQUEST_TOO_LARGE
    assert sorted(path.name for path in files.directory("admin").iterdir()) == ["a.txt", "b.txt"]
    files.store("admin", "c.txt", [b"x" * 500])
    files.store("admin", "a.txt", [b"y" * 1000])
    files.store("operator", "other.txt", [b"x" * 1000])


def test_files_that_come_in_count_for_the_bytes_of_their_user(files: UserFiles) -> None:
    files.store("admin", "a.txt", [b"x" * 1000])
    with files.writing("admin", "b.txt") as first:
        files.take(first, 1000)
        with pytest.raises(BadInput, match="max_user_bytes"):
            files.store("admin", "c.txt", [b"x" * 501])
    files.store("admin", "c.txt", [b"x" * 500])


def test_what_is_to_be_replaced_and_gets_another_name_counts_again(files: UserFiles) -> None:
    for name in ("a.txt", "b.txt"):
        files.store("admin", name, [b"x" * 1000])
    with (
        pytest.raises(BadInput, match=r"2000.*'a.txt' has 1000"),
        files.writing("admin", "a.txt") as incoming,
    ):
        files.append(incoming, b"y" * 1000)
        files.rename("admin", "a.txt", "c.txt")
    assert [each.name for each in files.list("admin")] == ["b.txt", "c.txt"]


def test_a_file_without_a_name_counts_beside_all_others(files: UserFiles) -> None:
    for name in ("a.txt", "b.txt"):
        files.store("admin", name, [b"x" * 1000])
    with files.receiving("admin") as incoming:
        with pytest.raises(BadInput, match="2500 bytes"):
            files.append(incoming, b"y" * 600)
        files.give_name(incoming, "a.txt")
        with pytest.raises(BadInput, match="2500 bytes"):
            files.store("admin", "c.txt", [b"x" * 501])
    assert [each.name for each in files.list("admin")] == ["a.txt", "b.txt"]
    with files.receiving("admin") as incoming:
        files.give_name(incoming, "a.txt")
        files.append(incoming, b"y" * 600)
        files.keep(incoming)
    assert [each.size_bytes for each in files.list("admin")] == [600, 1000]


def test_what_was_written_without_a_word_is_counted_before_it_gets_its_name(
    files: UserFiles,
) -> None:
    with (
        pytest.raises(BadInput, match="max_file_bytes"),
        files.writing("admin", "a.txt") as incoming,
    ):
        incoming.stream.write(b"x" * 1001)
    assert list(files.directory("admin").iterdir()) == []


def test_files_that_come_in_are_bounded_in_number(files: UserFiles) -> None:
    with contextlib.ExitStack() as opened:
        for number in range(INCOMING_MAX):
            opened.enter_context(files.writing("admin", f"f{number}.txt"))
        with pytest.raises(BadInput, match=f"{INCOMING_MAX} of them"):
            files.store("admin", "more.txt", [b""])
        files.store("operator", "more.txt", [b""])
    files.store("admin", "more.txt", [b""])


def test_a_rename_keeps_to_the_rule_of_names(files: UserFiles) -> None:
    files.store("admin", "a.txt", [b"x"])
    for name in ("server.pem", "a.exe", "a"):
        with pytest.raises(BadInput) as refusal:
            files.rename("admin", "a.txt", name)
        assert refusal.value.fault is faults.FILE_PATTERN
    files.rename("admin", "a.txt", "b.txt")
    assert [each.name for each in files.list("admin")] == ["b.txt"]


@given(st.text(max_size=300))
def test_a_name_in_a_record_is_bounded_and_printable(name: str) -> None:
    shown = shown_name(name)
    assert len(shown) <= SHOWN_CHARACTERS
    assert shown.isascii()
    assert shown.isprintable()
