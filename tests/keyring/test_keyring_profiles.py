"""Profile objects: none without the mechanisms that its conditions and test cases name."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from conclave.crypto.mechanisms import MECHANISMS
from conclave.crypto.policy import MechanismPolicy, governed
from conclave.crypto.standard import Cka, Cko, Ckp
from conclave.keyring.attributes import Attributes, read_ulong, ulong
from conclave.keyring.profiles import PROFILES, asks_for_profiles, profile_objects
from conclave.service.wire import OBJECT_ID_BYTES

FLAGS = {number: row.flags for number, row in MECHANISMS.items()}


def offered(mechanisms: Mapping[int, int]) -> set[int]:
    objects = profile_objects(mechanisms)
    return {read_ulong(attributes[Cka.PROFILE_ID]) for attributes in objects.values()}


def test_a_profile_is_offered_while_all_its_mechanisms_are_there() -> None:
    assert offered(FLAGS) == {each.profile for each in PROFILES}
    for each in PROFILES:
        for number, wanted in each.mechanisms.items():
            without = {other: flags for other, flags in FLAGS.items() if other != number}
            assert each.profile not in offered(without)
            for flag in wanted:
                assert each.profile not in offered({**FLAGS, number: FLAGS[number] & ~flag})


def test_a_policy_that_lets_rsa_pkcs_encrypt_nothing_leaves_no_extended_provider() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(fips=True))
    left = offered({number: row.flags for number, row in rows.items()})
    assert offered(FLAGS) - left == {Ckp.EXTENDED_PROVIDER}


def test_ids_are_those_of_objects_and_unlike_each_other() -> None:
    objects = profile_objects(FLAGS)
    assert len(objects) == len(PROFILES)
    assert {len(name) for name in objects} == {OBJECT_ID_BYTES}


@pytest.mark.parametrize(
    ("terms", "asks"),
    [
        ({}, False),
        ({Cka.CLASS: ulong(Cko.DATA)}, False),
        ({Cka.TOKEN: b"\1"}, False),
        ({Cka.CLASS: ulong(Cko.PROFILE)}, True),
        ({Cka.PROFILE_ID: ulong(77)}, True),
    ],
)
def test_only_a_search_that_names_profiles_asks_for_them(terms: Attributes, asks: bool) -> None:
    assert asks_for_profiles(terms) is asks
