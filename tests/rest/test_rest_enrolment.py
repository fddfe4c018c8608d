"""Enrolment tokens over REST: who makes them, what they open, and where their secret stands."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.rest.conftest import Town
from tests.rest.test_rest_guide import expect, make_request
from tests.support.rest_house import MONITOR, OPERATOR, Client


def tokens_of(town: Town) -> str:
    return f"/api/clusters/{town.cluster_id}/enrolmentTokens"


def make(town: Town, **wanted: Any) -> dict[str, Any]:
    answer = expect(town.house.client().post(tokens_of(town), wanted), 201)
    made: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == made["url"]
    return made


def enrol(town: Town, token: str, *, name: str = "host-1", **more: str) -> Any:
    stranger = town.house.admin_client(None)
    body = {"token": token, "csr": make_request(name), **more}
    return stranger.post(f"/api/clusters/{town.cluster_id}/clients/actions/enrol", body)


def listed(town: Town, made: dict[str, Any], client: Client | None = None) -> dict[str, Any]:
    found = (client or town.house.client()).get(tokens_of(town)).json()["data"]
    (row,) = [each for each in found if each["tokenID"] == made["tokenID"]]
    shown: dict[str, Any] = row
    return shown


@pytest.mark.usefixtures("customer")
def test_a_token_registers_one_client_once_with_what_it_is_bound_to(
    town: Town, customer_name: str
) -> None:
    made = make(town, commonName="host-1", label="billing", monitorUser=customer_name, minutes=5)
    before = listed(town, made, town.house.client(MONITOR))
    assert (before["state"], before["createdBy"], before["clientID"]) == ("open", "admin", "")
    assert "token" not in before
    answer = expect(enrol(town, made["token"], label="mine"), 201).json()
    assert (answer["clientLabel"], answer["monitorUser"]) == ("billing", customer_name)
    issued = x509.load_pem_x509_certificate(answer["certificate"].encode())
    authority = x509.load_pem_x509_certificate(answer["caCertificate"].encode())
    issued.verify_directly_issued_by(authority)
    assert answer["members"][0]["cryptoPort"] == answer["cryptoPort"]
    after = listed(town, made)
    assert (after["state"], after["clientID"]) == ("used", answer["clientID"])
    again = expect(enrol(town, made["token"]), 403).json()
    assert again["id"] == "CLUSTERPLUGIN_ENROLMENT_TOKEN_REFUSED"
    assert "was used already" in again["details"]
    clients = town.house.client().get(f"/api/clusters/{town.cluster_id}/clients").json()["data"]
    assert [each["clientLabel"] for each in clients].count("billing") == 1


def test_an_unbound_token_leaves_name_and_label_to_the_client(town: Town) -> None:
    answer = expect(enrol(town, make(town)["token"], name="any", label="own"), 201).json()
    assert (answer["commonName"], answer["clientLabel"]) == ("any", "own")
    assert answer["monitorUser"] == ""


def test_a_token_for_another_name_is_refused_and_stays_open(town: Town) -> None:
    made = make(town, commonName="host-1")
    refused = expect(enrol(town, made["token"], name="host-2"), 403).json()
    assert "is for common name 'host-1', not 'host-2'" in refused["details"]
    assert listed(town, made)["state"] == "open"
    expect(enrol(town, made["token"]), 201)


def test_a_revoked_token_opens_nothing_and_a_used_one_cannot_be_revoked(town: Town) -> None:
    client, made = town.house.client(), make(town)
    expect(client.delete(made["url"]), 204)
    expect(client.delete(made["url"]), 204)
    assert listed(town, made)["state"] == "revoked"
    assert "was revoked already" in expect(enrol(town, made["token"]), 403).json()["details"]
    used = make(town)
    registered = expect(enrol(town, used["token"]), 201).json()
    refused = expect(client.delete(used["url"]), 409).json()
    assert registered["clientID"] in refused["details"]


@pytest.mark.parametrize("part", ["id", "secret"])
def test_who_cannot_prove_a_secret_learns_nothing(town: Town, part: str) -> None:
    """A wrong secret of a token that is there is answered as one that is not."""
    token = make(town)["token"]
    at = 10 if part == "id" else 50
    wrong = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    refused = expect(enrol(town, wrong), 403).json()
    assert "is unknown to this cluster" in refused["details"]
    assert wrong not in str(refused)


def test_only_an_administrator_makes_and_revokes_tokens(town: Town) -> None:
    made = make(town)
    for user in (OPERATOR, MONITOR):
        client = town.house.client(user)
        expect(client.post(tokens_of(town), {}), 403)
        expect(client.delete(made["url"]), 403)
    assert listed(town, made)["state"] == "open"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": 43_201}, "minutes"),
        ({"commonName": "two words"}, "commonName"),
        ({"label": "two\nlines"}, "label"),
        ({"monitorUser": "operator"}, "monitorUser must be a user of the role monitor"),
        ({"token": "enrol-own"}, "token"),
    ],
)
def test_a_bad_token_is_refused_by_field(town: Town, wanted: dict[str, Any], told: str) -> None:
    refused = expect(town.house.client().post(tokens_of(town), wanted), 400).json()
    assert told in refused["details"]


def test_c24_the_secret_of_a_token_stands_in_no_log_and_no_file(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "conclave")
    made = make(town, label="for the log")
    expect(enrol(town, made["token"]), 201)
    expect(enrol(town, made["token"][:-4] + "AAAA"), 403)
    secret = made["token"][-40:]
    lines, _ = town.house.loop.run(town.house.appliance.audit.page(0, 20))
    records = b"\n".join(lines)
    assert b"enrolment.create" in records
    assert b"client.enrol" in records
    assert made["tokenID"].encode() in records
    assert b"for the log" in records
    state: Path = town.house.appliance.config.state_dir
    written = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    assert any(b"for the log" in content for content in written)
    for content in (records, caplog.text.encode(), *written):
        assert secret.encode() not in content
