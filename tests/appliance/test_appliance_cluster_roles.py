"""Roles, their rules and users' keys are the cluster's, as the users are."""

from __future__ import annotations

from pathlib import Path

import pytest

from conclave.appliance.public_keys import PublicKeys
from conclave.appliance.user_roles import CustomRoles
from conclave.appliance.user_rules import role_named
from conclave.appliance.user_store import PublicKey
from conclave.errors import Conflict
from tests.appliance.test_appliance_cluster_users import GOOD, SOURCE, Side, agree, play


def test_roles_rules_and_keys_travel_with_the_users(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        first, second = made
        key = PublicKey("ssh-ed25519", "AAAA", "SHA256:x", "joe")
        await CustomRoles(first.users).create("ops", full_name="Ops", resources="GET:/users\n")
        await first.users.create("joe", GOOD, role=role_named("ops"), source=SOURCE)
        await PublicKeys(first.users).add("joe", key)
        await agree(made)
        assert PublicKeys(second.users).of("joe") == (key,)
        assert CustomRoles(second.users).allow(role_named("ops"), "GET", "/users", {})
        with pytest.raises(Conflict):
            await CustomRoles(second.users).delete("ops")
        await second.restart()
        assert second.users.records() == first.users.records()

    play(tmp_path, scene)


def test_a_joiners_own_roles_and_keys_are_overwritten(tmp_path: Path) -> None:
    async def scene(made: list[Side]) -> None:
        _, second = made
        second.service.stopped = True
        key = PublicKey("ssh-ed25519", "AAAA", "SHA256:x", "")
        await CustomRoles(second.users).create("own", full_name="Own")
        await PublicKeys(second.users).add("admin", key)
        second.service.stopped = False
        await agree(made)
        assert CustomRoles(second.users).all() == ()
        assert PublicKeys(second.users).of("admin") == ()

    play(tmp_path, scene)
