"""Sealed objects: a blob opens in its own place only (rules C6 and C12)."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from conclave.crypto.seal import SealBroken
from conclave.ids import ClientId, ClusterId, KeyringId, LoginId, ObjectId, ProcessId
from conclave.service.object_seal import ObjectName, PrivateSeal, PublicSeal, tag_of
from conclave.service.session_objects import (
    Holder,
    SessionSeal,
    private_session_seal,
    public_session_seal,
)
from conclave.service.wire import OBJECT_ID_BYTES

KK = os.urandom(32)
PUBLIC = os.urandom(32)
LOGIN = LoginId(os.urandom(16))
PROCESS = ProcessId(os.urandom(16))
OBJECT = ObjectId(os.urandom(16))
HOLDER = Holder(ClusterId("cluster"), KeyringId(os.urandom(16)), ClientId(os.urandom(16)))
NAME = ObjectName(KeyringId(os.urandom(16)), OBJECT, 1)

OTHER_HOLDERS = [
    replace(HOLDER, cluster_id=ClusterId("another")),
    replace(HOLDER, keyring_id=KeyringId(os.urandom(16))),
    replace(HOLDER, client_id=ClientId(os.urandom(16))),
]


def test_a_session_object_comes_back_with_its_id() -> None:
    for seal in (
        private_session_seal(KK, HOLDER, LOGIN),
        public_session_seal(PUBLIC, HOLDER, PROCESS),
    ):
        blob = seal.seal(OBJECT, b"attributes")
        assert len(blob) > OBJECT_ID_BYTES
        assert seal.unseal(blob) == (OBJECT, b"attributes")


@pytest.mark.parametrize(
    "other",
    [
        private_session_seal(os.urandom(32), HOLDER, LOGIN),
        private_session_seal(KK, HOLDER, LoginId(os.urandom(16))),
        public_session_seal(KK, HOLDER, ProcessId(LOGIN)),
        *(private_session_seal(KK, holder, LOGIN) for holder in OTHER_HOLDERS),
    ],
)
def test_rule_c12_a_private_blob_dies_with_its_login(other: SessionSeal) -> None:
    blob = private_session_seal(KK, HOLDER, LOGIN).seal(OBJECT, b"attributes")
    with pytest.raises(SealBroken):
        other.unseal(blob)


@pytest.mark.parametrize(
    "other",
    [
        public_session_seal(os.urandom(32), HOLDER, PROCESS),
        public_session_seal(PUBLIC, HOLDER, ProcessId(os.urandom(16))),
        private_session_seal(PUBLIC, HOLDER, LoginId(PROCESS)),
        *(public_session_seal(PUBLIC, holder, PROCESS) for holder in OTHER_HOLDERS),
    ],
)
def test_rule_c12_a_public_blob_belongs_to_one_process(other: SessionSeal) -> None:
    blob = public_session_seal(PUBLIC, HOLDER, PROCESS).seal(OBJECT, b"attributes")
    with pytest.raises(SealBroken):
        other.unseal(blob)


def test_no_byte_of_a_session_blob_may_change_nor_be_missing() -> None:
    seal = private_session_seal(KK, HOLDER, LOGIN)
    blob = seal.seal(OBJECT, b"a")
    for position in range(len(blob)):
        changed = bytearray(blob)
        changed[position] ^= 1
        for wrong in (bytes(changed), blob[:position]):
            with pytest.raises(SealBroken):
                seal.unseal(wrong)


@pytest.mark.parametrize(
    "other",
    [
        replace(NAME, keyring_id=KeyringId(os.urandom(16))),
        replace(NAME, object_id=ObjectId(os.urandom(16))),
        replace(NAME, version=2),
    ],
)
def test_c4_a_token_object_opens_under_its_own_name_and_version_only(other: ObjectName) -> None:
    private, public = PrivateSeal.of(KK), PublicSeal.of(PUBLIC)
    blob = private.seal(NAME, b"attributes")
    assert private.unseal(NAME, blob) == b"attributes"
    with pytest.raises(SealBroken):
        private.unseal(other, blob)
    clear = public.seal(NAME, b"attributes")
    assert public.unseal(NAME, clear) == b"attributes"
    with pytest.raises(SealBroken):
        public.unseal(other, clear)
    with pytest.raises(SealBroken):
        private.check_mac(other, clear, private.mac(NAME, clear))


def test_rule_c6_only_a_holder_of_the_keyring_key_makes_a_public_object() -> None:
    blob = PublicSeal.of(PUBLIC).seal(NAME, b"attributes")
    tenant = PrivateSeal.of(KK)
    tenant.check_mac(NAME, blob, tenant.mac(NAME, blob))
    for mac in (b"", bytes(32), PrivateSeal.of(PUBLIC).mac(NAME, blob)):
        with pytest.raises(SealBroken):
            tenant.check_mac(NAME, blob, mac)


def test_private_and_public_blobs_do_not_stand_in_for_each_other() -> None:
    same = PrivateSeal.of(KK)
    with pytest.raises(SealBroken):
        same.unseal(NAME, PublicSeal(same.key).seal(NAME, b"attributes"))


def test_two_seals_of_the_same_content_have_different_tags() -> None:
    seal = PrivateSeal.of(KK)
    assert tag_of(seal.seal(NAME, b"a")) != tag_of(seal.seal(NAME, b"a"))
