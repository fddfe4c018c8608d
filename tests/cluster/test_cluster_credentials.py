"""Logins, changes of passwords, initialisation, single and dual identity."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from uuid import UUID

import pytest

from conclave import faults
from conclave.cluster.master_keys import derive_master_keys
from conclave.crypto.password_hash import hash_password
from conclave.crypto.seal import SealBroken, unseal
from conclave.errors import (
    BadInput,
    ConclaveError,
    Conflict,
    CredentialRefused,
    Fault,
    InternalFault,
    NotAllowed,
    Unavailable,
)
from conclave.ids import KeyringId
from conclave.keyring.keys import WrapName, WrongPassword, unwrap_key
from conclave.service.client_messages import (
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.messages import (
    ClientLogout,
    NamedKeyring,
)
from conclave.service.page import DENIED_LOGINS
from conclave.service.tickets import Ticket, issue
from conclave.service.wire import Role
from tests.support.cluster_bench import (
    FIRST,
    PASSWORD,
    WRONG,
    ClusterBench,
    cluster_bench,
    gathered,
    id_of,
    new_object,
)

pytestmark = pytest.mark.system
OTHER = b"another-password"


async def refused(call: Awaitable[object], fault: Fault) -> None:
    with pytest.raises(ConclaveError) as error:
        await call
    assert error.value.fault is fault, error.value.message


def test_the_first_login_gives_a_ticket_that_may_only_change_the_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = id_of(summary)
            await refused(bench.login(keyring, WRONG, Role.KRSO), faults.PIN_INCORRECT)
            first = await bench.login(keyring, FIRST, Role.KRSO)
            assert bench.opened(first).is_first_password
            await refused(bench.write(keyring, first), faults.PIN_EXPIRED)
            await refused(bench.initialize_krco(keyring, first, PASSWORD), faults.PIN_EXPIRED)
            await refused(bench.initialize_token(keyring, FIRST, "new"), faults.PIN_EXPIRED)
            await refused(bench.login(keyring, FIRST), faults.USER_PIN_NOT_INITIALIZED)
            ticket = await bench.change(keyring, FIRST, PASSWORD, ticket=first)
            opened = bench.opened(ticket)
            assert opened.login_id == bench.opened(first).login_id
            assert opened.key_generation == 1
            assert not opened.is_first_password
            await bench.initialize_krco(keyring, ticket, PASSWORD)

    asyncio.run(scenario())


def test_the_first_password_must_be_changed_to_another_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = id_of(summary)
            await refused(bench.change(keyring, FIRST, FIRST), faults.KEYRING_PASSWORD_RULE)
            await refused(bench.change(keyring, FIRST, b"short12"), faults.KEYRING_PASSWORD)
            assert await bench.change(keyring, FIRST, PASSWORD) == b""
            assert (await bench.show("ring")).krso_initialized

    asyncio.run(scenario())


def test_section_8_rule_15_single_identity_has_one_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = id_of(summary)
            await bench.change(keyring, FIRST, PASSWORD)
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            with pytest.raises(BadInput) as error:
                await bench.initialize_krco(keyring, krso, OTHER)
            assert error.value.fault is faults.KEYRING_PASSWORD_RULE
            assert (await bench.show("ring")).failed_attempts == 1
            await bench.initialize_krco(keyring, krso, PASSWORD)
            await bench.change(keyring, PASSWORD, OTHER, Role.KRCO)
            await bench.login(keyring, OTHER, Role.KRSO)
            await bench.login(keyring, OTHER, Role.KRCO)
            await refused(bench.login(keyring, PASSWORD, Role.KRSO), faults.PIN_INCORRECT)

    asyncio.run(scenario())


def test_section_8_rule_15_dual_identity_has_two_passwords_and_two_counters(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, dual=True) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = id_of(summary)
            await bench.change(keyring, FIRST, PASSWORD)
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            await bench.initialize_krco(keyring, krso, OTHER)
            ticket = await bench.login(keyring, OTHER, Role.KRCO)
            await refused(bench.login(keyring, PASSWORD, Role.KRCO), faults.PIN_INCORRECT)
            await refused(bench.login(keyring, OTHER, Role.KRSO), faults.PIN_INCORRECT)
            row = bench.row(keyring)
            assert row.krco is not None
            assert (row.krso.failures, row.krco.failures) == (1, 1)
            await bench.login(keyring, PASSWORD, Role.KRSO)
            row = bench.row(keyring)
            assert row.krco is not None
            assert (row.krso.failures, row.krco.failures) == (0, 1)
            await bench.write(keyring, ticket, writes=[new_object()])
            await bench.change(keyring, OTHER, WRONG, Role.KRCO)
            key = bench.opened(await bench.login(keyring, WRONG, Role.KRCO)).key
            assert bench.opened(await bench.login(keyring, PASSWORD, Role.KRSO)).key == key

    asyncio.run(scenario())


def test_c11_a_change_of_password_ends_tickets_but_not_the_callers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, mine = await bench.ready_keyring()
            theirs = await bench.login(keyring, PASSWORD)
            generation = bench.page.keyring_generation(KeyringId(keyring))
            renewed = await bench.change(keyring, PASSWORD, OTHER, Role.KRCO, ticket=mine)
            assert bench.page.keyring_generation(KeyringId(keyring)) > generation
            for void in (mine, theirs):
                await refused(bench.write(keyring, void), faults.NOT_LOGGED_IN)
            await bench.write(keyring, renewed, writes=[new_object()])
            assert bench.opened(renewed).key == bench.opened(mine).key

    asyncio.run(scenario())


def test_c21_a_repeated_change_is_answered_with_a_ticket_and_no_password_check(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, mine = await bench.ready_keyring()
            key = os.urandom(16)

            async def change(new: bytes = OTHER) -> bytes:
                return await bench.change(keyring, PASSWORD, new, Role.KRCO, ticket=mine, key=key)

            first = await change()
            generation = bench.page.keyring_generation(KeyringId(keyring))
            again = await change()
            assert bench.page.keyring_generation(KeyringId(keyring)) > generation
            for ticket in (first, again):
                await bench.write(keyring, ticket, writes=[new_object()])
            assert (await bench.show("ring")).failed_attempts == 0
            with pytest.raises(Conflict) as mismatch:
                await change(WRONG)
            assert mismatch.value.fault is faults.IDEMPOTENCY_MISMATCH
            await bench.change(keyring, OTHER, PASSWORD, Role.KRCO)
            assert await change() == b""

    asyncio.run(scenario())


def test_c21_a_repeated_initialisation_of_the_krco_gives_a_ticket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, dual=True) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = id_of(summary)
            await bench.change(keyring, FIRST, PASSWORD)
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            key = os.urandom(16)
            await bench.initialize_krco(keyring, krso, OTHER, key)
            again = await bench.initialize_krco(keyring, krso, OTHER, key)
            await bench.initialize_krco(keyring, again, WRONG)

    asyncio.run(scenario())


def test_c21_a_repeated_change_of_the_krcos_own_password_gives_a_ticket(tmp_path: Path) -> None:
    """With dual identity the new password opens the KRCO's wrap, not the KRSO's."""

    async def scenario() -> None:
        async with cluster_bench(tmp_path, dual=True) as bench:
            keyring, ticket = await bench.ready_keyring()
            key = os.urandom(16)
            answers = [
                await bench.change(keyring, PASSWORD, OTHER, Role.KRCO, ticket=ticket, key=key)
                for _ in range(2)
            ]
            assert {bench.opened(answer).role for answer in answers} == {Role.KRCO}
            for answer in answers:
                await bench.write(keyring, answer, writes=[new_object()])

    asyncio.run(scenario())


def test_c21_a_repeated_initialisation_of_the_token_checks_no_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            key = os.urandom(16)
            await bench.initialize_token(keyring, PASSWORD, "anew", key=key)
            await bench.change(keyring, PASSWORD, OTHER)
            before = bench.row(keyring)
            await bench.initialize_token(keyring, PASSWORD, "anew", key=key)
            assert bench.row(keyring) == before
            with pytest.raises(Conflict):
                await bench.initialize_token(keyring, OTHER, "anew", key=key)
            assert bench.row(keyring) == before

    asyncio.run(scenario())


def test_two_changes_at_once_leave_one_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, _ = await bench.ready_keyring()
            news = [b"new-password-%d" % number for number in range(4)]
            answers = await gathered(*(bench.change(keyring, PASSWORD, new) for new in news))
            good = [new for new, answer in zip(news, answers, strict=True) if answer == b""]
            assert len(good) == 1
            assert all(isinstance(a, CredentialRefused) for a in answers if a != b"")
            await bench.login(keyring, good[0])

    asyncio.run(scenario())


def test_c21_a_request_after_its_deadline_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            late = bench.deadline(-1)
            with pytest.raises(Unavailable) as error:
                await bench.change(keyring, PASSWORD, OTHER, deadline_ms=late)
            assert error.value.fault is faults.DEADLINE_PASSED
            await refused(
                bench.write(keyring, ticket, writes=[new_object()], deadline_ms=late),
                faults.DEADLINE_PASSED,
            )
            far = bench.deadline(3600)
            await refused(
                bench.write(keyring, ticket, writes=[new_object()], deadline_ms=far),
                faults.BAD_REQUEST,
            )
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_initialising_the_token_destroys_objects_and_the_krco(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            await bench.make_keyrings("taken")
            await bench.write(keyring, ticket, writes=[new_object()])
            serial = (await bench.show("ring")).serial
            await refused(bench.initialize_token(keyring, PASSWORD, "taken"), faults.KEYRING_EXISTS)
            assert (await bench.show("ring")).object_count == 1
            await refused(bench.initialize_token(keyring, WRONG, "fresh"), faults.PIN_INCORRECT)
            key = os.urandom(16)
            await bench.initialize_token(keyring, PASSWORD, "fresh", key)
            await bench.initialize_token(keyring, PASSWORD, "fresh", key)
            shown = await bench.show("fresh")
            assert (shown.object_count, shown.krco_initialized, shown.serial) == (0, False, serial)
            assert bench.row(keyring).key_generation == 2
            await refused(bench.write(keyring, ticket), faults.NOT_LOGGED_IN)
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            await refused(bench.login(keyring, PASSWORD), faults.USER_PIN_NOT_INITIALIZED)
            await bench.initialize_krco(keyring, krso, PASSWORD)

    asyncio.run(scenario())


def test_c13_a_logout_denies_the_login(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            other = await bench.login(keyring, PASSWORD)
            params = ClientLogout(client_id=bench.client_id, ticket=ticket)
            await bench.worker.call("logout", params)
            assert bench.opened(ticket).login_id in bench.page.denied_since(0)[1]
            await refused(bench.write(keyring, ticket), faults.NOT_LOGGED_IN)
            await bench.write(keyring, other, writes=[new_object()])

    asyncio.run(scenario())


def test_a_ticket_logged_out_again_and_again_drives_no_other_out_of_the_ring(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ended = await bench.ready_keyring()
            other = await bench.login(keyring, PASSWORD)
            for ticket in (ended, *[other] * DENIED_LOGINS):
                params = ClientLogout(client_id=bench.client_id, ticket=ticket)
                await bench.worker.call("logout", params)
            assert bench.page.denied_head() == 2
            await refused(bench.write(keyring, ended, writes=[new_object()]), faults.NOT_LOGGED_IN)

    asyncio.run(scenario())


def test_c20_a_revoked_client_neither_logs_in_nor_writes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            generation = bench.page.client_generation()
            name = bench.client_id.hex()
            await bench.daemon.call("revoke_client", NamedClient(client_id=name))
            assert bench.page.client_generation() > generation
            with pytest.raises(NotAllowed) as error:
                await bench.login(keyring, PASSWORD)
            assert error.value.fault is faults.CLIENT_NOT_FOUND
            await refused(bench.write(keyring, ticket), faults.CLIENT_NOT_FOUND)

    asyncio.run(scenario())


def test_c20_a_client_neither_logs_in_nor_writes_with_a_keyring_that_was_taken(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path, dual=True) as bench:
            keyring, ticket = await bench.ready_keyring()
            krso = await bench.login(keyring, PASSWORD, Role.KRSO)
            client, name = str(UUID(bytes=bench.client_id)), str(UUID(bytes=keyring))
            mode = AssignmentMode(assigned=True)
            given = AssignKeyrings(client_id=client, keyrings=[name])
            await bench.daemon.call("assign_keyrings", given)
            await bench.daemon.call("set_assignment_mode", mode)
            await bench.write(keyring, ticket)
            await bench.daemon.call("take_keyring", TakeKeyring(client_id=client, keyring=name))
            # As one whose worker let it through before.
            await refused(bench.write(keyring, ticket), faults.KEYRING_NOT_FOUND)
            await refused(bench.login(keyring, PASSWORD), faults.KEYRING_NOT_FOUND)
            krco = bench.initialize_krco(keyring, krso, OTHER)
            await refused(krco, faults.KEYRING_NOT_FOUND)
            open_again = AssignmentMode(assigned=False)
            await bench.daemon.call("set_assignment_mode", open_again)
            await bench.write(keyring, ticket)

    asyncio.run(scenario())


def test_c10_a_ticket_forged_with_the_smk_opens_and_destroys_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            genuine = bench.opened(ticket)
            row = bench.row(keyring)
            forged = Ticket(
                cluster_id=bench.cluster_id,
                keyring_id=keyring,
                role=Role.KRSO,
                key=os.urandom(32),
                key_generation=row.key_generation,
                authorization_version=row.authorization_version,
                client_id=bench.client_id,
                login_id=os.urandom(16),
                issued_ms=genuine.issued_ms,
                expires_ms=genuine.expires_ms,
            )
            newest = bench.cluster_keys().ticket_keys[0]
            blob = issue(forged, newest.version, newest.key)
            await refused(bench.write(keyring, blob), faults.NOT_LOGGED_IN)
            await refused(bench.initialize_krco(keyring, blob, OTHER), faults.NOT_LOGGED_IN)
            await bench.login(keyring, PASSWORD)

    asyncio.run(scenario())


def test_rule_c1_a_kept_row_and_first_password_open_nothing_made_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            (summary,) = await bench.make_keyrings("ring")
            keyring = KeyringId(id_of(summary))
            kept = bench.row(keyring)
            await bench.change(keyring, FIRST, PASSWORD)
            key = bench.opened(await bench.login(keyring, PASSWORD, Role.KRSO)).key
            outer = derive_master_keys(bench.smk).outer
            kek = hash_password(FIRST, kept.krso.salt, allow_low_cost=True)
            context = b"first password" + keyring
            marker = unseal(
                kek, unseal(outer, kept.krso.sealed_outer, b"outer " + context), b"inner " + context
            )
            assert marker != key
            now = bench.row(keyring)
            name = WrapName(keyring, Role.KRSO, now.key_generation)
            for salt in (kept.krso.salt, now.krso.salt):
                guess = hash_password(FIRST, salt, allow_low_cost=True)
                with pytest.raises(WrongPassword):
                    unwrap_key(outer, guess, now.krso.sealed_outer, name)
            with pytest.raises(SealBroken):
                unseal(marker.ljust(32)[:32], now.check_value, b"")

    asyncio.run(scenario())


def test_rule_c1_neither_master_key_nor_password_alone_opens_a_keyring(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            row = bench.row(keyring)
            key = bench.opened(ticket).key
            kek = hash_password(PASSWORD, row.krso.salt, allow_low_cost=True)
            outer = derive_master_keys(bench.smk).outer
            name = WrapName(KeyringId(keyring), Role.KRSO, row.key_generation)
            assert unwrap_key(outer, kek, row.krso.sealed_outer, name) == key
            with pytest.raises(InternalFault):
                unwrap_key(os.urandom(32), kek, row.krso.sealed_outer, name)
            with pytest.raises(WrongPassword):
                unwrap_key(outer, os.urandom(32), row.krso.sealed_outer, name)
            assert key not in bench.database.read_bytes()

    asyncio.run(scenario())


def test_passwords_and_keys_stay_out_of_the_logs(tmp_path: Path) -> None:
    async def scenario() -> ClusterBench:
        async with cluster_bench(tmp_path) as bench:
            keyring, ticket = await bench.ready_keyring()
            await gathered(bench.login(keyring, WRONG))
            await bench.daemon.call("delete_keyring", NamedKeyring(name="ring"))
            await gathered(bench.write(keyring, ticket))
            return bench

    bench = asyncio.run(scenario())
    text = b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))
    for secret in (FIRST, PASSWORD, WRONG, bench.smk, bench.smk.hex().encode()):
        assert secret not in text
