"""Assignments and renewals over REST."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rest.conftest import Town, make_keyring
from tests.rest.test_rest_guide import expect, make_request
from tests.support.cluster_bench import client_request
from tests.support.rest_house import MONITOR, OPERATOR


def cluster_of(town: Town) -> str:
    return f"/api/clusters/{town.cluster_id}"


def register(town: Town, **more: str) -> dict[str, Any]:
    body = {"csr": make_request(f"host-{uuid4().hex[:8]}"), **more}
    answer = expect(town.house.client().post(f"{cluster_of(town)}/clients", body), 201)
    made: dict[str, Any] = answer.json()
    return made


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


@pytest.mark.usefixtures("customer")
def test_a_registered_client_is_not_given_another_monitor_user_in_silence(
    town: Town, customer_name: str
) -> None:
    """Nor may whoever registers a key again believe that it now belongs to somebody else."""
    admin, clients = town.house.client(), f"{cluster_of(town)}/clients"
    body = {"csr": make_request(f"host-{uuid4().hex[:8]}")}
    made = expect(admin.post(clients, body), 201).json()
    refused = expect(admin.post(clients, body | {"monitorUser": customer_name}), 409).json()
    assert refused["id"] == "CLUSTERPLUGIN_CLIENT_EXISTS"
    assert "whose monitor user is nobody" in refused["details"]
    assert expect(admin.get(made["url"]), 200).json()["monitorUser"] == ""
    owned = {"csr": make_request("owned"), "monitorUser": customer_name}
    first = expect(admin.post(clients, owned), 201).json()
    assert expect(admin.post(clients, owned), 201).json()["clientID"] == first["clientID"]
    # Who does not know of a monitor user asks for none.
    again = expect(admin.post(clients, {"csr": owned["csr"]}), 201).json()
    assert again["monitorUser"] == customer_name


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
