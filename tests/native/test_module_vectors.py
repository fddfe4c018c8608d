"""Published vectors of signatures, ciphers, MACs and digests through the module, whole files."""

from __future__ import annotations

import pytest

from tests.native.module_fixtures import place, session
from tests.support.crypto_vectors import cases
from tests.support.cryptoki import Session
from tests.support.module_vectors import PLANS

__all__ = ["place", "session"]
pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", PLANS)
def test_the_module_gives_what_was_published(session: Session, name: str) -> None:
    plan = PLANS[name]
    for number, case in enumerate(cases(name)):
        for kind in plan.kinds(case):
            try:
                plan.run(session, case, kind)
            except AssertionError as error:
                message = f"case {number} of {name} with CKM_{kind.name}"
                raise AssertionError(message) from error
