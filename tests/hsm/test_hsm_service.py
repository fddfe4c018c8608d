"""The HSM's operations, on a real store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import (
    BadInput,
    ConclaveError,
    Conflict,
    CredentialRefused,
    Fault,
    NotAllowed,
    NotFound,
    Unavailable,
)
from conclave.hsm.hsm import Hsm
from tests.support.hsm_bench import (
    CO,
    CO_FIRST,
    DOMAIN,
    PO,
    SO,
    Moment,
    make_cluster_partition,
    make_partition,
    with_hsm,
)


async def refusal(call: Awaitable[object]) -> ConclaveError:
    with pytest.raises(ConclaveError) as caught:
        await call
    return caught.value


async def fault_of(call: Awaitable[object]) -> Fault:
    return (await refusal(call)).fault


def test_hsm_serial_is_six_or_seven_digits_and_stays(tmp_path: Path) -> None:
    async def serial(hsm: Hsm) -> str:
        return hsm.info().serial

    first = with_hsm(tmp_path, serial)
    assert first.isdecimal()
    assert len(first) in (6, 7)
    assert with_hsm(tmp_path, serial) == first


def test_nothing_works_before_initialisation(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        assert await fault_of(hsm.verify_so(SO)) is faults.HSM_NOT_INITIALIZED
        assert await fault_of(hsm.create_partition("par")) is faults.HSM_NOT_INITIALIZED
        assert await fault_of(hsm.change_policy(21, 0)) is faults.HSM_NOT_INITIALIZED
        with pytest.raises(NotAllowed, match="initialise it"):
            hsm.cluster_partition()

    with_hsm(tmp_path, scene)


@pytest.mark.parametrize(
    ("label", "password", "domain", "field"),
    [
        ("", SO, DOMAIN, "label"),
        ("x" * 33, SO, DOMAIN, "label"),
        ("with space", SO, DOMAIN, "label"),
        ("hsm", b"seven77", DOMAIN, "password"),
        ("hsm", b"x" * 256, DOMAIN, "password"),
        ("hsm", SO, b"", "domain"),
        ("hsm", SO, b"d" * 129, "domain"),
    ],
)
def test_initialise_names_the_field_that_breaks_a_rule(
    tmp_path: Path, label: str, password: bytes, domain: bytes, field: str
) -> None:
    async def scene(hsm: Hsm) -> None:
        error = await refusal(hsm.initialize(label, password, domain))
        assert isinstance(error, BadInput)
        assert error.message.startswith(field)
        assert password.decode() not in error.message
        assert not hsm.info().initialized

    with_hsm(tmp_path, scene)


def test_initialising_again_needs_confirmation_and_destroys_partitions(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        await make_cluster_partition(hsm)
        await hsm.change_policy(21, 0)
        assert await fault_of(hsm.initialize("again", SO, DOMAIN)) is faults.HSM_OPERATION
        assert len(hsm.partitions()) == 1
        await hsm.initialize("again", b"another-so-password", DOMAIN, confirmed=True)
        assert hsm.partitions() == ()
        assert hsm.policies()[0].value == 1
        await hsm.verify_so(b"another-so-password")

    with_hsm(tmp_path, scene)


def test_k5_third_wrong_so_password_zeroizes(tmp_path: Path) -> None:
    """Rule K5."""

    async def scene(hsm: Hsm) -> None:
        await make_cluster_partition(hsm)
        for left in (2, 1):
            assert await fault_of(hsm.verify_so(b"wrong-password")) is faults.CREDENTIAL_INCORRECT
            assert hsm.info().so_attempts_left == left
        assert await fault_of(hsm.verify_so(b"wrong-password")) is faults.HSM_ZEROIZED
        assert await fault_of(hsm.verify_so(SO)) is faults.HSM_ZEROIZED
        assert hsm.partitions() == ()

    async def after_restart(hsm: Hsm) -> None:
        info = hsm.info()
        assert (info.zeroized, info.initialized, info.so_attempts_left) == (True, False, 0)
        await hsm.initialize("anew", SO, DOMAIN)
        assert not hsm.info().zeroized

    with_hsm(tmp_path, scene)
    with_hsm(tmp_path, after_restart)


def test_right_so_password_forgets_failures(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        await hsm.initialize("hsm", SO, DOMAIN)
        for _ in range(3):
            await refusal(hsm.verify_so(b"wrong-password"))
            await refusal(hsm.verify_so(b"wrong-password"))
            await hsm.verify_so(SO)
        assert hsm.info().so_attempts_left == 3

    with_hsm(tmp_path, scene)


def test_so_failures_survive_a_restart(tmp_path: Path) -> None:
    async def fail_once(hsm: Hsm) -> None:
        if not hsm.info().initialized:
            await hsm.initialize("hsm", SO, DOMAIN)
        await refusal(hsm.verify_so(b"wrong-password"))

    async def state(hsm: Hsm) -> bool:
        return hsm.info().zeroized

    for _ in range(3):
        with_hsm(tmp_path, fail_once)
    assert with_hsm(tmp_path, state)


def test_k5_backoff_delays_the_so_instead_of_zeroizing(tmp_path: Path) -> None:
    """Rule K5, the other value of its setting."""
    moment = Moment()

    async def scene(hsm: Hsm) -> None:
        await make_partition(hsm)
        for _ in range(3):
            await refusal(hsm.verify_so(b"wrong-password"))
        assert not hsm.info().zeroized
        assert isinstance(await refusal(hsm.verify_so(SO)), Unavailable)
        moment.ms += 1000
        await refusal(hsm.verify_so(b"wrong-password"))
        moment.ms += 1000
        assert isinstance(await refusal(hsm.verify_so(SO)), Unavailable)
        moment.ms += 1000
        await hsm.verify_so(SO)
        assert len(hsm.partitions()) == 1

    with_hsm(tmp_path, scene, so_lockout="backoff", boot_ms=moment)


def test_backoff_holds_after_a_restart(tmp_path: Path) -> None:
    moment = Moment()

    async def fail(hsm: Hsm) -> None:
        await hsm.initialize("hsm", SO, DOMAIN)
        for _ in range(3):
            await refusal(hsm.verify_so(b"wrong-password"))

    async def too_early(hsm: Hsm) -> None:
        assert isinstance(await refusal(hsm.verify_so(SO)), Unavailable)

    with_hsm(tmp_path, fail, so_lockout="backoff", boot_ms=moment)
    with_hsm(tmp_path, too_early, so_lockout="backoff", boot_ms=moment)


def test_partition_ids_have_thirteen_digits_and_names_are_unique(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        await hsm.initialize("hsm", SO, DOMAIN)
        partition_id = await hsm.create_partition("first")
        assert len(partition_id) == 13
        assert partition_id.isdecimal()
        assert hsm.partition(partition_id).version == 0
        assert isinstance(await refusal(hsm.create_partition("first")), Conflict)
        for name in ("", "x" * 33, 'quo"te', "back\\slash"):
            assert isinstance(await refusal(hsm.create_partition(name)), BadInput)
        assert isinstance(await refusal(hsm.create_partition("v", version=2)), BadInput)
        assert isinstance(await refusal(hsm.create_partition("s", size=1 << 40)), BadInput)
        assert isinstance(await refusal(hsm.delete_partition("1234567890123")), NotFound)
        await hsm.delete_partition(partition_id)
        assert hsm.partitions() == ()

    with_hsm(tmp_path, scene)


def test_first_co_password_allows_nothing_but_its_change(tmp_path: Path) -> None:
    """HSM policy 21."""

    async def scene(hsm: Hsm) -> None:
        partition_id = await make_partition(hsm)
        await hsm.change_partition_policy(partition_id, 40, 0, confirmed=True)
        await hsm.initialize_role(partition_id, "co", CO_FIRST)
        assert hsm.role(partition_id, "co").to_be_changed
        login = hsm.verify_role(partition_id, "co", CO_FIRST)
        assert await fault_of(login) is faults.CREDENTIAL_UNCHANGED
        assert await fault_of(hsm.unlock_smk("par", CO_FIRST)) is faults.CREDENTIAL_UNCHANGED
        same = hsm.change_role_password(partition_id, "co", CO_FIRST, CO_FIRST)
        assert isinstance(await refusal(same), BadInput)
        await hsm.change_role_password(partition_id, "co", CO_FIRST, CO)
        await hsm.verify_role(partition_id, "co", CO)
        assert not hsm.role(partition_id, "co").to_be_changed

    with_hsm(tmp_path, scene)


def test_policy_21_at_zero_accepts_a_first_password(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_partition(hsm)
        await hsm.change_policy(21, 0)
        await hsm.change_partition_policy(partition_id, 40, 0, confirmed=True)
        await hsm.initialize_role(partition_id, "co", CO_FIRST)
        await hsm.verify_role(partition_id, "co", CO_FIRST)
        assert len(await hsm.unlock_smk("par", CO_FIRST)) == 32

    with_hsm(tmp_path, scene)


def test_ten_wrong_co_passwords_lock_and_the_po_unlocks(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_cluster_partition(hsm)
        smk = await hsm.unlock_smk("par", CO)
        for left in range(9, -1, -1):
            error = await refusal(hsm.unlock_smk("par", b"wrong-password"))
            assert error.fault is faults.CREDENTIAL_INCORRECT
            assert hsm.role(partition_id, "co").login_attempts_left == left
        assert hsm.role(partition_id, "co").locked_out
        assert await fault_of(hsm.unlock_smk("par", CO)) is faults.ROLE_LOCKED
        change = hsm.change_role_password(partition_id, "co", CO, b"next-password")
        assert await fault_of(change) is faults.ROLE_LOCKED
        await hsm.reset_role(partition_id, "co")
        assert await hsm.unlock_smk("par", CO) == smk

    with_hsm(tmp_path, scene)


def test_co_password_change_keeps_the_smk(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_cluster_partition(hsm)
        smk = await hsm.unlock_smk("par", CO)
        await hsm.change_role_password(partition_id, "co", CO, b"next-password")
        assert await hsm.unlock_smk("par", b"next-password") == smk
        assert isinstance(await refusal(hsm.unlock_smk("par", CO)), CredentialRefused)

    with_hsm(tmp_path, scene)


def test_resetting_the_co_with_a_new_password_makes_a_new_smk(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_cluster_partition(hsm)
        smk = await hsm.unlock_smk("par", CO)
        unconfirmed = hsm.reset_role(partition_id, "co", b"given-by-the-po")
        assert await fault_of(unconfirmed) is faults.HSM_OPERATION
        await hsm.reset_role(partition_id, "co", b"given-by-the-po", confirmed=True)
        await hsm.change_role_password(partition_id, "co", b"given-by-the-po", CO)
        assert await hsm.unlock_smk("par", CO) != smk

    with_hsm(tmp_path, scene)


def test_a_change_of_password_voids_logins(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_cluster_partition(hsm)
        so = await hsm.verify_so(SO)
        co = await hsm.verify_role(partition_id, "co", CO)
        assert hsm.so_login_is_current(so)
        assert hsm.role_login_is_current(partition_id, "co", co)
        await hsm.change_role_password(partition_id, "co", CO, b"next-password")
        await hsm.change_so_password(SO, b"next-so-password")
        assert not hsm.role_login_is_current(partition_id, "co", co)
        assert not hsm.so_login_is_current(so)
        await hsm.delete_partition(partition_id)
        assert not hsm.role_login_is_current(partition_id, "co", co)

    with_hsm(tmp_path, scene)


def test_roles_come_in_their_order(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        await hsm.initialize("hsm", SO, DOMAIN)
        partition_id = await hsm.create_partition("par", version=1)
        early = hsm.initialize_role(partition_id, "co", CO_FIRST)
        assert await fault_of(early) is faults.HSM_OPERATION
        await hsm.initialize_partition(partition_id, "label", PO, DOMAIN)
        again = hsm.initialize_partition(partition_id, "other", PO, DOMAIN)
        assert isinstance(await refusal(again), Conflict)
        await hsm.verify_role(partition_id, "so", PO)
        cu_first = hsm.initialize_role(partition_id, "cu", b"cu-password")
        assert await fault_of(cu_first) is faults.HSM_OPERATION
        await hsm.initialize_role(partition_id, "co", CO_FIRST)
        assert isinstance(
            await refusal(hsm.initialize_role(partition_id, "co", CO_FIRST)), Conflict
        )
        await hsm.initialize_role(partition_id, "cu", b"cu-password")
        assert isinstance(await refusal(hsm.verify_role(partition_id, "x", b"password")), NotFound)

    with_hsm(tmp_path, scene)


async def _no_partition(hsm: Hsm) -> None:
    await hsm.initialize("hsm", SO, DOMAIN)


async def _v0_partition(hsm: Hsm) -> None:
    await make_partition(hsm, version=0)


async def _uninitialised_partition(hsm: Hsm) -> None:
    await hsm.initialize("hsm", SO, DOMAIN)
    await hsm.create_partition("par", version=1)


async def _policy_40_at_one(hsm: Hsm) -> None:
    await make_partition(hsm)


async def _no_co(hsm: Hsm) -> None:
    partition_id = await make_partition(hsm)
    await hsm.change_partition_policy(partition_id, 40, 0, confirmed=True)


async def _first_credential(hsm: Hsm) -> None:
    await _no_co(hsm)
    await hsm.initialize_role(hsm.partitions()[0].partition_id, "co", CO_FIRST)


async def _second_v1_partition(hsm: Hsm) -> None:
    await make_cluster_partition(hsm)
    await make_cluster_partition(hsm, name="second")


@pytest.mark.parametrize(
    ("prepare", "cure"),
    [
        (_no_partition, "create one of version 1"),
        (_v0_partition, "create a partition of version 1"),
        (_uninitialised_partition, "initialise it with its PO"),
        (_policy_40_at_one, "must set it to 0"),
        (_no_co, "must initialise the role"),
        (_first_credential, "must be changed before anything else"),
        (_second_v1_partition, "delete the others"),
    ],
)
def test_s1_each_unfit_partition_is_refused_with_its_cure(
    tmp_path: Path, prepare: Callable[[Hsm], Awaitable[None]], cure: str
) -> None:
    """Rule S1."""

    async def scene(hsm: Hsm) -> None:
        await prepare(hsm)
        with pytest.raises(NotAllowed, match=cure):
            hsm.cluster_partition()
        assert isinstance(await refusal(hsm.unlock_smk("par", CO)), NotAllowed)

    with_hsm(tmp_path, scene)


def test_policy_41_makes_a_v0_partition_fit(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_partition(hsm, version=0)
        forty = hsm.change_partition_policy(partition_id, 40, 1, confirmed=True)
        assert isinstance(await refusal(forty), BadInput)
        await hsm.change_partition_policy(partition_id, 41, 1, confirmed=True)
        assert hsm.partition(partition_id).version == 1
        values = {policy.number: policy.value for policy in hsm.partition_policies(partition_id)}
        assert values[40] == 1

    with_hsm(tmp_path, scene)


def test_policies_refuse_unknown_numbers_bad_values_and_missing_confirmation(
    tmp_path: Path,
) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_partition(hsm)
        assert isinstance(await refusal(hsm.change_policy(22, 1)), NotFound)
        assert isinstance(await refusal(hsm.change_policy(21, 2)), BadInput)
        unconfirmed = hsm.change_partition_policy(partition_id, 40, 0)
        assert await fault_of(unconfirmed) is faults.HSM_OPERATION

    with_hsm(tmp_path, scene)


def test_partition_policies_20_and_25_have_their_effect(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        partition_id = await make_partition(hsm)
        await hsm.change_partition_policy(partition_id, 20, 1)
        await hsm.change_partition_policy(partition_id, 25, 255 - 12)
        short = hsm.initialize_role(partition_id, "co", b"eleven-byte")
        assert isinstance(await refusal(short), BadInput)
        await hsm.initialize_role(partition_id, "co", CO_FIRST)
        await hsm.change_role_password(partition_id, "co", CO_FIRST, b"twelve-bytes")
        await refusal(hsm.verify_role(partition_id, "co", b"wrong-password"))
        login = hsm.verify_role(partition_id, "co", b"twelve-bytes")
        assert await fault_of(login) is faults.ROLE_LOCKED

    with_hsm(tmp_path, scene)


def test_local_seals_open_for_their_purpose_only(tmp_path: Path) -> None:
    async def scene(hsm: Hsm) -> None:
        sealed = hsm.seal_local(b"a private key", "member tls key")
        assert hsm.unseal_local(sealed, "member tls key") == b"a private key"
        with pytest.raises(ConclaveError):
            hsm.unseal_local(sealed, "another purpose")

    with_hsm(tmp_path, scene)
