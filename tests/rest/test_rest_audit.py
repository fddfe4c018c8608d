"""Every way through a door leaves its record, and no secret is in any of them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import UnionType
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from conclave.audit.arguments import shown_arguments
from conclave.audit.chain import verify
from conclave.cli import main
from conclave.operations.model import AnyOperation
from conclave.rest.openapi import OPERATIONS
from conclave.settings import AuditSettings, FileSettings
from tests.rest.conftest import Town, make_keyring
from tests.rest.test_rest_guide import SO, chapter_2_partition, expect, make_request
from tests.rest.test_rest_user_keys import certificate_pem
from tests.support.rest_house import (
    ADMIN,
    AUDITOR,
    MONITOR,
    Client,
    House,
    open_house,
    settle_users,
)

AUDIT = "/api/lunasa/audit"
CANARY = "canary-Secret-1"


def records(house: House, limit: int = 50) -> list[dict[str, Any]]:
    """Return the newest records, oldest first."""
    auditor = house.client(AUDITOR)
    assert auditor.get("/users/audit").status_code == 200  # this login is the newest
    answered = auditor.get(f"{AUDIT}/records?limit={limit}").json()["records"]
    return [each for each in reversed(answered) if each["user"] != "audit"]


def whole_log(house: House) -> bytes:
    exported = house.client(AUDITOR).get(f"{AUDIT}/export")
    assert exported.status_code == 200
    assert exported.headers["Content-Type"] == "application/octet-stream"
    return exported.content


def test_a_change_says_who_from_where_what_and_how_it_ended(house: House) -> None:
    client = house.client(source="192.0.2.33")
    new = {"userId": "joe", "password": CANARY, "role": "monitor", "fullName": "Joe"}
    assert client.post("/users", new).status_code == 204
    assert client.post("/users", new).status_code == 409
    done, refused = (each for each in records(house) if each["operation"] == "user.create")
    assert done == done | {
        "kind": "operation",
        "outcome": "done",
        "door": "rest",
        "user": "admin",
        "role": "admin",
        "source": "192.0.2.33",
        "target": "/users",
        "arguments": {"userId": "joe", "role": "monitor", "fullName": "Joe"},
        "status": 204,
        "fault": "",
    }
    assert (refused["outcome"], refused["status"]) == ("refused", 409)
    assert refused["fault"] == "SERVERPLUGIN_USERID_EXISTS"


def test_logins_failures_and_lockouts_are_recorded(house: House) -> None:
    stranger = house.client((CANARY, CANARY), source="192.0.2.90")
    assert stranger.get("/api/lunasa").status_code == 401
    wrong = house.client(("monitor", CANARY), source="192.0.2.91")
    answers = [wrong.get("/api/lunasa").status_code for _ in range(8)]
    assert (answers[0], answers[-1]) == (401, 429)
    assert house.client(MONITOR, source="192.0.2.92").get("/users/monitor").status_code == 429
    logins = [each for each in records(house) if each["kind"] == "login"]
    nobody = [each for each in logins if each["source"] == "192.0.2.90"]
    assert [each["user"] for each in nobody] == [""]
    assert nobody[0]["note"] == "the name belongs to no user"
    tried = [each["fault"] for each in logins if each["source"] == "192.0.2.91"]
    failures = answers.count(401)
    assert tried == ["FRAMEWORK_NOT_AUTHENTICATED"] * failures + ["SERVER_LOGIN_DELAYED"]
    assert CANARY.encode() not in whole_log(house)


def test_a_good_login_is_recorded_once(house: House) -> None:
    client = house.client(source="192.0.2.34")
    for _ in range(3):
        client.get("/api/lunasa")
    found = [each for each in records(house) if each["source"] == "192.0.2.34"]
    assert [(each["kind"], each["outcome"], each["user"]) for each in found] == [
        ("login", "done", "admin")
    ]


def test_a_missing_right_is_recorded_and_reading_is_not(house: House) -> None:
    client = house.client(MONITOR, source="192.0.2.35")
    assert client.get("/api/lunasa").status_code == 200
    assert client.get("/users").status_code == 403
    found = [each for each in records(house) if each["source"] == "192.0.2.35"]
    kinds = [(each["operation"], each["outcome"], each["fault"]) for each in found]
    assert kinds == [("", "done", ""), ("user.list", "refused", "FRAMEWORK_NO_ACL_RULE")]


def test_reading_is_recorded_where_it_is_asked_for(tmp_path: Path) -> None:
    with open_house(tmp_path / "appliance", audit=AuditSettings(reads=True)) as house:
        settle_users(house)
        house.client(MONITOR).get("/api/lunasa")
        assert "appliance.show" in [each["operation"] for each in records(house)]


def test_a_flood_without_login_leaves_one_record_a_minute(house: House) -> None:
    stranger = house.client(None, source="192.0.2.36")
    for _ in range(20):
        assert stranger.get("/users").status_code == 401
    assert len([each for each in records(house) if each["source"] == "192.0.2.36"]) == 1


def test_refusals_of_strangers_leave_one_record_a_minute(town: Town) -> None:
    """Each kind of them, whatever the operation that asks for no login refuses them with."""
    stranger = town.house.client(None, source="192.0.2.37")
    actions = f"/api/clusters/{town.cluster_id}/clients/actions"
    token = {"token": "enrol-" + "A" * 64, "csr": make_request("host")}
    for _ in range(5):
        expect(stranger.post(f"{actions}/enrol", token), 403)
        expect(stranger.post(f"{actions}/enrol", {"token": "enrol-"}), 400)
        expect(stranger.post(f"{actions}/renew", {"csr": make_request("host")}), 404)
    found = [each for each in records(town.house) if each["source"] == "192.0.2.37"]
    assert [(each["operation"], each["fault"]) for each in found] == [
        ("client.enrol", "CLUSTERPLUGIN_ENROLMENT_TOKEN_REFUSED"),
        ("client.enrol", "FRAMEWORK_BAD_REQUEST"),
        ("client.renew", "CLUSTERPLUGIN_CLIENT_NOT_FOUND"),
    ]


def test_a_network_of_ipv6_is_one_source_of_refusals(house: House) -> None:
    addresses = [f"2001:db8::{number:x}" for number in range(1, 6)]
    for each in addresses:
        assert house.client(None, source=each).get("/users").status_code == 401
    found = [each for each in records(house) if each["source"] in addresses]
    assert [each["source"] for each in found] == addresses[:1]


def test_a_network_of_ipv6_is_one_source_of_attempts_that_come_too_early(house: House) -> None:
    addresses = [f"2001:db8::{number:x}" for number in range(1, 12)]
    answers = [
        house.client(("monitor", CANARY), source=each).get("/api/lunasa").status_code
        for each in addresses
    ]
    assert answers.count(429) > 1
    logins = [each for each in records(house) if each["kind"] == "login"]
    early = [each for each in logins if each["fault"] == "SERVER_LOGIN_DELAYED"]
    assert len(early) == 1


def test_a_request_that_breaks_off_leaves_one_record_a_minute(town: Town) -> None:
    """A stranger who hangs up in the middle costs no more of the log than one who is refused."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "https",
        "method": "POST",
        "path": f"/api/clusters/{town.cluster_id}/clients/actions/renew",
        "query_string": b"",
        "headers": [(b"content-length", b"100")],
        "client": ("192.0.2.38", 50000),
    }

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(_message: object) -> None:
        """Nobody is there any more."""

    async def call() -> None:
        await town.house.rest(scope, receive, send)

    for _ in range(5):
        town.house.loop.run(call())
    found = [each for each in records(town.house) if each["source"] == "192.0.2.38"]
    assert [each["outcome"] for each in found] == ["failed"]


def test_a_renewal_is_recorded_when_there_was_one(town: Town) -> None:
    client, request = town.house.client(source="192.0.2.39"), make_request("renewed")
    clients = f"/api/clusters/{town.cluster_id}/clients"
    made = expect(client.post(clients, {"csr": request}), 201).json()
    stranger = town.house.client(None, source="192.0.2.39")
    for _ in range(3):
        expect(stranger.post(f"{clients}/actions/renew", {"csr": request}), 200)
    other = certificate_pem(ec.generate_private_key(ec.SECP256R1()))
    old = x509.load_pem_x509_certificate(other.encode())
    with closing(sqlite3.connect(town.house.appliance.paths.cluster_store)) as store:
        # A certificate that the cluster's CA did not make is due, as one of an older CA is.
        values = (old.public_bytes(Encoding.DER), UUID(made["clientID"]).bytes)
        store.execute("UPDATE clients SET certificate_der = ? WHERE client_id = ?", values)
        store.commit()
    for _ in range(3):
        expect(stranger.post(f"{clients}/actions/renew", {"csr": request}), 200)
    found = [each for each in records(town.house) if each["source"] == "192.0.2.39"]
    renewals = [each for each in found if each["operation"] == "client.renew"]
    assert [(each["outcome"], each["note"]) for each in renewals] == [("done", made["url"])]


def test_an_enrolment_that_is_asked_for_again_is_recorded_once(town: Town) -> None:
    path = f"/api/clusters/{town.cluster_id}"
    token = expect(town.house.client().post(f"{path}/enrolmentTokens", {}), 201).json()["token"]
    stranger = town.house.client(None, source="192.0.2.40")
    body = {"token": token, "csr": make_request("again")}
    for _ in range(3):
        expect(stranger.post(f"{path}/clients/actions/enrol", body), 201)
    found = [each for each in records(town.house) if each["source"] == "192.0.2.40"]
    assert [(each["operation"], each["outcome"]) for each in found] == [("client.enrol", "done")]


def test_the_way_of_a_client_is_told_from_its_token_to_its_revocation(town: Town) -> None:
    admin, cluster = town.house.client(), f"/api/clusters/{town.cluster_id}"
    ring = make_keyring(town)["keyRingLabel"]
    token = expect(admin.post(f"{cluster}/enrolmentTokens", {"label": "told"}), 201).json()
    spare = expect(admin.post(f"{cluster}/enrolmentTokens", {}), 201).json()
    stranger = town.house.admin_client(None, source="192.0.2.41")
    body = {"token": token["token"], "csr": make_request("told")}
    client = expect(stranger.post(f"{cluster}/clients/actions/enrol", body), 201).json()["url"]
    expect(admin.post(f"{client}/keyrings", {"keyrings": [ring]}), 204)
    expect(admin.delete(f"{client}/keyrings/{ring}"), 204)
    expect(admin.put(f"{cluster}/assignment", {"mode": "open"}), 204)
    expect(admin.delete(spare["url"]), 204)
    expect(admin.delete(client), 204)
    found = records(town.house)
    at = max(n for n, each in enumerate(found) if each["operation"] == "client.enrol")
    told = [
        (each["operation"], each["user"], each["target"], each["arguments"], each["note"])
        for each in found[at - 2 :]
        if each["kind"] == "operation"
    ]
    tokens = f"{cluster}/enrolmentTokens"
    minutes = {"minutes": 1440}
    enrolled = f"{client} by enrolment token {token['tokenID']}"
    assert told == [
        ("enrolment.create", "admin", tokens, minutes | {"label": "told"}, token["url"]),
        ("enrolment.create", "admin", tokens, minutes | {"label": ""}, spare["url"]),
        (
            "client.enrol",
            "",
            f"{cluster}/clients/actions/enrol",
            {"csr": body["csr"][:256], "label": ""},
            enrolled,
        ),
        ("client.keyrings.assign", "admin", f"{client}/keyrings", {"keyrings": [ring]}, ""),
        ("client.keyrings.take", "admin", f"{client}/keyrings/{ring}", {}, ""),
        ("assignment.set", "admin", f"{cluster}/assignment", {"mode": "open"}, ""),
        ("enrolment.revoke", "admin", spare["url"], {}, ""),
        ("client.revoke", "admin", client, {}, ""),
    ]


def test_a_task_is_recorded_when_it_is_made_and_when_it_ends(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    again = {"label": "again", "password": SO, "domain": "d"}
    waiting = client.put(house.hsm_url, again)
    assert waiting.status_code == 202
    url = waiting.headers["Location"]
    assert client.post(f"{url}/actions/start").status_code == 202
    made, started, ended = (each for each in records(house) if each["task"] == url)
    assert (made["operation"], made["outcome"]) == ("hsm.initialize", "accepted")
    assert made["arguments"]["label"] == "again"
    assert {started["kind"], ended["kind"]} == {"operation", "task"}
    (task,) = (each for each in (started, ended) if each["kind"] == "task")
    assert (task["operation"], task["user"], task["outcome"]) == (
        "hsm.initialize",
        "admin",
        "done",
    )


def test_the_log_is_whole_and_verifies_with_its_key(house: House, tmp_path: Path) -> None:
    house.client().post("/users", {"userId": "joe", "password": CANARY})
    auditor = house.client(AUDITOR)
    shown = auditor.get(AUDIT).json()
    verdict = auditor.post(f"{AUDIT}/actions/verify").json()
    assert verdict["last"] >= shown["sequence"]
    lines = whole_log(house).splitlines(keepends=True)
    assert verify(lines, trusted_key=shown["publicKey"]).records == len(lines) - 1


def test_an_export_to_a_file_verifies_with_the_command(house: House, tmp_path: Path) -> None:
    auditor = house.client(AUDITOR)
    key = auditor.get(AUDIT).json()["publicKey"]
    written = auditor.post(f"{AUDIT}/actions/export")
    assert written.status_code == 201
    content = auditor.get(f"{written.headers['Location']}/download?raw=true").content
    copy = tmp_path / "audit.jsonl"
    copy.write_bytes(content)
    result = CliRunner().invoke(main, ["audit", "verify", "--key", key, str(copy)])
    assert result.exit_code == 0, result.output
    copy.write_bytes(content.replace(b'"user":"audit"', b'"user":"nobody"', 1))
    assert CliRunner().invoke(main, ["audit", "verify", str(copy)]).exit_code == 1


def test_a_log_larger_than_a_file_may_be_is_not_written_in_part(tmp_path: Path) -> None:
    with open_house(tmp_path / "appliance", files=FileSettings(max_file_bytes=1024)) as house:
        settle_users(house)
        auditor = house.client(AUDITOR)
        refused = auditor.post(f"{AUDIT}/actions/export")
        assert (refused.status_code, refused.json()["id"]) == (413, "SERVER_REQUEST_TOO_LARGE")
        assert f"GET {AUDIT}/export" in refused.json()["details"]
        assert auditor.get("/users/audit/files").json()["files"] == []
        assert len(whole_log(house)) > 1024


def test_a_log_that_was_tampered_with_is_refused(house: House) -> None:
    house.client().post("/users", {"userId": "joe", "password": CANARY})
    auditor = house.client(AUDITOR)
    auditor.post(f"{AUDIT}/actions/verify")
    (path,) = house.appliance.paths.audit.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"user.create", b"user.delete"))
    refused = auditor.post(f"{AUDIT}/actions/verify")
    assert (refused.status_code, refused.json()["id"]) == (409, "SERVERPLUGIN_AUDIT_LOG_BROKEN")


def test_a_change_that_cannot_be_recorded_is_not_acknowledged(house: House) -> None:
    client, audit = house.client(), house.appliance.audit
    house.loop.run(audit.summary())
    current = audit._files._current
    kept = os.dup(current)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, current)  # what is written there fails
    for user_id, made in (("first", True), ("second", False)):
        refused = client.post("/users", {"userId": user_id, "password": CANARY})
        assert (refused.status_code, refused.json()["id"]) == (507, "SERVERPLUGIN_AUDIT_LOG_FAILED")
        assert (user_id in [user.user_id for user in house.appliance.users.all()]) is made
    os.dup2(kept, current)
    house.loop.run(audit.summary())
    assert client.post("/users", {"userId": "third", "password": CANARY}).status_code == 204
    made_users = [
        each["arguments"] for each in records(house) if each["operation"] == "user.create"
    ]
    assert [each["userId"] for each in made_users] == ["first", "second", "third"]
    os.close(kept)
    os.close(writer)


def test_pages_of_records_name_the_next(town: Town) -> None:
    auditor = town.house.client(AUDITOR)
    first = auditor.get(f"{AUDIT}/records?limit=2")
    assert len(first.json()["records"]) == 2
    assert first.headers["Link"] == f'<{AUDIT}/records?limit=2&offset=2>; rel="next"'


def test_only_auditors_read_the_log(town: Town) -> None:
    for login in (ADMIN, MONITOR):
        assert town.house.client(login).get(f"{AUDIT}/records").status_code == 403


# ---- no secret, whatever the operation


def named(each: AnyOperation) -> str:
    return each.name


def shapes(each: AnyOperation) -> tuple[type[msgspec.Struct], ...]:
    arguments = each.arguments
    return get_args(arguments) if isinstance(arguments, UnionType) else (arguments,)


def filled(info: msgspec.inspect.Type) -> Any:
    """Return a value of a declared type: the canary wherever a secret belongs."""
    match info:
        case msgspec.inspect.Metadata():
            return CANARY if (info.extra or {}).get("secret") else filled(info.type)
        case msgspec.inspect.UnionType():
            return filled(info.types[0])
        case msgspec.inspect.StructType():
            return info.cls(**{field.name: filled(field.type) for field in info.fields})
        case msgspec.inspect.ListType():
            return [filled(info.item_type)]
        case msgspec.inspect.LiteralType():
            return info.values[0]
        case msgspec.inspect.IntType():
            return 1
        case msgspec.inspect.BoolType():
            return True
    return "shown"


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_no_secret_of_any_operation_gets_into_a_record(operation: AnyOperation) -> None:
    for shape in shapes(operation):
        arguments = filled(msgspec.inspect.type_info(shape))
        sent = msgspec.json.encode(arguments)
        shown = msgspec.json.encode(shown_arguments(arguments))
        assert CANARY.encode() not in shown
        assert b"password" not in shown.lower() or b"password" not in sent.lower()


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_no_secret_that_was_sent_gets_into_the_log(town: Town, operation: AnyOperation) -> None:
    from tests.rest.test_rest_generated import concrete

    client: Client = town.house.client(ADMIN)
    for shape in shapes(operation):
        body = filled(msgspec.inspect.type_info(shape))
        content = msgspec.json.encode(body)
        path = concrete(operation.path)
        if operation.name not in ("user.create", "session.close"):
            client.call(operation.method, path, content=content)
    town.house.loop.run(town.house.appliance.audit.summary())
    for file in town.house.appliance.paths.audit.glob("*.jsonl"):
        assert CANARY.encode() not in file.read_bytes()
