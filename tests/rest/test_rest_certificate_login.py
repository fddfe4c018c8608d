"""Logging in by a certificate, as existing clients do it."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conclave.appliance import certificate_login
from conclave.appliance.login_delays import USER_RULE
from tests.rest.test_rest_user_keys import certificate_pem
from tests.support.rest_house import MONITOR, Client, House

KEY = rsa.generate_private_key(65537, 2048)
PEM = certificate_pem(KEY)


def challenge(client: Client, user_id: str = "monitor", pem: str = PEM) -> dict[str, str]:
    answered = client.post("/auth/login/challenge", {"username": user_id, "certificate": pem})
    assert answered.status_code == 200, answered.text
    found: dict[str, str] = answered.json()
    return found


def response_to(asked: dict[str, str], key: rsa.RSAPrivateKey = KEY) -> dict[str, str]:
    """Answer as the vendor's samples do."""
    plain = key.decrypt(base64.b64decode(asked["challenge"]), padding.PKCS1v15())
    nonce = base64.b64decode(asked["nonce"])
    assert len(plain) == len(nonce)
    mixed = bytes(a ^ b for a, b in zip(plain, nonce, strict=True))
    server = x509.load_pem_x509_certificate(asked["certificate"].encode()).public_key()
    assert isinstance(server, rsa.RSAPublicKey)
    sent = base64.b64encode(server.encrypt(mixed, padding.PKCS1v15())).decode()
    return {"challengeResponse": sent}


@pytest.fixture
def stranger(house: House) -> Client:
    """Return a caller without a password, while monitor has a certificate."""
    added = house.client(MONITOR).post("/users/monitor/certificates", {"certificate": PEM})
    assert added.status_code == 204
    return house.client(None, source="192.0.2.60")


def test_a_right_answer_opens_a_session_of_the_user(house: House, stranger: Client) -> None:
    opened = stranger.post("/auth/login/basic", response_to(challenge(stranger)))
    assert opened.status_code == 204
    assert "conclave_session" in stranger.http.cookies
    assert stranger.get("/users/monitor").status_code == 200
    assert stranger.get("/users/admin").status_code == 403
    assert stranger.delete("/auth/session").status_code == 204


def test_an_answer_is_good_once(stranger: Client) -> None:
    answer = response_to(challenge(stranger))
    assert stranger.post("/auth/login/basic", answer).status_code == 204
    assert stranger.post("/auth/login/basic", answer).status_code == 401


def test_every_wrong_answer_is_refused_alike(house: House, stranger: Client) -> None:
    other = rsa.generate_private_key(65537, 2048)
    foreign = response_to(challenge(stranger, pem=certificate_pem(other)), other)
    nobody = response_to(challenge(stranger, user_id="nobody"))
    somebody_else = response_to(challenge(stranger, user_id="operator"))
    bodies = [
        stranger.post("/auth/login/basic", answer).json()
        for answer in (foreign, nobody, somebody_else, {"challengeResponse": "AAAA"})
    ]
    assert {body["id"] for body in bodies} == {"FRAMEWORK_NOT_AUTHENTICATED"}
    assert len({body["details"] for body in bodies}) == 1


def test_a_removed_certificate_answers_nothing(house: House, stranger: Client) -> None:
    answer = response_to(challenge(stranger))
    admin = house.client()
    (listed,) = admin.get("/users/monitor/certificates").json()["certificates"]
    assert admin.delete(listed["url"]).status_code == 204
    assert stranger.post("/auth/login/basic", answer).status_code == 401


def test_a_disabled_user_is_not_let_in(house: House, stranger: Client) -> None:
    answer = response_to(challenge(stranger))
    assert house.client().post("/users/monitor/actions/disable").status_code == 204
    assert stranger.post("/auth/login/basic", answer).status_code == 401


def test_a_certificate_counts_within_its_validity_by_the_appliance_clock(
    house: House, stranger: Client
) -> None:
    moved = house.client().put("/api/lunasa/time", {"date": "2095-01-01"})
    assert moved.status_code == 204
    assert stranger.post("/auth/login/basic", response_to(challenge(stranger))).status_code == 401


def test_a_challenge_ends_after_a_minute(
    house: House, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_login, "LIVES_MS", -1)
    assert stranger.post("/auth/login/basic", response_to(challenge(stranger))).status_code == 401


def test_guessing_answers_is_slowed_down(stranger: Client) -> None:
    wrong = {"challengeResponse": "AAAA"}
    statuses = [stranger.post("/auth/login/basic", wrong).status_code for _ in range(30)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_no_number_of_challenges_is_in_anybodys_way(house: House, stranger: Client) -> None:
    answer = response_to(challenge(stranger))
    # They know the certificate, which is no secret, and come from many places.
    for number in range(300):
        challenge(house.client(None, source=f"198.51.{number}.7"))
    assert stranger.post("/auth/login/basic", answer).status_code == 204


def test_challenges_look_alike_whoever_asks(house: House, stranger: Client) -> None:
    foreign = certificate_pem(rsa.generate_private_key(65537, 2048))
    asked = [
        challenge(stranger, user_id, pem)
        for user_id, pem in (
            ("monitor", PEM),
            ("monitor", foreign),
            ("operator", PEM),
            ("nobody", PEM),
            ("n" * 32, foreign),
        )
    ]
    shapes = {tuple(len(each[name]) for name in ("challenge", "nonce")) for each in asked}
    assert len(shapes) == 1
    assert len({each["nonce"] for each in asked}) == len(asked)


def test_an_answer_that_was_changed_or_is_of_another_daemon_is_refused(
    house: House, stranger: Client
) -> None:
    asked = challenge(stranger)
    nonce = bytearray(base64.b64decode(asked["nonce"]))
    for place in (0, len(nonce) // 2, len(nonce) - 1):
        changed = bytearray(nonce)
        changed[place] ^= 1
        turned = asked | {"nonce": base64.b64encode(changed).decode()}
        assert stranger.post("/auth/login/basic", response_to(turned)).status_code == 401


def test_one_strangers_guesses_delay_nobody_else(house: House, stranger: Client) -> None:
    answer = response_to(challenge(stranger))
    guesser = house.client(None, source="192.0.2.61")
    for _ in range(10):
        guesser.post("/auth/login/basic", {"challengeResponse": "AAAA"})
    assert stranger.post("/auth/login/basic", answer).status_code == 204


def test_wrong_passwords_of_strangers_delay_no_certificate(house: House, stranger: Client) -> None:
    guesser = house.client(("monitor", "Wrong-Password-1"), source="192.0.2.62")
    statuses = [guesser.get("/users/monitor").status_code for _ in range(USER_RULE.free_failures)]
    statuses += [guesser.get("/users/monitor").status_code for _ in range(8)]
    assert statuses[-1] == 429
    answer = response_to(challenge(stranger))
    assert stranger.post("/auth/login/basic", answer).status_code == 204


def test_answers_by_a_removed_certificate_delay_no_password(house: House, stranger: Client) -> None:
    answers = [response_to(challenge(stranger)) for _ in range(USER_RULE.free_failures + 1)]
    admin = house.client()
    (listed,) = admin.get("/users/monitor/certificates").json()["certificates"]
    assert admin.delete(listed["url"]).status_code == 204
    for answer in answers:
        assert stranger.post("/auth/login/basic", answer).status_code == 401
    # From elsewhere and from there: a source that has not proven its password before.
    for source in ("192.0.2.63", "192.0.2.60"):
        assert house.client(MONITOR, source=source).get("/users/monitor").status_code == 200


def test_both_outcomes_are_in_the_audit_log(house: House, stranger: Client) -> None:
    stranger.post("/auth/login/basic", response_to(challenge(stranger)))
    stranger.post("/auth/login/basic", {"challengeResponse": "AAAA"})
    lines, _ = house.loop.run(house.appliance.audit.page(0, 10))
    found = [line for line in lines if b"192.0.2.60" in line and b'"kind":"login"' in line]
    assert [b'"outcome":"done"' in line for line in found] == [False, True]
    assert b'"user":"monitor"' in found[1]
