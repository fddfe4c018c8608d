"""The HSM's rules over sequences of events, without a store or a hash."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.errors import CredentialRefused, NotAllowed
from conclave.hsm import rules
from conclave.hsm.model import HSM_SO, Credential, HsmState, Owner, Partition
from conclave.hsm.views import CredentialVersion, PartitionId, RoleId

PARTITION = PartitionId("1234567000001")
CO = Owner(RoleId.CO, PARTITION)


def credential(*, first: bool = False) -> Credential:
    return Credential(salt=b"salt", sealed=b"sealed", version=CredentialVersion(b"v"), first=first)


def initialised() -> HsmState:
    roles = {RoleId.PO: credential(), RoleId.CO: credential(first=True)}
    partition = Partition(
        partition_id=PARTITION,
        name="par",
        version=1,
        has_pso=True,
        size=1,
        label="par",
        sealed_smk=b"smk",
        roles=roles,
    )
    return HsmState(serial="123456", label="hsm", so=credential(), partitions=(partition,))


@given(st.lists(st.booleans(), max_size=12))
def test_the_so_is_gone_exactly_after_three_failures_in_a_row(attempts: list[bool]) -> None:
    state = initialised()
    in_a_row = 0
    for right in attempts:
        in_a_row = 0 if right else in_a_row + 1
        state = (
            rules.after_success(state, HSM_SO)
            if right
            else rules.after_failure(state, HSM_SO, zeroizes=True)
        )
        if in_a_row == 3:
            assert state == HsmState(serial="123456", zeroized=True)
            return
        found = rules.find_credential(state, HSM_SO)
        assert rules.attempts_left(state, HSM_SO, found) == 3 - in_a_row
        assert len(state.partitions) == 1


@given(st.lists(st.booleans(), max_size=30))
def test_the_co_is_locked_exactly_after_ten_failures_in_a_row(attempts: list[bool]) -> None:
    state = initialised()
    in_a_row = 0
    for right in attempts:
        if in_a_row >= 10:
            with pytest.raises(CredentialRefused) as caught:
                rules.require_unlocked(state, CO)
            assert caught.value.fault is faults.ROLE_LOCKED
            return
        rules.require_unlocked(state, CO)
        in_a_row = 0 if right else in_a_row + 1
        state = (
            rules.after_success(state, CO)
            if right
            else rules.after_failure(state, CO, zeroizes=True)
        )
    assert not state.zeroized


def test_a_success_without_failures_writes_nothing() -> None:
    state = initialised()
    assert rules.after_success(state, CO) is state


def test_backoff_grows_and_is_bounded() -> None:
    delays = [rules.backoff_seconds(failures) for failures in range(100)]
    assert delays[:6] == [0, 0, 0, 1, 2, 4]
    assert delays == sorted(delays)
    assert delays[-1] == rules.LONGEST_BACKOFF_SECONDS


def test_smks_are_lost_by_zeroizing_deleting_and_replacing_only() -> None:
    state = initialised()
    assert rules.smks_lost(state, rules.zeroized(state))
    assert rules.smks_lost(state, rules.without_partition(state, PARTITION))
    assert rules.smks_lost(state, rules.with_smk(state, CO, b"other"))
    assert not rules.smks_lost(state, rules.after_failure(state, CO, zeroizes=True))
    assert not rules.smks_lost(state, rules.with_credential(state, CO, credential()))


def test_s1_a_partition_with_objects_is_refused() -> None:
    state = initialised()
    filled = rules.with_partition(
        state,
        PARTITION,
        lambda partition: msgspec.structs.replace(partition, object_count=3, policies={40: 0}),
    )
    with pytest.raises(NotAllowed, match="holds 3 objects"):
        rules.cluster_partition(filled)
