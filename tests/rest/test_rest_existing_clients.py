"""What the parsers of existing automation rely on (samples, exporters, billing agents)."""

from __future__ import annotations

import base64

import httpx

from tests.rest.test_rest_guide import CO, CO_FIRST, SO, chapter_2_partition
from tests.support.rest_house import ADMIN, House

TEXT = "application/vnd.safenetinc.lunasa+octet-stream;version="
NEWEST = {"Content-Type": "application/vnd.safenetinc.lunasa+json;version=15"}


def test_a_session_is_opened_with_and_without_a_body_and_kept_by_the_cookie_alone(
    house: House,
) -> None:
    bodies: tuple[dict[str, str] | None, ...] = (None, {})
    for body in bodies:
        client = house.client()
        opened = client.post("/auth/session", body)
        assert (opened.status_code, opened.content) == (204, b"")
        name, _, value = opened.headers["Set-Cookie"].partition(";")[0].partition("=")
        assert name
        assert value
        alone = house.client(None)
        alone.http.cookies.set(name, value)
        assert alone.get("/api/lunasa", headers=NEWEST).status_code == 200
        assert alone.get("/api/lunasa/").status_code == 200
        assert alone.delete("/auth/session").status_code == 204
        assert alone.get("/api/lunasa").status_code == 401


def test_the_header_and_the_cookie_go_together(house: House) -> None:
    client = house.client().open_session()
    token = base64.b64encode(":".join(ADMIN).encode()).decode()
    answer = client.get("/api/lunasa/hsms", headers={"Authorization": f"Basic {token}"})
    assert answer.status_code == 200


def test_a_refused_login_names_id_and_message(house: House) -> None:
    body = house.client(("admin", "Wrong-Password-1")).post("/auth/session").json()
    assert body["id"]
    assert body["message"]


def test_the_hsm_is_found_logged_in_to_and_guarded(house: House) -> None:
    client = house.client().open_session()
    hsms = client.get("/api/lunasa/hsms").json()["hsms"]
    assert isinstance(hsms[0]["id"], str)
    url = f"/api/lunasa/hsms/{hsms[0]['id']}"
    assert url == hsms[0]["url"]
    assert client.get(url).json()["soLoginsLeft"] == 3
    new = {"label": "hsm", "password": SO, "domain": "d", "ped": "0"}
    assert client.put(url, new).status_code == 204
    login = {"ped": "0", "password": SO, "role": "so"}
    logged_in = client.post(f"{url}/login", login)
    assert (logged_in.status_code, logged_in.headers["Location"]) == (204, f"{url}/login/so/1")
    wrong = client.post(f"{url}/login", login | {"password": "wrong-password"})
    assert wrong.status_code == 401
    assert client.get(url).json()["soLoginsLeft"] == 2
    assert client.post(f"{url}/logout", {}).status_code == 204


def test_partitions_and_their_roles_are_walked_by_their_links(house: House) -> None:
    client = house.client().open_session()
    url = chapter_2_partition(client, house)
    (listed,) = client.get(f"{house.hsm_url}/partitions").json()["partitions"]
    assert listed == {"id": url.rpartition("/")[2], "url": url}
    shown = client.get(url).json()
    assert {"name", "label", "state", "version"} <= shown.keys()
    for role in client.get(f"{url}/roles").json()["roles"]:
        assert role["id"] in ("so", "co", "cu")
        found = client.get(role["url"]).json()
        assert isinstance(found["activated"], bool)
        assert isinstance(found["initialized"], bool)
    change = {"oldPassword": CO, "newPassword": CO_FIRST}
    assert client.patch(f"{url}/roles/co", change).status_code == 202
    back = {"oldPassword": CO_FIRST, "newPassword": CO, "ped": "0"}
    assert client.put(f"{url}/roles/co/password", back).status_code == 204


def test_users_are_made_shown_changed_and_deleted(house: House) -> None:
    client = house.client()
    new = {"userId": "joe", "fullName": "Joe", "role": "monitor", "password": "First-Password-1"}
    made = client.post("/users", new | {"email": "joe@example.org"})
    assert (made.status_code, made.headers["Location"]) == (204, "/users/joe")
    assert "joe" in [each["id"] for each in client.get("/users").json()["users"]]
    shown = client.get("/users/joe").json()
    assert {"userId", "fullName", "email", "role", "status"} <= shown.keys()
    for action in ("disable", "enable", "roleClear"):
        assert client.post(f"/users/joe/actions/{action}").status_code == 204
    assert client.patch("/users/joe", {"role": "operator"}).status_code == 204
    assert client.put("/users/joe", {"fullName": "J."}).status_code == 204
    assert client.delete("/users/joe").status_code == 204


def test_a_role_is_provisioned_as_exporters_do(house: House) -> None:
    client = house.client().open_session()
    rules = "GET:/api/lunasa/hsms\nGET:/api/lunasa/hsms/{hsmid}/partitions\n"
    roles = [role["id"] for role in client.get("/roles").json()["roles"]]
    assert "exporter" not in roles
    assert client.post("/roles", {"roleId": "exporter"}).status_code == 204
    text = {"Content-Type": TEXT.replace("version=", "version=15")}
    put = client.put("/roles/exporter/resources", content=rules.encode(), headers=text)
    assert put.status_code in (202, 204)
    back = client.get("/roles/exporter/resources", headers=text)
    assert (back.status_code, back.text.strip()) == (200, rules.strip())
    refused = client.get("/roles/exporter/resources")
    assert refused.status_code == 400


def test_a_finished_task_leads_to_its_response(house: House) -> None:
    client = house.client().open_session()
    chapter_2_partition(client, house)
    waiting = client.post("/api/lunasa/services/cluster/actions/factoryreset")
    url = waiting.headers["Location"]
    assert client.get(url).json()["state"] == "Waiting"
    assert client.post(f"{url}/actions/start").status_code == 202
    done: httpx.Response = client.get(url)
    assert (done.status_code, done.headers["Location"]) == (303, f"{url}/response")
    assert done.json()["state"] == "Finished"
    assert client.get(f"{url}/response").status_code == 204
    assert client.get("/tasks/99999").status_code == 410


def test_a_password_change_answers_204_and_keeps_the_session(house: House) -> None:
    client = house.client().open_session()
    change = {"currentPassword": ADMIN[1], "password": "Administrator-2"}
    assert client.post("/users/admin/actions/changePassword", change).status_code == 204
    alone = house.client(None)
    alone.http.cookies = client.http.cookies
    assert alone.get("/api/lunasa").status_code == 200
