"""Files of a user over REST: whole or not at all, one's own, and nowhere else on the disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.rest_house import MONITOR, OPERATOR, Client, House

FILES = "/users/monitor/files"
VENDOR_FORM = "application/vnd.safenetinc.lunasa+multipart;version="
CONTENT = bytes(range(256)) * 3000


def send(client: Client, name: str, content: bytes = CONTENT, path: str = FILES) -> httpx.Response:
    return client.post(path, headers={"Content-Type": None}, files={"file": (name, content)})


def names(client: Client) -> list[str]:
    return [each["id"] for each in client.get(FILES).json()["files"]]


def test_a_file_comes_up_and_goes_down_unchanged(house: House) -> None:
    client = house.client(MONITOR)
    sent = send(client, "cluster.spkg")
    assert (sent.status_code, sent.headers["Location"]) == (204, f"{FILES}/cluster.spkg")
    (listed,) = client.get(FILES).json()["files"]
    assert (listed["id"], listed["url"]) == ("cluster.spkg", f"{FILES}/cluster.spkg")
    assert listed["size"] == len(CONTENT)
    shown = client.get(f"{FILES}/cluster.spkg").json()
    assert (shown["size"], shown["download"]) == (len(CONTENT), f"{FILES}/cluster.spkg/download")
    assert client.get(f"{shown['download']}?raw=true").content == CONTENT
    packed = client.get(shown["download"])
    assert packed.headers["Content-Type"] == "application/octet-stream"
    with tarfile.open(fileobj=io.BytesIO(packed.content), mode="r:gz") as archive:
        (member,) = archive.getmembers()
        inside = archive.extractfile(member)
        assert inside is not None
        assert (member.name, inside.read()) == ("cluster.spkg", CONTENT)
    assert client.delete(f"{FILES}/cluster.spkg").status_code == 204
    assert client.get(f"{FILES}/cluster.spkg").status_code == 404
    assert names(client) == []


def test_an_empty_file_and_a_second_of_the_same_name(house: House) -> None:
    client = house.client(MONITOR)
    assert send(client, "a.txt").status_code == 204
    assert send(client, "a.txt", b"").status_code == 204
    assert client.get(f"{FILES}/a.txt").json()["size"] == 0
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{FILES}/a.txt/download").content)) as archive:
        assert [member.size for member in archive.getmembers()] == [0]


def test_the_vendors_media_type_may_leave_the_boundary_out(house: House) -> None:
    client = house.client(MONITOR)
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.log"\r\n\r\n'
        b"Hello\r\n--XX--\r\n"
    )
    sent = client.post(FILES, headers={"Content-Type": VENDOR_FORM}, content=body)
    assert sent.status_code == 204, sent.text
    assert client.get(f"{FILES}/a.log/download?raw=true").content == b"Hello"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.txt",
        "..txt",
        "a/b.txt",
        "a\\b.txt",
        ".hidden.txt",
        "/etc/a.txt",
        "a\x00.txt",
        "server.pem",
        "a.exe",
        "noending",
        "x" * 61 + ".txt",
        "ä.txt",
        "a.txt ",
    ],
)
def test_names_that_lead_elsewhere_or_are_reserved_are_refused(house: House, name: str) -> None:
    client = house.client(MONITOR)
    before = sorted(path for path in house.appliance.paths.root.rglob("*.txt"))
    assert send(client, name).status_code == 400
    assert names(client) == []
    assert sorted(path for path in house.appliance.paths.root.rglob("*.txt")) == before


def test_links_and_directories_are_no_files(house: House) -> None:
    client = house.client(MONITOR)
    send(client, "a.txt")
    directory = house.appliance.files.directory("monitor")
    (directory / "link.txt").symlink_to(house.appliance.paths.config.parent / "appliance.db")
    (directory / "dir.txt").mkdir()
    assert names(client) == ["a.txt"]
    for name in ("link.txt", "dir.txt", "..%2F..%2Fappliance.db", "%2e%2e"):
        assert client.get(f"{FILES}/{name}/download").status_code in (400, 404)
        assert client.delete(f"{FILES}/{name}").status_code in (400, 404)
    assert (house.appliance.paths.root / "appliance.db").exists()


def test_files_are_their_users_alone(house: House) -> None:
    send(house.client(MONITOR), "a.txt")
    for client in (house.client(), house.client(OPERATOR)):
        for method, path in (
            ("GET", FILES),
            ("GET", f"{FILES}/a.txt"),
            ("GET", f"{FILES}/a.txt/download"),
            ("DELETE", f"{FILES}/a.txt"),
        ):
            refused = client.call(method, path)
            assert refused.status_code == 403
            assert refused.json()["id"] == "SERVERPLUGIN_USERID_NOT_AUTHORIZED"
        assert send(client, "b.txt").status_code == 403


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.appliance.files, "max_file_bytes", 1000)
    client = house.client(MONITOR)
    assert send(client, "a.txt", bytes(1000)).status_code == 204
    for size in (1001, 500_000):
        refused = send(client, "b.txt", bytes(size))
        assert (refused.status_code, refused.json()["id"]) == (413, "SERVER_REQUEST_TOO_LARGE")
    assert names(client) == ["a.txt"]
    assert len(list(house.appliance.paths.files.rglob("*"))) == 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "SERVER_REQUEST_NOT_APPROPRIATE"),
        (b"no form", "SERVER_REQUEST_NOT_APPROPRIATE"),
        (b'{"file": 1}', "SERVER_REQUEST_NOT_APPROPRIATE"),
        (
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\ncut',
            "SERVER_REQUEST_NOT_APPROPRIATE",
        ),
        (
            b'--XX\r\nContent-Disposition: form-data; name="f"\r\n\r\nfield\r\n--XX--\r\n',
            "SERVER_REQUEST_NOT_APPROPRIATE",
        ),
        (b"--XX\r\n" + b"a" * 9000 + b": b\r\n\r\n--XX--\r\n", "SERVER_REQUEST_NOT_APPROPRIATE"),
        (
            b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\na\r\n'
            b'--XX\r\nContent-Disposition: form-data; name="g"; filename="b.txt"\r\n\r\n'
            b"b\r\n--XX--\r\n",
            "SERVER_FILE_UPLOAD_LIMIT_EXCEED",
        ),
    ],
)
def test_what_is_no_single_whole_file_is_refused(house: House, body: bytes, fault: str) -> None:
    client = house.client(MONITOR)
    form = {"Content-Type": "multipart/form-data; boundary=XX"}
    refused = client.post(FILES, headers=form, content=body)
    assert (refused.status_code, refused.json()["id"]) == (400, fault)
    assert names(client) == []


def test_a_body_that_arrives_in_crumbs_is_the_same_file(house: House) -> None:
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'
        b"Hello\r\n--X not the end\r\n--XX--\r\n"
    )

    async def crumbs() -> AsyncIterator[bytes]:
        for place in range(len(body)):
            yield body[place : place + 1]

    client = house.client(MONITOR)
    form: dict[str, Any] = {"headers": {"Content-Type": "multipart/form-data; boundary=XX"}}
    assert client.post(FILES, content=crumbs(), **form).status_code == 204
    expected = b"Hello\r\n--X not the end"
    assert client.get(f"{FILES}/a.txt/download?raw=true").content == expected


def test_files_go_with_their_user(house: House) -> None:
    admin = house.client()
    new = {"userId": "joe", "password": "First-Password-1", "role": "monitor"}
    for _ in range(2):
        assert admin.post("/users", new).status_code == 204
        assert house.appliance.files.list("joe") == ()
        house.appliance.files.store("joe", "a.txt", [b"private"])
        assert admin.delete("/users/joe").status_code == 204


def test_the_audit_log_names_the_file(house: House) -> None:
    send(house.client(MONITOR), "a.txt")
    lines, _ = house.loop.run(house.appliance.audit.page(0, 3))
    assert any(f'"note":"{FILES}/a.txt"'.encode() in line for line in lines)


def test_a_refused_upload_is_recorded_with_its_name(house: House) -> None:
    client = house.client(MONITOR)
    assert send(client, "bad\x7f name.exe").status_code == 400
    lines, _ = house.loop.run(house.appliance.audit.page(0, 1))
    assert b'"refused"' in lines[0]
    assert b"monitor/files/bad" in lines[0]


def test_the_bytes_of_a_user_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = house.client(MONITOR)
    client.delete(FILES)
    monkeypatch.setattr(house.appliance.files, "max_user_bytes", len(CONTENT) + 10)
    assert send(client, "a.bin").status_code == 204
    refused = send(client, "b.bin", b"x" * 11)
    assert refused.status_code == 413
    assert f"{len(CONTENT) + 10} bytes together (files.max_user_bytes)" in refused.text
    assert names(client) == ["a.bin"]
    assert send(client, "b.bin", b"x" * 10).status_code == 204
    assert client.delete(FILES).status_code == 204


def test_bodies_under_way_count_for_the_bytes_of_their_user(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client(MONITOR)
    client.delete(FILES)
    half, head = (
        20_000,
        b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n',
    )
    monkeypatch.setattr(house.appliance.files, "max_user_bytes", 2 * half)
    statuses: list[int] = []

    async def body(meanwhile: bool) -> AsyncIterator[bytes]:
        yield head + b"x" * half
        if meanwhile:
            # The whole of it is on the disk, and would be twice with this one.
            refused = await client.http.post(FILES, headers=form, content=body(False))
            statuses.append(refused.status_code)
        yield b"y" * half + b"\r\n--XX--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=XX"}
    assert client.post(FILES, headers=form, content=body(True)).status_code == 204
    assert statuses == [413]
    (listed,) = client.get(FILES).json()["files"]
    assert listed["size"] == 2 * half
    assert [path.name for path in house.appliance.paths.files.rglob("*")] == ["monitor", "a.bin"]
    assert client.delete(FILES).status_code == 204


def test_a_body_over_the_quota_is_refused_before_its_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = house.client(MONITOR)
    client.delete(FILES)
    monkeypatch.setattr(house.appliance.files, "max_user_bytes", 10_000)
    sent = []

    async def body() -> AsyncIterator[bytes]:
        yield b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
        for number in range(1000):
            sent.append(number)
            yield bytes(1000)

    form = {"Content-Type": "multipart/form-data; boundary=XX"}
    refused = client.post(FILES, headers=form, content=body())
    assert (refused.status_code, len(sent) < 1000) == (413, True)
    assert "files.max_user_bytes" in refused.text
    assert names(client) == []


def test_a_body_of_a_user_who_was_disabled_meanwhile_is_not_kept(house: House) -> None:
    client, users = house.client(OPERATOR), house.appliance.users

    async def body() -> AsyncIterator[bytes]:
        yield b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
        await users.set_enabled("operator", enabled=False)
        yield b"whole\r\n--XX--\r\n"

    form = {"Content-Type": "multipart/form-data; boundary=XX"}
    refused = client.post("/users/operator/files", headers=form, content=body())
    assert (refused.status_code, refused.json()["id"]) == (401, "FRAMEWORK_NOT_AUTHENTICATED")
    assert house.appliance.files.list("operator") == ()
