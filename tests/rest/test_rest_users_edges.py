"""What users must not be able to do to each other, or to the last administrator."""

from __future__ import annotations

import asyncio

from conclave.errors import ConclaveError, CredentialRefused
from tests.support.rest_house import ADMIN, MONITOR, House

FIRST, OWN, THIRD = "First-Password-1", "Own-Password-2", "Third-Password-3"


def make_admin(house: House, *, changed: bool) -> None:
    """Make a second administrator, eve."""
    new = {"userId": "eve", "role": "admin", "password": FIRST}
    assert house.client().post("/users", new).status_code == 204
    if changed:
        change = {"currentPassword": FIRST, "password": OWN}
        eve = house.client(("eve", FIRST))
        assert eve.post("/users/eve/actions/changePassword", change).status_code == 204


def test_a_first_password_changes_no_other_users_password(house: House) -> None:
    make_admin(house, changed=False)
    eve = house.client(("eve", FIRST))
    refused = eve.post("/users/admin/actions/changePassword", {"password": THIRD})
    assert refused.status_code == 403
    assert refused.json()["id"] == "SERVERPLUGIN_PASSWORD_CHANGE_REQUIRED"
    assert house.client().get("/api/lunasa").status_code == 200


def test_the_last_administrator_keeps_the_role(house: House) -> None:
    make_admin(house, changed=True)
    eve = house.client(("eve", OWN))
    assert eve.post("/users/admin/actions/disable").status_code == 204
    for refused in (
        eve.patch("/users/eve", {"role": "operator"}),
        eve.put("/users/eve", {"role": ""}),
        eve.post("/users/eve/actions/roleClear"),
    ):
        assert refused.status_code == 403
        assert refused.json()["id"] == "SERVERPLUGIN_USERID_RESERVED_FOR_SYSTEM_USE"
    assert eve.patch("/users/eve", {"role": "admin", "fullName": "Eve"}).status_code == 204
    assert eve.post("/users/admin/actions/enable").status_code == 204
    assert eve.patch("/users/eve", {"role": "operator"}).status_code == 204


def test_a_change_that_meets_a_reset_does_not_win_over_it(house: House) -> None:
    """Whoever knows a password must not keep an administrator from taking it away."""
    users = house.appliance.users

    async def scene() -> None:
        user_id, password = MONITOR
        outcomes = await asyncio.gather(
            users.reset_password(user_id, THIRD, source="192.0.2.1"),
            users.change_own_password(user_id, password, OWN, source="192.0.2.2"),
            return_exceptions=True,
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], ConclaveError), outcomes
        await users.authenticate(user_id, THIRD, source="192.0.2.1")
        try:
            await users.authenticate(user_id, OWN, source="192.0.2.1")
        except CredentialRefused:
            return
        raise AssertionError("The password that was taken away set another one.")

    house.loop.run(scene())
    assert house.client(ADMIN).get("/users/monitor").json()["passwordToBeChanged"] is True
