"""Objects over real TLS: made, found, changed, copied and destroyed, by whom it may be."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conclave.crypto.standard import Cka, Ckc, Ckm, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import FALSE, TRUE, ulong
from conclave.service import wire
from conclave.service.wire import Operation, Role
from conclave.settings import Limits
from tests.service.conftest import Member, Tenant, make_tenant
from tests.support.worker_bench import NIL, WireClient, aes_template, worker_bench

DATA = [(int(Cka.CLASS), ulong(Cko.DATA)), (int(Cka.TOKEN), TRUE)]


BIG = (int(Cka.VALUE), bytes(wire.MAX_TOLD_OBJECT_BYTES))


def data_object(label: bytes, *, private: bool = True, **more: bytes) -> wire.Template:
    extra = [(int(Cka[name]), value) for name, value in more.items()]
    return [
        *DATA,
        (int(Cka.PRIVATE), TRUE if private else FALSE),
        (int(Cka.LABEL), label),
        (int(Cka.VALUE), b"content"),
        *extra,
    ]


async def create(tenant: Tenant, template: wire.Template, client: WireClient | None = None) -> Any:
    args = wire.CreateObject(tenant.keyring, template, tenant.bench.write_arguments())
    return await (client or tenant.client).call(Operation.CREATE_OBJECT, args)


async def label_of(tenant: Tenant, reference: bytes) -> bytes:
    args = wire.GetAttributes(tenant.keyring, reference, [int(Cka.LABEL)])
    ((_, value, label),) = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
    assert value == 0
    found: bytes = label
    return found


def test_an_object_is_made_found_changed_copied_and_destroyed(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        bench, client, keyring = tenant.bench, tenant.client, tenant.keyring
        reference = (await create(tenant, data_object(b"one"))).result[0]
        assert await tenant.find(b"one") == [reference]
        change = wire.ChangeObject(
            keyring, reference, [(int(Cka.LABEL), b"two")], bench.write_arguments()
        )
        changed = await client.ok(Operation.SET_ATTRIBUTES, change)
        assert changed[0] == reference
        assert await tenant.find(b"one") == []
        assert await tenant.find(b"two") == [reference]
        copy = wire.ChangeObject(
            keyring, reference, [(int(Cka.LABEL), b"three")], bench.write_arguments()
        )
        copied = (await client.ok(Operation.COPY_OBJECT, copy))[0]
        assert copied != reference
        assert await label_of(tenant, copied) == b"three"
        size = await client.ok(Operation.OBJECT_SIZE, wire.ObjectReference(keyring, copied))
        assert size > len(b"content")
        destroy = wire.DestroyObject(keyring, reference, bench.write_arguments())
        await client.ok(Operation.DESTROY_OBJECT, destroy)
        assert await tenant.find(b"two") == []
        again = wire.DestroyObject(keyring, reference, bench.write_arguments())
        reply = await client.call(Operation.DESTROY_OBJECT, again)
        assert reply.value == Ckr.OBJECT_HANDLE_INVALID

    member.run(scenario)


def test_c15_what_one_client_writes_all_workers_show_at_once(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        clients = [await tenant.another() for _ in range(4)]
        for number in range(30):
            label = b"object %d" % number
            reference = (await create(tenant, data_object(label))).result[0]
            for client in clients:
                assert await tenant.find(label, client) == [reference]

    member.run(scenario)


def test_rule_c21_a_repetition_is_answered_with_the_first_result(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        bench, client = tenant.bench, tenant.client
        args = wire.CreateObject(tenant.keyring, data_object(b"once"), bench.write_arguments())
        first = await client.ok(Operation.CREATE_OBJECT, args)
        other = await tenant.another(role=None)
        other.ticket = client.ticket
        assert await other.ok(Operation.CREATE_OBJECT, args) == first
        assert await tenant.find(b"once") == [first[0]]
        destroy = wire.DestroyObject(tenant.keyring, first[0], bench.write_arguments())
        for _ in range(2):
            assert await client.ok(Operation.DESTROY_OBJECT, destroy) is None
        # The object is gone; the record outlives it.
        assert await client.ok(Operation.CREATE_OBJECT, args) == first
        changed = msgspec.structs.replace(args, template=data_object(b"other"))
        assert (await client.call(Operation.CREATE_OBJECT, changed)).value != 0
        assert await tenant.find(b"other") == []

    member.run(scenario)


def test_rule_c21_a_repeated_generation_makes_no_second_key(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        token = [(int(Cka.TOKEN), TRUE)]
        args = wire.GenerateKeyPair(
            tenant.keyring,
            int(Ckm.RSA_PKCS_KEY_PAIR_GEN),
            NIL,
            [*token, (int(Cka.MODULUS_BITS), ulong(2048))],
            token,
            tenant.bench.write_arguments(),
        )
        first = await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args)
        assert await tenant.client.ok(Operation.GENERATE_KEY_PAIR, args) == first
        assert len(await tenant.client.ok(Operation.FIND, wire.Find(tenant.keyring, [], 0))) == 2

    member.run(scenario)


def test_a_write_after_its_deadline_or_without_a_key_does_nothing(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        late = tenant.bench.write_arguments(seconds=-1)
        short = wire.Write(b"short", tenant.bench.deadline())
        for write, value in (
            (late, Ckr.DEVICE_ERROR),
            (short, Ckr.ARGUMENTS_BAD),
            (None, Ckr.ARGUMENTS_BAD),
        ):
            args = wire.CreateObject(tenant.keyring, data_object(b"late"), write)
            assert (await tenant.client.call(Operation.CREATE_OBJECT, args)).value == value
        assert await tenant.find(b"late") == []

    member.run(scenario)


def test_changes_of_one_object_at_once_all_succeed_one_after_the_other(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        reference = (await create(tenant, data_object(b"shared"))).result[0]
        numbers = (Cka.LABEL, Cka.APPLICATION, Cka.OBJECT_ID)
        clients = [await tenant.another() for _ in numbers]
        calls = [
            client.call(
                Operation.SET_ATTRIBUTES,
                wire.ChangeObject(
                    tenant.keyring,
                    reference,
                    [(int(number), b"changed")],
                    tenant.bench.write_arguments(),
                ),
            )
            for client, number in zip(clients, numbers, strict=True)
        ]
        replies = await asyncio.gather(*calls)
        assert [hex(reply.value) for reply in replies] == ["0x0"] * 3
        args = wire.GetAttributes(tenant.keyring, reference, [int(number) for number in numbers])
        values = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
        assert [value[2] for value in values] == [b"changed"] * 3

    member.run(scenario)


def test_without_a_login_public_objects_may_be_read_and_nothing_else(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        clear = (await create(tenant, data_object(b"clear", private=False))).result[0]
        secret = (await create(tenant, data_object(b"secret"))).result[0]
        stranger = await tenant.another(role=None)
        everything = wire.Find(tenant.keyring, [], 0)
        assert await stranger.ok(Operation.FIND, everything) == [clear]
        args = wire.GetAttributes(tenant.keyring, clear, [int(Cka.VALUE)])
        assert (await stranger.ok(Operation.GET_ATTRIBUTES, args))[0][2] == b"content"
        args = wire.GetAttributes(tenant.keyring, secret, [int(Cka.VALUE)])
        reply = await stranger.call(Operation.GET_ATTRIBUTES, args)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        for private in (True, False):
            reply = await create(tenant, data_object(b"new", private=private), stranger)
            assert reply.value == Ckr.USER_NOT_LOGGED_IN
        destroy = wire.DestroyObject(tenant.keyring, clear, tenant.bench.write_arguments())
        reply = await stranger.call(Operation.DESTROY_OBJECT, destroy)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        assert await tenant.client.ok(Operation.FIND, everything) == [clear, secret]

    member.run(scenario)


def test_the_krso_changes_nothing_and_keeps_its_ticket(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        clear = (await create(tenant, data_object(b"clear", private=False))).result[0]
        await create(tenant, data_object(b"secret"))
        krso = await tenant.another(role=Role.KRSO)
        assert await krso.ok(Operation.FIND, wire.Find(tenant.keyring, [], 0)) == [clear]
        for private in (True, False):
            reply = await create(tenant, data_object(b"new", private=private), krso)
            assert reply.value == Ckr.USER_NOT_LOGGED_IN
            assert reply.ticket == krso.ticket
        assert await tenant.find(b"new") == []

    member.run(scenario)


def test_the_krco_cannot_initialise_itself(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        args = wire.InitPin(tenant.keyring, b"some-password", tenant.bench.write_arguments())
        reply = await tenant.client.call(Operation.INIT_PIN, args)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN
        assert reply.ticket == tenant.client.ticket
        reply = await tenant.client.call(Operation.INIT_PIN, args, ticket=None)
        assert reply.value == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)


def test_rule_c6_token_keys_in_the_clear_are_refused(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        template = [*aes_template(token=True, value=os.urandom(32)), (int(Cka.PRIVATE), FALSE)]
        assert (await create(tenant, template)).value == Ckr.ATTRIBUTE_VALUE_INVALID

    member.run(scenario)


def test_c6_a_setting_allows_token_keys_in_the_clear(tmp_path: Path) -> None:
    """Absent still means private; a key in the clear needs a login to be made, none to be used."""

    async def scenario() -> None:
        limits = Limits(clear_token_keys=True)
        async with asyncio.timeout(240), worker_bench(tmp_path, limits=limits) as bench:
            tenant = await make_tenant(bench)
            for label, more, seen in (
                (b"hidden", [], 0),
                (b"clear", [(int(Cka.PRIVATE), FALSE)], 1),
            ):
                template = [*aes_template(token=True, label=label, value=os.urandom(32)), *more]
                assert (await create(tenant, template)).value == 0
                find = wire.Find(tenant.keyring, [(int(Cka.LABEL), label)], 0)
                assert len(await tenant.client.ok(Operation.FIND, find)) == 1
                found = await tenant.client.ok(Operation.FIND, find, ticket=None)
                assert len(found) == seen
                for name in found:
                    use = wire.UseKey(tenant.keyring, name, int(Ckm.AES_ECB), NIL, bytes(16))
                    assert await tenant.client.ok(Operation.ENCRYPT, use, ticket=None)
                    copied = [(int(Cka.LABEL), b"copy")]
                    write = bench.write_arguments()
                    copy = wire.ChangeObject(tenant.keyring, name, copied, write)
                    assert await tenant.client.ok(Operation.COPY_OBJECT, copy)
                args = wire.CreateObject(tenant.keyring, template, bench.write_arguments())
                reply = await tenant.client.call(Operation.CREATE_OBJECT, args, ticket=None)
                assert reply.value == Ckr.USER_NOT_LOGGED_IN

    asyncio.run(scenario())


def test_a_public_session_object_needs_no_login_and_stays_with_its_process(
    member: Member,
) -> None:
    async def scenario(tenant: Tenant) -> None:
        process = os.urandom(16)
        template = [
            (int(Cka.CLASS), ulong(Cko.CERTIFICATE)),
            (int(Cka.CERTIFICATE_TYPE), ulong(Ckc.X_509)),
            (int(Cka.SUBJECT), b"subject"),
            (int(Cka.VALUE), b"certificate"),
        ]
        client = await tenant.bench.connect(tenant.identity, process_id=process)
        args = wire.CreateObject(tenant.keyring, template, None)
        blob, private, attributes = await client.ok(Operation.CREATE_OBJECT, args)
        assert not private
        assert dict(attributes)[int(Cka.SUBJECT)] == b"subject"
        get = wire.GetAttributes(tenant.keyring, blob, [int(Cka.VALUE)])
        same = await tenant.bench.connect(tenant.identity, process_id=process)
        assert (await same.ok(Operation.GET_ATTRIBUTES, get))[0][2] == b"certificate"
        other = await tenant.bench.connect(tenant.identity)
        assert (await other.call(Operation.GET_ATTRIBUTES, get)).value == Ckr.USER_NOT_LOGGED_IN

    member.run(scenario)


def test_a_session_object_is_changed_by_a_new_blob(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        key = await tenant.aes_key(token=False)
        change = wire.ChangeObject(tenant.keyring, key, [(int(Cka.LABEL), b"renamed")], None)
        blob, private, attributes = await client.ok(Operation.SET_ATTRIBUTES, change)
        assert private
        assert dict(attributes)[int(Cka.LABEL)] == b"renamed"
        assert int(Cka.VALUE) not in dict(attributes)
        assert blob[1:17] == key[1:17]
        assert await label_of(tenant, blob) == b"renamed"
        copy = wire.ChangeObject(
            tenant.keyring, blob, [(int(Cka.TOKEN), TRUE)], tenant.bench.write_arguments()
        )
        stored = (await client.ok(Operation.COPY_OBJECT, copy))[0]
        assert await tenant.find(b"renamed") == [stored]

    member.run(scenario)


def test_sensitive_values_never_leave(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        for token in (True, False):
            _, private = await tenant.ec_key(token=token)
            args = wire.GetAttributes(tenant.keyring, private, [int(Cka.VALUE), int(Cka.LABEL)])
            values = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
            assert values == [
                [int(Cka.VALUE), Ckr.ATTRIBUTE_SENSITIVE, None],
                [int(Cka.LABEL), 0, b"ec"],
            ]

    member.run(scenario)


def test_the_number_of_objects_is_limited(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        limit = tenant.bench.limits.max_objects
        args = [
            wire.CreateObject(
                tenant.keyring, data_object(b"%d" % number), tenant.bench.write_arguments()
            )
            for number in range(limit + 5)
        ]
        client = tenant.client
        sent = [client.send(Operation.CREATE_OBJECT, arg, ticket=client.ticket) for arg in args]
        values = [(await future).value for future in sent]
        assert values.count(0) == limit
        assert values.count(Ckr.MAX_OBJECT_COUNT_EXCEEDED) == 5
        found = await client.ok(Operation.FIND, wire.Find(tenant.keyring, [], 0))
        assert len(found) == limit
        # From what this worker holds already, and from the store alone.
        fresh = await make_tenant(tenant.bench, logged_in=False)
        described = [
            await client.ok(Operation.TOKEN_INFO, wire.TokenInfo(tenant.keyring)),
            await fresh.client.ok(Operation.TOKEN_INFO, wire.TokenInfo(fresh.keyring)),
        ]
        assert described[0][1:3] == [limit, limit]
        assert described[1][1:3] == [0, limit]

    member.run(scenario)


@pytest.mark.parametrize(
    ("operation", "args", "value"),
    [
        (Operation.RANDOM, [0], Ckr.ARGUMENTS_BAD),
        (Operation.RANDOM, [65_537], Ckr.ARGUMENTS_BAD),
        (Operation.LOGIN, [bytes(16), 2, b"", bytes(16)], Ckr.ARGUMENTS_BAD),
        (Operation.LOGIN, [b"", 1, b"", bytes(16)], Ckr.KEYRING_NOT_FOUND),
        (Operation.LOGIN, [bytes(16), 1, bytes(256), bytes(16)], Ckr.PIN_LEN_RANGE),
        (Operation.FIND, [bytes(16), [[3, b""]] * 65, 1], Ckr.ARGUMENTS_BAD),
        (Operation.FIND, [bytes(16), [[3, bytes(65_537)]], 1], Ckr.ARGUMENTS_BAD),
        (Operation.GET_ATTRIBUTES, [bytes(16), bytes(16), [0] * 65], Ckr.ARGUMENTS_BAD),
        (Operation.GET_ATTRIBUTES, [bytes(16), bytes(16), [0]], Ckr.KEYRING_NOT_FOUND),
        (Operation.LOGOUT, [], Ckr.USER_NOT_LOGGED_IN),
    ],
)
def test_arguments_of_the_right_shape_and_wrong_content_are_answered(
    member: Member, operation: Operation, args: list[Any], value: int
) -> None:
    async def scenario(tenant: Tenant) -> None:
        reply = await tenant.client.call(operation, args, ticket=None)
        assert reply.value == value
        assert (await tenant.client.call(Operation.PING)).value == 0

    member.run(scenario)


def test_an_answer_that_no_frame_holds_becomes_an_error(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        big = [*data_object(b"big")[:-1], (int(Cka.VALUE), os.urandom(65_536))]
        reference = (await create(tenant, big)).result[0]
        args = wire.GetAttributes(tenant.keyring, reference, [int(Cka.VALUE)] * 64)
        reply = await tenant.client.call(Operation.GET_ATTRIBUTES, args)
        assert reply.value == Ckr.DEVICE_MEMORY
        args = wire.GetAttributes(tenant.keyring, reference, [int(Cka.VALUE)] * 2)
        assert len(await tenant.client.ok(Operation.GET_ATTRIBUTES, args)) == 2

    member.run(scenario)


def told_of(tenant: Tenant, *names: bytes) -> wire.Find:
    return wire.Find(tenant.keyring, [], 1, list(names))


def test_a_search_tells_of_objects_what_could_be_asked_for_one_by_one(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        shown = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
        secret = [*aes_template(token=True, value=os.urandom(32)), *shown]
        readable = (await create(tenant, secret)).result[0]
        gone = os.urandom(wire.OBJECT_ID_BYTES)
        asked = told_of(tenant, private, gone, readable)
        told = await tenant.client.ok(Operation.FIND, asked)
        assert [name for name, _ in told] == [private, readable]
        for name, rows in told:
            types = [number for number, _, _ in rows]
            assert {Cka.LABEL, Cka.CLASS, Cka.KEY_TYPE, Cka.SENSITIVE, Cka.UNIQUE_ID} <= set(types)
            for some in (types[:60], types[60:]):
                args = wire.GetAttributes(tenant.keyring, name, some)
                alone = await tenant.client.ok(Operation.GET_ATTRIBUTES, args)
                assert alone == [row for row in rows if row[0] in some]
        hidden, plain = ({row[0]: row[1:] for row in rows} for _, rows in told)
        assert hidden[Cka.VALUE] == [Ckr.ATTRIBUTE_SENSITIVE, None]
        assert Cka.VALUE not in plain

    member.run(scenario)


def test_a_search_tells_nobody_what_he_may_not_see_nor_more_than_fits(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        made = [
            (await create(tenant, data_object(b"one", private=False))).result[0],
            (await create(tenant, data_object(b"two"))).result[0],
            (await create(tenant, [*data_object(b"big")[:-1], BIG])).result[0],
        ]
        told = await tenant.client.ok(Operation.FIND, told_of(tenant, *made))
        assert [name for name, _ in told] == made[:2]
        stranger = await tenant.another(role=None)
        told = await stranger.ok(Operation.FIND, told_of(tenant, *made))
        assert [name for name, _ in told] == made[:1]
        krso = await tenant.another(role=Role.KRSO)
        told = await krso.ok(Operation.FIND, told_of(tenant, *made))
        assert [name for name, _ in told] == made[:1]
        for names in ([made[0]] * (wire.MAX_TOLD_OBJECTS + 1), [made[0], b"short"]):
            reply = await tenant.client.call(Operation.FIND, told_of(tenant, *names))
            assert reply.value == Ckr.ARGUMENTS_BAD

    member.run(scenario)
