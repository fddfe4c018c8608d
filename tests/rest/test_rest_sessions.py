"""Sessions, logins and what the known clients of such appliances do with them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from conclave.appliance.user_store import UserCredentialVersion
from conclave.appliance.users import Login
from conclave.errors import CredentialRefused, Unavailable
from conclave.operations.login_state import LoginState
from conclave.rest import sessions
from conclave.rest.sessions import COOKIE, SessionTable
from tests.rest.conftest import Town
from tests.support.hsm_bench import Moment
from tests.support.rest_house import (
    ADMIN,
    MONITOR,
    OPERATOR,
    VENDOR,
    House,
    open_house,
    settle_users,
)

HSM = {"label": "hsm", "password": "so-password", "domain": "d"}
SO_LOGIN = {"ped": "0", "password": "so-password", "role": "so"}


def login_of(user_id: str) -> Login:
    return Login(user_id, UserCredentialVersion(bytes(16)))


def test_a_session_without_a_body_and_the_cookie_alone_afterwards(town: Town) -> None:
    first = town.house.client()
    opened = first.http.build_request("POST", "/auth/session", headers={"Content-Type": VENDOR})
    assert "content-length" not in opened.headers or opened.headers["content-length"] == "0"
    response = first.post("/auth/session")
    assert response.status_code == 204
    assert response.content == b""
    cookie = response.headers["Set-Cookie"]
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    name, _, secret = cookie.partition(";")[0].partition("=")
    assert name == COOKIE
    alone = town.house.client(None)
    shown = alone.get("/api/lunasa", headers={"Cookie": f"{COOKIE}={secret}"})
    assert shown.status_code == 200


def test_a_session_with_an_empty_object_and_basic_beside_the_cookie(town: Town) -> None:
    client = town.house.client()
    assert client.post("/auth/session", {}).status_code == 204
    assert client.get("/api/lunasa/hsms").status_code == 200
    assert client.delete("/auth/session").status_code == 204


def test_basic_alone_needs_no_session(town: Town) -> None:
    assert town.house.client().get("/users").status_code == 200


def test_an_ended_session_answers_401_even_beside_a_good_password(town: Town) -> None:
    client = town.house.client()
    secret = client.post("/auth/session").headers["Set-Cookie"].split(";")[0]
    assert client.delete("/auth/session").status_code == 204
    gone = town.house.client().get("/api/lunasa", headers={"Cookie": secret})
    assert gone.status_code == 401
    again = town.house.client().post("/auth/session", headers={"Cookie": secret})
    assert again.status_code == 204


def test_a_session_belongs_to_its_user(town: Town) -> None:
    secret = town.house.client().post("/auth/session").headers["Set-Cookie"].split(";")[0]
    other = town.house.client(MONITOR).get("/api/lunasa", headers={"Cookie": secret})
    assert other.status_code == 401


def test_hsm_logins_belong_to_the_private_session(house: House) -> None:
    one, two = house.client().open_session(), house.client().open_session()
    assert one.put(house.hsm_url, HSM).status_code == 204
    without = house.client()
    refused = without.post(f"{house.hsm_url}/login", SO_LOGIN)
    assert refused.status_code == 422
    assert refused.json()["id"] == "HSMPLUGIN_OPERATION_NOT_ALLOWED"
    assert one.post(f"{house.hsm_url}/login", SO_LOGIN).status_code == 204
    new = {"name": "par", "hasPso": True, "version": 1}
    for stranger in (two, without):
        refused = stranger.post(f"{house.hsm_url}/partitions", new)
        assert refused.status_code == 401
        assert refused.json()["id"] == "HSMPLUGIN_SO_NOT_AUTHENTICATED"
    assert one.post(f"{house.hsm_url}/partitions", new).status_code == 204
    assert one.post(f"{house.hsm_url}/logout").status_code == 204
    again = one.post(f"{house.hsm_url}/partitions", new | {"name": "other"})
    assert again.status_code == 401


def test_an_so_login_ends_when_the_hsm_is_initialised_again(house: House) -> None:
    client = house.client().open_session()
    assert client.put(house.hsm_url, HSM).status_code == 204
    assert client.post(f"{house.hsm_url}/login", SO_LOGIN).status_code == 204
    waiting = client.put(house.hsm_url, HSM)
    assert waiting.status_code == 202
    assert client.post(f"{waiting.headers['Location']}/actions/start").status_code == 202
    new = {"name": "par", "hasPso": True}
    assert client.post(f"{house.hsm_url}/partitions", new).status_code == 401


def test_k5_three_wrong_so_passwords_zeroize_and_say_how_many_are_left(house: House) -> None:
    client = house.client().open_session()
    client.put(house.hsm_url, HSM)
    wrong = SO_LOGIN | {"password": "not-the-password"}
    for left in (2, 1):
        refused = client.post(f"{house.hsm_url}/login", wrong)
        assert refused.status_code == 401
        assert refused.json()["id"] == "HSMPLUGIN_CREDENTIAL_INCORRECT"
        assert client.get(house.hsm_url).json()["soLoginsLeft"] == left
    assert client.post(f"{house.hsm_url}/login", wrong).status_code in (401, 403)
    assert client.get(house.hsm_url).json()["zeroized"] is True


def test_an_empty_password_says_that_there_is_no_ped(house: House) -> None:
    client = house.client().open_session()
    client.put(house.hsm_url, HSM)
    refused = client.post(f"{house.hsm_url}/login", SO_LOGIN | {"password": ""})
    assert refused.status_code == 400
    assert refused.json()["id"] == "HSMPLUGIN_FUNC_NOT_SUPPORTED"
    assert "password-authenticated" in refused.json()["details"]
    assert client.get(house.hsm_url).json()["soLoginsLeft"] == 3


def test_the_first_password_opens_nothing_but_its_change(fresh: House) -> None:
    client = fresh.client(("admin", "PASSWORD")).open_session()
    refused = client.get("/api/lunasa")
    assert refused.status_code == 403
    assert refused.json()["id"] == "SERVERPLUGIN_PASSWORD_CHANGE_REQUIRED"
    weak = {"currentPassword": "PASSWORD", "password": "password"}
    assert client.post("/users/admin/actions/changePassword", weak).status_code == 400
    change = {"currentPassword": "PASSWORD", "password": ADMIN[1]}
    assert client.post("/users/admin/actions/changePassword", change).status_code == 204
    assert client.get("/api/lunasa").status_code == 200, "the session that changed it goes on"
    assert fresh.client(("admin", "PASSWORD")).get("/api/lunasa").status_code == 401
    assert fresh.client().get("/api/lunasa").status_code == 200


def test_a_disabled_user_loses_sessions_and_remembered_passwords(house: House) -> None:
    operator = house.client(OPERATOR).open_session()
    assert operator.get("/api/lunasa").status_code == 200
    basic = house.client(OPERATOR)
    assert basic.get("/api/lunasa").status_code == 200
    assert house.client().post("/users/operator/actions/disable").status_code == 204
    assert operator.get("/api/lunasa").status_code == 401
    assert basic.get("/api/lunasa").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "Basic",
        "Basic ***",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + "A" * 4000,
    ],
)
def test_broken_basic_headers_answer_401(town: Town, header: str) -> None:
    response = town.house.client(None).get("/api/lunasa", headers={"Authorization": header})
    assert response.status_code == 401


def test_repeated_wrong_passwords_must_wait(house: House) -> None:
    guesser = house.client(("admin", "Wrong-password-1"), source="198.51.100.9")
    statuses = [guesser.get("/api/lunasa").status_code for _ in range(7)]
    assert statuses[:5] == [401] * 5
    delayed = guesser.get("/api/lunasa")
    assert delayed.status_code == 429
    assert delayed.json()["id"] == "SERVER_LOGIN_DELAYED"
    assert int(delayed.headers["Retry-After"]) >= 1
    elsewhere = house.client(("operator", OPERATOR[1]), source="203.0.113.5")
    assert elsewhere.get("/api/lunasa").status_code == 200


def test_k5_a_missing_right_may_answer_401(tmp_path: Path) -> None:
    with open_house(tmp_path / "appliance", missing_right_status=401) as house:
        settle_users(house)
        refused = house.client(MONITOR).get("/users")
        assert refused.status_code == 401
        assert refused.json()["id"] == "FRAMEWORK_NO_ACL_RULE"
        assert refused.json()["returnCode"] == 401
        assert "WWW-Authenticate" not in refused.headers


def test_a_session_ends_after_ten_idle_minutes() -> None:
    clock = Moment()
    table = SessionTable(now_ms=clock)
    secret = table.open(login_of("admin"))
    clock.ms += sessions.IDLE_MS
    table.use(secret)
    clock.ms += sessions.IDLE_MS + 1
    with pytest.raises(CredentialRefused):
        table.use(secret)


def test_a_users_oldest_session_makes_room_and_the_table_is_bounded() -> None:
    table = SessionTable(now_ms=Moment())
    first = table.open(login_of("admin"))
    for _ in range(sessions.MAX_PER_USER):
        table.open(login_of("admin"))
    with pytest.raises(CredentialRefused):
        table.use(first)
    others = sessions.MAX_SESSIONS - sessions.MAX_PER_USER
    for number in range(others):
        table.open(login_of(f"user{number}"))
    with pytest.raises(Unavailable):
        table.open(login_of("late"))


def test_closing_a_session_ends_that_one_only() -> None:
    table = SessionTable(now_ms=Moment())
    one, two = table.open(login_of("a")), table.open(login_of("a"))
    state: LoginState = table.use(one)[1]
    table.close(state)
    assert table.use(two)[1] is not state
    with pytest.raises(CredentialRefused):
        table.use(one)


def test_the_samples_read_id_and_message_of_a_refusal(town: Town) -> None:
    response = town.house.client(("admin", "Wrong-password-9"), source="203.0.113.77").post(
        "/auth/session"
    )
    assert response.status_code == 401
    body = json.loads(response.content)
    assert {"id", "message"} <= body.keys()
    assert isinstance(response, httpx.Response)
