"""Assignments, customers of a service provider, and renewals over REST."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rest.conftest import Town
from tests.rest.test_rest_guide import expect, make_request
from tests.support.cluster_bench import client_request
from tests.support.hsm_bench import CO
from tests.support.rest_house import MONITOR, OPERATOR, Client


def cluster_of(town: Town) -> str:
    return f"/api/clusters/{town.cluster_id}"


def register(town: Town, **more: str) -> dict[str, Any]:
    body = {"csr": make_request(f"host-{uuid4().hex[:8]}"), **more}
    answer = expect(town.house.client().post(f"{cluster_of(town)}/clients", body), 201)
    made: dict[str, Any] = answer.json()
    return made


def make_keyring(town: Town) -> dict[str, str]:
    body = {
        "authentication": [{"type": "CO", "password": CO.decode(), "partitionLabel": "par"}],
        "keyRingLabel": f"ring-{uuid4().hex[:8]}",
        "keyRingPassword": "keyringpassword",
    }
    answer = expect(town.house.client().post("/api/keyrings", body), 201)
    (made,) = answer.json()["data"]
    keyring: dict[str, str] = made
    return keyring


def test_the_mode_is_open_until_an_administrator_sets_another(town: Town) -> None:
    client, path = town.house.client(), f"{cluster_of(town)}/assignment"
    assert client.get(path).json() == {"mode": "open"}
    expect(town.house.client(OPERATOR).put(path, {"mode": "assigned"}), 403)
    expect(client.put(path, {"mode": "closed"}), 400)
    try:
        expect(client.put(path, {"mode": "assigned"}), 204)
        assert town.house.client(MONITOR).get(path).json() == {"mode": "assigned"}
    finally:
        expect(client.put(path, {"mode": "open"}), 204)


def test_keyrings_are_assigned_listed_and_taken_away(town: Town) -> None:
    client, made, ring = town.house.client(), register(town), make_keyring(town)
    other = make_keyring(town)
    path = f"{made['url']}/keyrings"
    both = {"keyrings": [ring["keyRingUUID"], other["keyRingLabel"]]}
    expect(client.post(path, both), 204)
    expect(client.post(path, both), 204)
    assert [each["keyRingLabel"] for each in client.get(path).json()["data"]] == [
        ring["keyRingLabel"],
        other["keyRingLabel"],
    ]
    expect(client.delete(f"{path}/{ring['keyRingLabel']}"), 204)
    expect(client.delete(f"{path}/{ring['keyRingLabel']}"), 404)
    assert client.get(path).json()["data"] == [other]
    expect(client.post(path, {"keyrings": ["no-such-ring"]}), 404)
    expect(client.post(path, {"keyrings": []}), 400)
    expect(town.house.client(OPERATOR).post(path, both), 403)


def test_a_customer_sees_the_own_clients_and_keyrings_only(
    town: Town, customer: Client, customer_name: str
) -> None:
    theirs, others = make_keyring(town), make_keyring(town)
    seen = {each["keyRingLabel"] for each in customer.get("/api/keyrings").json()["data"]}
    assert {theirs["keyRingLabel"], others["keyRingLabel"]} <= seen
    clients = f"{cluster_of(town)}/clients"
    own, foreign = register(town, monitorUser=customer_name), register(town)
    assert [each["clientID"] for each in customer.get(clients).json()["data"]] == [own["clientID"]]
    expect(customer.get(own["url"]), 200)
    expect(customer.get(foreign["url"]), 404)
    expect(customer.get(f"{foreign['url']}/keyrings"), 404)
    assert customer.get("/api/keyrings").json()["data"] == []
    admin = town.house.client()
    expect(admin.post(f"{own['url']}/keyrings", {"keyrings": [theirs["keyRingLabel"]]}), 204)
    expect(admin.post(f"{foreign['url']}/keyrings", {"keyrings": [others["keyRingLabel"]]}), 204)
    assert customer.get("/api/keyrings").json()["data"] == [theirs]
    expect(customer.get(f"/api/keyrings/{theirs['keyRingLabel']}"), 200)
    for name in (others["keyRingLabel"], others["keyRingUUID"]):
        expect(customer.get(f"/api/keyrings/{name}"), 404)
    tokens = f"{cluster_of(town)}/enrolmentTokens"
    bound = expect(admin.post(tokens, {"monitorUser": customer_name}), 201).json()
    expect(admin.post(tokens, {}), 201)
    assert [each["tokenID"] for each in customer.get(tokens).json()["data"]] == [bound["tokenID"]]
    expect(admin.delete(own["url"]), 204)
    assert customer.get("/api/keyrings").json()["data"] == []
    assert len(admin.get("/api/keyrings").json()["data"]) >= 2


def test_who_was_a_customer_once_stays_one(
    town: Town, customer: Client, customer_name: str
) -> None:
    make_keyring(town)
    log, metrics = "/api/lunasa/logs/messages", {"Content-Type": None, "Accept": "text/plain"}
    assert customer.get("/api/keyrings").json()["data"]
    expect(customer.post(log, {"entries": 1}), 200)
    expect(customer.get("/metrics", headers=metrics), 200)
    admin, tokens = town.house.client(), f"{cluster_of(town)}/enrolmentTokens"
    bound = expect(admin.post(tokens, {"monitorUser": customer_name}), 201).json()
    expect(admin.delete(bound["url"]), 204)
    assert customer.get("/api/keyrings").json()["data"] == []
    for refused in (
        expect(customer.post(log, {"entries": 1}), 403),
        expect(customer.get("/metrics", headers=metrics), 403),
    ):
        assert "is the monitor user of a client or an enrolment token" in refused.text
    expect(admin.post(log, {"entries": 1}), 200)
    expect(admin.get("/metrics", headers=metrics), 200)


def test_a_registered_key_renews_its_certificate_and_no_other_does(town: Town) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    body = {"csr": client_request("renewed", key), "label": "label"}
    clients, client = f"{cluster_of(town)}/clients", town.house.client()
    made = expect(client.post(clients, body), 201).json()
    stranger = town.house.admin_client(None)
    renewal, path = {"csr": body["csr"]}, f"{clients}/actions/renew"
    renewed = expect(stranger.post(path, renewal), 200).json()
    # It is as good as new, so it is the one that there is.
    assert renewed["certificate"] == made["certificate"]
    assert (renewed["clientID"], renewed["clientLabel"]) == (made["clientID"], "label")
    issued = x509.load_pem_x509_certificate(renewed["certificate"].encode())
    authority = x509.load_pem_x509_certificate(renewed["caCertificate"].encode())
    issued.verify_directly_issued_by(authority)
    other_name = {"csr": client_request("other", key)}
    expect(stranger.post(path, other_name), 409)
    expect(stranger.post(path, {"csr": make_request("renewed")}), 404)
    expect(client.delete(made["url"]), 204)
    expect(stranger.post(path, renewal), 409)
