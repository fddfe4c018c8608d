"""The administration guide's procedures over REST, call by call, on a real appliance."""

from __future__ import annotations

import time

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.rest_house import Client, House

SO, PO, CO_FIRST, CO = "so-password", "po-password", "co-first-password", "co-password"
DEADLINE_SECONDS = 90.0


def co(label: str | None = "clusterpar", password: str = CO) -> list[dict[str, str]]:
    entry = {"type": "CO", "password": password}
    return [entry if label is None else {**entry, "partitionLabel": label}]


def expect(response: httpx.Response, *statuses: int) -> httpx.Response:
    assert response.status_code in statuses, response.text
    return response


def follow_task(client: Client, url: str) -> httpx.Response:
    """Wait until a task ended and return its response."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        shown = client.get(url)
        if shown.status_code == 303:
            assert shown.headers["Location"] == f"{url}/response"
            return client.get(shown.headers["Location"])
        assert shown.status_code == 200, shown.text
        assert shown.json()["finishTime"] == ""
    raise AssertionError(f"{url} did not end")


def chapter_2_partition(client: Client, house: House) -> str:
    """Initialise the HSM and make the V1 partition, as steps 1 and 2 say."""
    hsm = house.hsm_url
    initialize = {"label": "myhsm", "password": SO, "domain": "mydomain"}
    assert expect(client.put(hsm, initialize), 204).headers["Location"] == hsm
    login = {"ped": "0", "password": SO, "role": "so"}
    assert expect(client.post(f"{hsm}/login", login), 204).headers["Location"].startswith(hsm)
    new = {"name": "clusterpar", "hasPso": True, "size": 648381, "version": 1}
    partition = expect(client.post(f"{hsm}/partitions", new), 204).headers["Location"]
    expect(client.put(partition, {"password": PO, "domain": "mydomain", "ped": "0"}), 204)
    expect(client.post(f"{partition}/login", {"ped": "0", "password": PO, "role": "so"}), 204)
    waiting = expect(client.put(f"{partition}/policies/40", {"value": 0}), 202)
    assert waiting.json()["state"] == "Waiting"
    assert client.get(f"{partition}/policies/40").json()["value"] == 1
    task = waiting.headers["Location"]
    assert waiting.json()["instance"] == task
    expect(client.post(f"{task}/actions/start"), 202)
    expect(follow_task(client, task), 204)
    assert client.get(f"{partition}/policies/40").json()["value"] == 0
    expect(client.put(f"{partition}/roles/co", {"password": CO_FIRST, "ped": "0"}), 204)
    change = {"oldPassword": CO_FIRST, "newPassword": CO}
    expect(client.patch(f"{partition}/roles/co", change), 202)
    return partition


def chapter_2_service(client: Client, house: House) -> None:
    """Configure and start the cluster service, as steps 4 to 7 say."""
    assert expect(client.patch("/api/lunasa/services/cluster", {"onBoot": True}), 200).json() == {}
    (address,) = house.appliance.config.interfaces.values()
    expect(client.put("/api/cluster/config", {"service": "core", "IpAddress": address}), 204)
    started = expect(client.post("/api/lunasa/services/cluster/actions/start"), 204)
    expect(follow_task(client, started.headers["Location"]), 204)
    service = client.get("/api/lunasa/services/cluster").json()
    assert (service["status"], service["onBoot"]) == ("running", True)


def chapter_3(client: Client) -> str:
    """Create a cluster and authorize its member; return the cluster's path."""
    assert client.get("/api/clusters").json() == {"data": []}
    body = {"authentication": [{"type": "SO", "password": SO}], "clusterLabel": "myNewCluster"}
    made = expect(client.post("/api/clusters", body), 201)
    cluster = made.headers["Location"]
    listed = client.get("/api/clusters").json()
    assert listed == {
        "data": [{"clusterLabel": "myNewCluster", "clusterUUID": made.json()["clusterUUID"]}]
    }
    (member,) = client.get(f"{cluster}/members").json()["data"]
    assert member["memberName"].startswith("LNH-")
    assert (member["memberActive"], member["primaryNode"]) == (False, True)
    authorize = {"action": "authorize", "authentication": co()}
    expect(client.put(f"{cluster}/members/{member['memberUUID']}", authorize), 204)
    shown = client.get(f"{cluster}/members/{member['memberUUID']}").json()
    assert shown["memberActive"] is True
    assert (shown["mode"], shown["visibleToServicingNode"]) == ("Read-Write", True)
    return cluster


def chapter_5(client: Client) -> None:
    """Create, list, show, unlock and delete keyrings."""
    new = {
        "authentication": co(),
        "keyRingLabel": "myKeyring",
        "keyRingPassword": "keyringpassword",
        "total": 3,
        "index": 100,
    }
    many = expect(client.post("/api/keyrings", new), 202).json()
    labels = [keyring["keyRingLabel"] for keyring in many["data"]]
    assert labels == ["myKeyring100", "myKeyring101", "myKeyring102"]
    assert many["keyRingUUIDs"] == [keyring["keyRingUUID"] for keyring in many["data"]]
    texts = new | {"keyRingLabel": "old", "total": "1", "index": "7"}
    one = expect(client.post("/api/keyrings", texts), 201)
    assert one.json()["data"][0]["keyRingLabel"] == "old7"
    listed = client.get("/api/keyrings").json()["data"]
    assert [keyring["keyRingLabel"] for keyring in listed] == [*labels, "old7"]
    shown = client.get(one.headers["Location"]).json()
    assert (shown["locked"], shown["objectCount"], shown["maxObjects"]) == (False, 0, 256)
    unlock = {"action": "unlock", "authentication": co(None)}
    expect(client.patch(one.headers["Location"], unlock), 204)
    expect(client.delete(one.headers["Location"], {"authentication": co(None)}), 204)
    expect(client.delete("/api/keyrings/myKeyring101", {"authentication": co(None)}), 204)
    expect(client.get(one.headers["Location"]), 404)
    left = client.get("/api/keyrings").json()["data"]
    assert [keyring["keyRingLabel"] for keyring in left] == ["myKeyring100", "myKeyring102"]


def make_request(common_name: str = "192.0.2.7") -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def chapter_4(client: Client, nobody: Client, cluster: str) -> None:
    """Register, list, show and revoke a client."""
    authority = expect(nobody.get("/api/cluster/ca"), 200).json()
    certificate = x509.load_pem_x509_certificate(authority["caCertificate"].encode())
    expected = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    assert authority["fingerprint"] == expected
    new = {"csr": make_request(), "label": "app", "monitorUser": "monitor"}
    made = expect(client.post(f"{cluster}/clients", new), 201).json()
    issued = x509.load_pem_x509_certificate(made["certificate"].encode())
    issued.verify_directly_issued_by(certificate)
    assert made["caCertificate"] == authority["caCertificate"]
    assert made["cryptoPort"] == 50052
    url = made["url"]
    assert client.get(url).json()["clientLabel"] == "app"
    (listed,) = client.get(f"{cluster}/clients").json()["data"]
    assert (listed["clientID"], listed["revoked"]) == (made["clientID"], False)
    expect(client.delete(url), 204)
    assert expect(client.get(url), 200).json()["revoked"] is True
    tokens = f"{cluster}/enrolmentTokens"
    made = expect(client.post(tokens, {"commonName": "192.0.2.7"}), 201).json()
    enrol = {"token": made["token"], "csr": make_request()}
    expect(nobody.post(f"{cluster}/clients/actions/enrol", enrol), 201)
    expect(client.get(tokens), 200)
    other = expect(client.post(tokens, {}), 201).headers["Location"]
    expect(client.delete(other), 204)
    request = {"csr": make_request()}
    made = expect(client.post(f"{cluster}/clients", request), 201).json()
    expect(nobody.post(f"{cluster}/clients/actions/renew", request), 200)
    keyrings, mode = f"{made['url']}/keyrings", f"{cluster}/assignment"
    expect(client.post(keyrings, {"keyrings": ["myKeyring100"]}), 204)
    assert client.get(keyrings).json()["data"][0]["keyRingLabel"] == "myKeyring100"
    expect(client.delete(f"{keyrings}/myKeyring100"), 204)
    expect(client.put(mode, {"mode": "open"}), 204)
    assert client.get(mode).json() == {"mode": "open"}


def test_chapters_2_to_5_over_rest(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    cluster = chapter_3(client)
    chapter_5(client)
    chapter_4(client, house.client(None), cluster)


def test_chapters_3_to_5_over_the_admin_port(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    admin = house.admin_client()
    cluster = chapter_3(admin)
    chapter_5(admin)
    chapter_4(admin, house.admin_client(None), cluster)


def test_stop_and_restart_end_the_authorization(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    chapter_2_service(client, house)
    cluster = chapter_3(client)
    restarted = expect(client.post("/api/lunasa/services/cluster/actions/restart"), 204)
    expect(follow_task(client, restarted.headers["Location"]), 204)
    (member,) = client.get(f"{cluster}/members").json()["data"]
    assert member["memberActive"] is False
    stopped = expect(client.post("/api/lunasa/services/cluster/actions/stop"), 204)
    expect(follow_task(client, stopped.headers["Location"]), 204)
    refused = expect(client.get("/api/clusters"), 409).json()
    assert refused["id"] == "CLUSTERPLUGIN_SERVICE_NOT_RUNNING"


def test_a_factory_reset_waits_and_keeps_the_partition(house: House) -> None:
    client = house.client().open_session()
    partition = chapter_2_partition(client, house)
    chapter_2_service(client, house)
    chapter_3(client)
    waiting = expect(client.post("/api/lunasa/services/cluster/actions/factoryreset"), 202)
    assert len(client.get("/api/clusters").json()["data"]) == 1
    started = client.post(f"{waiting.headers['Location']}/actions/start")
    expect(started, 202)
    expect(follow_task(client, waiting.headers["Location"]), 204)
    assert client.get("/api/lunasa/services/cluster").json()["status"] == "stopped"
    assert client.get("/api/cluster/config").json()["data"][0]["IpAddress"] == ""
    assert client.get(partition).json()["state"] == "initialized"
