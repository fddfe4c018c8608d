"""What goes with an answer over REST, whatever it is: the header `Warning`."""

from __future__ import annotations

import pytest

from conclave.rest.errors import warning_value
from tests.support.rest_house import House

UNSYNCHRONIZED = "the HSM's clock is not synchronized"
CREATE = {
    "clusterLabel": "lab",
    "authentication": [{"type": "SO", "password": "so-password"}],
}


def test_t3_a_creation_and_a_start_are_warned_of_an_unsynchronized_clock(house: House) -> None:
    client = house.client()
    for path, body in (
        ("/api/clusters", CREATE),
        ("/api/lunasa/services/cluster/actions/start", {}),
    ):
        answered = client.post(path, body)
        assert answered.status_code in (400, 404, 409, 412, 422), answered.text
        (warning,) = answered.headers.get_list("Warning")
        assert warning.startswith("199 - ")
        assert UNSYNCHRONIZED in warning
    house.loop.run(house.appliance.hsm_time.synchronize())
    assert "Warning" not in client.post("/api/clusters", CREATE).headers


def test_a_caller_without_a_login_is_told_nothing(house: House) -> None:
    assert "Warning" not in house.client(None).post("/api/clusters", CREATE).headers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", '199 - "plain"'),
        ('"a\\b"', '199 - "\\"a\\\\b\\""'),
        ("a\r\nSet-Cookie: ä", '199 - "a Set-Cookie: ?"'),
    ],
)
def test_a_warning_stays_one_quoted_line(text: str, value: str) -> None:
    assert warning_value(text) == value
