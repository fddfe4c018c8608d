"""The log says who was refused what, and holds no password."""

from __future__ import annotations

import logging

import pytest

from tests.rest.conftest import Town
from tests.support.rest_house import MONITOR

WRONG = "a-wrong-co-password"


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "conclave.rest.app"]


def test_a_refusal_names_caller_and_resource(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = town.house.client(MONITOR)
    body = {"authentication": [{"type": "CO", "password": WRONG}]}
    assert client.delete("/api/keyrings/some%0Alabel", body).status_code == 403
    (line,) = refusals(caplog)
    assert line == (
        "DELETE '/api/keyrings/some\\nlabel' by monitor from 192.0.2.1: 403 FRAMEWORK_NO_ACL_RULE"
    )
    assert WRONG not in caplog.text


def test_a_refused_login_names_nobody(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stranger = town.house.client(("nobody-known", WRONG), source="192.0.2.77")
    assert stranger.get("/api/lunasa").status_code == 401
    (line,) = refusals(caplog)
    assert line == "GET '/api/lunasa' by nobody from 192.0.2.77: 401 FRAMEWORK_NOT_AUTHENTICATED"
    assert WRONG not in caplog.text
