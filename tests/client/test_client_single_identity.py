"""One password for a keyring's two roles, whichever tool and role change it (single identity)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

import pytest

from conclave.client import Client, Role
from conclave.errors import CredentialRefused
from tests.client.test_client_system import fresh_keyring, lunacm
from tests.support.demo import Demo

pytestmark = pytest.mark.system
FIRST: Final = "first-password-1"
OWN: Final = "own-password-2"
OTHER: Final = "other-password-3"
NAMES: Final = {Role.KRSO: "po", Role.KRCO: "co"}


def change_by_lunacm(demo: Demo, label: str, role: Role) -> None:
    with Client.from_environment(demo.environment) as client:
        slot = client.token(label).slot
    name = NAMES[role]
    done = lunacm(
        demo,
        *("-q", "slot", "set", "-slot", str(slot), "--"),
        *("role", "login", "-name", name, "-password", OWN, "--"),
        *("role", "changepw", "-name", name, "-oldpw", OWN, "-newpw", OTHER, "-force"),
    )
    assert done.returncode == 0, done.stdout


def change_from_python(demo: Demo, label: str, role: Role) -> None:
    with Client.from_environment(demo.environment) as client:
        session = client.open(client.token(label))
        session.login(role, OWN.encode())
        session.change_password(role, OWN.encode(), OTHER.encode())


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("change", [change_by_lunacm, change_from_python])
def test_section_8_rule_15_single_identity_has_one_password(
    demo: Demo, change: Callable[[Demo, str, Role], None], role: Role
) -> None:
    label = f"single-{uuid.uuid4().hex[:8]}"
    fresh_keyring(demo, label, FIRST)
    with Client.from_environment(demo.environment) as client:
        session = client.open(client.token(label))
        session.change_password(Role.KRSO, FIRST.encode(), OWN.encode())
        session.login(Role.KRSO, OWN.encode())
        session.initialize_krco(OWN.encode())
    change(demo, label, role)
    with Client.from_environment(demo.environment) as client:
        session = client.open(client.token(label))
        for each in NAMES:
            with pytest.raises(CredentialRefused):
                session.login(each, OWN.encode())
            session.login(each, OTHER.encode())
            session.logout()
