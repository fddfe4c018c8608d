"""One request per operation and kind of reference, and what has to be there for it to succeed.

The requests hold placeholders; `LiveValues` has a member make the keyrings, keys, tickets,
signatures and wrapped keys that stand in for them, and makes again what requests use up.
"""

from __future__ import annotations

import asyncio
import enum
import os
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import CKR_OK
from conclave.keyring.attributes import TRUE, ulong
from conclave.service.frames import frame
from conclave.service.wire import BUSY, Operation, Role
from tests.service.conftest import Tenant, make_keyring, make_tenant
from tests.support.cluster_bench import PASSWORD
from tests.support.worker_bench import WorkerBench, aes_template, ec_pair

SEEDS: Final = Path(__file__).parent.parent / "service" / "seeds"
DEADLINE_SECONDS: Final = 300
"""Less than the latest deadline that the cluster process takes."""
LOGIN_SECONDS: Final = 30.0


class Door(enum.Enum):
    """On what kind of connection a request belongs."""

    CLIENT = enum.auto()
    NEWCOMER = enum.auto()
    """One that has not said HELLO."""
    MEMBER = enum.auto()
    """One of another member's worker."""


def door_of(parts: list[Any]) -> Door:
    """Return where a seed is to be sent."""
    special = {int(Operation.HELLO): Door.NEWCOMER, int(Operation.FORWARD): Door.MEMBER}
    return special.get(parts[1], Door.CLIENT)


class Nested:
    """A value that travels as the bytes of its own encoding: the request inside a FORWARD."""

    def __init__(self, value: Any) -> None:
        self.value = value


def encoded(parts: Any) -> bytes:
    """Return the encoding of a request, nested ones inside it included."""
    return msgspec.msgpack.encode(parts, enc_hook=lambda nested: encoded(nested.value))


# ------------------------------------------------------------------ placeholders


def _placeholder(number: int, size: int = 16) -> bytes:
    return bytes([number]) * size


FRESH: Final = _placeholder(0x18)
"""A new idempotency key or attempt id each time: under a used one, another request is refused."""
DEADLINE: Final = 0x1919191919
LABEL: Final = "a label nobody has"
CLIENT, PROCESS = _placeholder(0x0F), _placeholder(0x10)
KEYRING, PRIVATE, PUBLIC, SECRET = map(_placeholder, (0x11, 0x12, 0x13, 0x14))
TICKET, PRIVATE_BLOB, PUBLIC_BLOB = (_placeholder(number, 24) for number in (0x15, 0x16, 0x17))
CREDENTIALS: Final = _placeholder(0x1A)
"""A keyring whose passwords are changed, away from the one with the keys."""
KRSO_TICKET, PARTING_TICKET = (_placeholder(number, 24) for number in (0x1B, 0x1C))
CHANGING, DOOMED = _placeholder(0x1D), _placeholder(0x1E)
"""Objects to be changed and destroyed."""
WRAPPING, LEAVING, BASE, AGREEING = map(_placeholder, (0x21, 0x22, 0x23, 0x24))
RSA_PRIVATE, RSA_PUBLIC, KEM_PRIVATE, KEM_PUBLIC = map(_placeholder, (0x25, 0x26, 0x27, 0x28))
GUARDED, CONTEXT = _placeholder(0x29), _placeholder(0x2A, 24)
AGREED, GUARDED_PUBLIC = map(_placeholder, (0x32, 0x33))
SIGNATURE, RECOVERABLE = _placeholder(0x2B, 64), _placeholder(0x2C, 256)
CIPHERTEXT, KEM_CIPHERTEXT = _placeholder(0x2D, 32), _placeholder(0x2E, 64)
WRAPPED, WRAPPED_PADDED, POINT = (_placeholder(number, 48) for number in (0x2F, 0x30, 0x31))

IV: Final = bytes(16)
TOKEN: Final = [int(Cka.TOKEN), TRUE]
AES_KEY: Final = [[int(Cka.CLASS), ulong(Cko.SECRET_KEY)], [int(Cka.KEY_TYPE), ulong(Ckk.AES)]]
AES_256: Final = [*AES_KEY, [int(Cka.VALUE_LEN), ulong(32)]]
GENERIC: Final = [
    [int(Cka.CLASS), ulong(Cko.SECRET_KEY)],
    [int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET)],
]
WRITE: Final = [FRESH, DEADLINE]
Seed = tuple[Operation, list[Any]]


# ------------------------------------------------------------------ requests


def seed_requests() -> dict[str, list[Any]]:
    """Return one request per operation and kind of reference, with placeholders."""
    arguments = {
        **_seeds_of_questions(),
        **_seeds_of_credentials(),
        **_seeds_of_objects(),
        **_seeds_of_generation(),
        **_seeds_of_use(),
        **_seeds_of_contexts(),
        **_seeds_of_moving_keys(),
        **_seeds_of_shared_keys(),
    }
    tickets = {"logout": PARTING_TICKET, "set-pin": KRSO_TICKET, "init-pin": KRSO_TICKET}
    requests = {
        name: [1, int(operation), tickets.get(name, TICKET), args]
        for name, (operation, args) in arguments.items()
    }
    requests["sign-position"] = [*requests["sign"], 1]
    forwarded = ("sign", "verify", "sign-recover", "verify-recover", "encrypt", "decrypt")
    return requests | {f"forward-{name}": _forward(requests[name]) for name in forwarded}


def _forward(request: list[Any]) -> list[Any]:
    return [1, int(Operation.FORWARD), None, [CLIENT, "127.0.0.1", Nested(request), PROCESS]]


def _seeds_of_questions() -> dict[str, Seed]:
    return {
        "hello": (Operation.HELLO, [PROCESS, "fuzzer"]),
        "hello-spreading": (Operation.HELLO, [PROCESS, "fuzzer", False]),
        "ping": (Operation.PING, []),
        "list": (Operation.LIST_TOKENS, [0, 10]),
        "info": (Operation.TOKEN_INFO, [KEYRING]),
        "mechanisms": (Operation.MECHANISMS, []),
        "members": (Operation.MEMBERS, []),
        "random": (Operation.RANDOM, [32]),
    }


def _seeds_of_credentials() -> dict[str, Seed]:
    changed = [CREDENTIALS, int(Role.KRSO), PASSWORD, PASSWORD, WRITE]
    return {
        "login": (Operation.LOGIN, [KEYRING, int(Role.KRCO), PASSWORD, FRESH]),
        "logout": (Operation.LOGOUT, []),
        "set-pin": (Operation.SET_PIN, changed),
        "init-pin": (Operation.INIT_PIN, [CREDENTIALS, PASSWORD, WRITE]),
        "init-token": (Operation.INIT_TOKEN, [CREDENTIALS, PASSWORD, LABEL, WRITE]),
    }


def _seeds_of_objects() -> dict[str, Seed]:
    changed = [[int(Cka.LABEL), b"changed"]]
    aes = [list(item) for item in aes_template(token=True, value=bytes(32))]
    return {
        "find": (Operation.FIND, [KEYRING, [[int(Cka.LABEL), b"ec"]], 10]),
        "get": (Operation.GET_ATTRIBUTES, [KEYRING, PRIVATE, [0, 1, 2, 3, 0x11, 0x180]]),
        "get-blob": (Operation.GET_ATTRIBUTES, [KEYRING, PRIVATE_BLOB, [0, 1, 2, 3, 0x11]]),
        "set": (Operation.SET_ATTRIBUTES, [KEYRING, CHANGING, changed, WRITE]),
        "set-blob": (Operation.SET_ATTRIBUTES, [KEYRING, PUBLIC_BLOB, changed, None]),
        "create": (Operation.CREATE_OBJECT, [KEYRING, aes, WRITE]),
        "copy": (Operation.COPY_OBJECT, [KEYRING, PUBLIC, changed, WRITE]),
        "copy-blob": (Operation.COPY_OBJECT, [KEYRING, PRIVATE_BLOB, changed, None]),
        "destroy": (Operation.DESTROY_OBJECT, [KEYRING, DOOMED, WRITE]),
        "size": (Operation.OBJECT_SIZE, [KEYRING, PUBLIC]),
        "key-info": (Operation.KEY_INFO, [KEYRING, PRIVATE]),
    }


def _seeds_of_generation() -> dict[str, Seed]:
    pair = [list(map(list, template)) for template in ec_pair(token=True)]
    aes = [[int(Cka.VALUE_LEN), ulong(32)]]
    rsa = [[int(Cka.MODULUS_BITS), ulong(2048)]]
    generate, generate_pair = Operation.GENERATE_KEY, Operation.GENERATE_KEY_PAIR
    return {
        "generate": (generate, [KEYRING, int(Ckm.AES_KEY_GEN), None, aes, None]),
        "generate-pair": (
            generate_pair,
            [KEYRING, int(Ckm.EC_KEY_PAIR_GEN), None, *pair, WRITE],
        ),
        "generate-rsa": (
            generate_pair,
            [KEYRING, int(Ckm.RSA_PKCS_KEY_PAIR_GEN), None, rsa, [], None],
        ),
    }


def _seeds_of_use() -> dict[str, Seed]:
    ecdsa, rsa, cbc = int(Ckm.ECDSA_SHA256), int(Ckm.RSA_PKCS), int(Ckm.AES_CBC_PAD)
    gcm, counter = [bytes(12), b"context", 128], [32, bytes(16)]
    return {
        "sign": (Operation.SIGN, [KEYRING, PRIVATE, ecdsa, None, b"data", False]),
        "sign-blob": (Operation.SIGN, [KEYRING, PRIVATE_BLOB, ecdsa, None, b"data", False]),
        "verify": (Operation.VERIFY, [KEYRING, PUBLIC, ecdsa, None, b"data", SIGNATURE, False]),
        "sign-recover": (Operation.SIGN_RECOVER, [KEYRING, RSA_PRIVATE, rsa, None, b"data", False]),
        "verify-recover": (
            Operation.VERIFY_RECOVER,
            [KEYRING, RSA_PUBLIC, rsa, None, RECOVERABLE, False],
        ),
        "encrypt": (Operation.ENCRYPT, [KEYRING, SECRET, int(Ckm.AES_GCM), gcm, b"data"]),
        "decrypt": (Operation.DECRYPT, [KEYRING, SECRET, cbc, IV, CIPHERTEXT]),
        "counter": (Operation.ENCRYPT, [KEYRING, SECRET, int(Ckm.AES_CTR), counter, b"d"]),
    }


def _seeds_of_contexts() -> dict[str, Seed]:
    sign, kind = int(Operation.SIGN), int(Ckm.ECDSA_SHA256)
    return {
        "context-login": (Operation.CONTEXT_LOGIN, [KEYRING, GUARDED, sign, PASSWORD, FRESH]),
        "use-in-context": (
            Operation.USE_IN_CONTEXT,
            [KEYRING, GUARDED, sign, CONTEXT, kind, None, b"data", False],
        ),
    }


def _seeds_of_moving_keys() -> dict[str, Seed]:
    padded, plain = int(Ckm.AES_CBC_PAD), int(Ckm.AES_KEY_WRAP)
    return {
        "wrap": (Operation.WRAP_KEY, [KEYRING, WRAPPING, padded, IV, LEAVING]),
        "unwrap": (
            Operation.UNWRAP_KEY,
            [KEYRING, WRAPPING, plain, None, WRAPPED, AES_KEY, None],
        ),
        "unwrap-token": (
            Operation.UNWRAP_KEY,
            [KEYRING, WRAPPING, padded, IV, WRAPPED_PADDED, [*AES_KEY, TOKEN], WRITE],
        ),
    }


def _seeds_of_shared_keys() -> dict[str, Seed]:
    joined, agreed, kem = map(int, (Ckm.CONCATENATE_BASE_AND_KEY, Ckm.ECDH1_DERIVE, Ckm.ML_KEM))
    kept = [*AES_256, TOKEN]
    return {
        "derive": (Operation.DERIVE_KEY, [KEYRING, BASE, joined, BASE, AES_256, None]),
        "derive-token": (
            Operation.DERIVE_KEY,
            [KEYRING, AGREEING, agreed, [1, b"", POINT], kept, WRITE],
        ),
        "encapsulate": (
            Operation.ENCAPSULATE_KEY,
            [KEYRING, KEM_PUBLIC, kem, None, AES_256, None],
        ),
        "decapsulate-token": (
            Operation.DECAPSULATE_KEY,
            [KEYRING, KEM_PRIVATE, kem, None, KEM_CIPHERTEXT, kept, WRITE],
        ),
    }


def write_seeds() -> None:
    """Write the seeds as files."""
    SEEDS.mkdir(exist_ok=True)
    for name, parts in seed_requests().items():
        (SEEDS / f"{name}.bin").write_bytes(frame(encoded(parts)))


def stored_seeds() -> dict[str, list[Any]]:
    """Read the seeds from their files; the request inside a FORWARD is decoded as well."""
    seeds = {}
    for path in sorted(SEEDS.glob("*.bin")):
        parts = msgspec.msgpack.decode(path.read_bytes()[4:])
        if door_of(parts) is Door.MEMBER:
            parts[3][2] = Nested(msgspec.msgpack.decode(parts[3][2]))
        seeds[path.stem] = parts
    return seeds


# ------------------------------------------------------------------ what they name


class LiveValues:
    """A tenant, and what stands for each placeholder at present."""

    def __init__(self, tenant: Tenant, process_id: bytes) -> None:
        self.tenant = tenant
        self.process_id = process_id
        self._values: dict[Any, Any] = {}

    @classmethod
    async def make(cls, bench: WorkerBench) -> LiveValues:
        """Make a tenant with all keys that the seeds name."""
        tenant = await make_tenant(bench, logged_in=False)
        process_id = os.urandom(16)
        await tenant.client.close()
        # Public session objects belong to a process, and the fuzzer speaks as this one.
        tenant.client = await bench.connect(tenant.identity, process_id=process_id)
        await tenant.login()
        made = cls(tenant, process_id)
        await made._make_keys()
        await made._make_outcomes()
        await made.renew()
        return made

    def put_into(self, value: Any, fresh: bytes) -> Any:
        """Return a seed with all placeholders replaced, FRESH by `fresh`."""
        if isinstance(value, list):
            return [self.put_into(item, fresh) for item in value]
        if isinstance(value, Nested):
            return Nested(self.put_into(value.value, fresh))
        if value == FRESH:
            return fresh
        return self._values.get(value, value) if isinstance(value, bytes | int | str) else value

    async def renew(self) -> bool:
        """Make again what requests use up; return whether the tenant is still good for more."""
        self._values[DEADLINE] = self.tenant.bench.deadline(DEADLINE_SECONDS)
        self._values[LABEL] = f"label {os.urandom(6).hex()}"
        parting = await self._log_in(self.tenant.keyring, Role.KRCO)
        if parting is None:
            return False
        self._values[PARTING_TICKET] = parting
        self._values[KRSO_TICKET] = await self._krso_ticket()
        doomed = await self._ask(Operation.GENERATE_KEY, _generation(*TOKEN_AES))
        context = await self._ask(*self._seed("context-login"))
        if doomed is None or context is None:
            return False
        self._values |= {DOOMED: doomed[0], CONTEXT: context}
        return True

    async def _ask(self, operation: int, arguments: list[Any]) -> Any:
        """Return the result, None where it is refused: the login has ended, the keyring is full."""
        reply = await self.tenant.client.call(operation, self._live(arguments))
        return reply.result if reply.value == CKR_OK else None

    async def _krso_ticket(self) -> bytes:
        """Return a ticket of the KRSO whose keyring may be spoilt; spoilt, it is replaced."""
        ticket = None
        if CREDENTIALS in self._values:
            ticket = await self._log_in(self._values[CREDENTIALS], Role.KRSO)
        if ticket is None:
            client = await self.tenant.another(role=None)
            self._values[CREDENTIALS] = await make_keyring(self.tenant.bench, client)
            await client.close()
            ticket = await self._log_in(self._values[CREDENTIALS], Role.KRSO)
        assert ticket is not None
        return ticket

    async def _log_in(self, keyring: bytes, role: Role) -> bytes | None:
        """Return a new ticket, or None where the password is another one or locked by now."""
        arguments = [keyring, int(role), PASSWORD, os.urandom(16)]
        async with asyncio.timeout(LOGIN_SECONDS):
            while True:
                reply = await self.tenant.client.send(Operation.LOGIN, arguments)
                if reply.value != BUSY:
                    return reply.ticket if reply.value == CKR_OK else None

    async def _make_keys(self) -> None:
        tenant, pair = self.tenant, Operation.GENERATE_KEY_PAIR
        assert tenant.client.ticket is not None
        point = ec.generate_private_key(ec.SECP256R1()).public_key()
        uncompressed = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        values = self._values
        values |= {
            CLIENT: bytes(tenant.identity.client_id),
            PROCESS: self.process_id,
            KEYRING: tenant.keyring,
            TICKET: tenant.client.ticket,
            SECRET: await tenant.aes_key(),
            CHANGING: await tenant.aes_key(label=b"changing"),
            POINT: uncompressed,
        }
        values[PUBLIC], values[PRIVATE] = await tenant.ec_key()
        values[PUBLIC_BLOB], values[PRIVATE_BLOB] = await tenant.ec_key(token=False)
        aes, key = Operation.GENERATE_KEY, Operation.CREATE_OBJECT
        wrapping = [TOKEN, *_flags(Cka.WRAP, Cka.UNWRAP), [int(Cka.VALUE_LEN), ulong(32)]]
        values[WRAPPING] = await self._made(aes, _generation(*wrapping))
        leaving = [*_flags(Cka.EXTRACTABLE), [int(Cka.VALUE_LEN), ulong(32)]]
        values[LEAVING] = await self._made(aes, _generation(*leaving, write=None))
        base = [*GENERIC, *_flags(Cka.DERIVE), [int(Cka.VALUE), bytes(16)]]
        values[BASE] = await self._made(key, [KEYRING, [*base, TOKEN], WRITE])
        for public, private, mechanism, halves in (
            (AGREED, AGREEING, Ckm.EC_KEY_PAIR_GEN, _ec_halves(Cka.DERIVE)),
            (
                GUARDED_PUBLIC,
                GUARDED,
                Ckm.EC_KEY_PAIR_GEN,
                _ec_halves(Cka.SIGN, Cka.ALWAYS_AUTHENTICATE),
            ),
            (RSA_PUBLIC, RSA_PRIVATE, Ckm.RSA_PKCS_KEY_PAIR_GEN, RSA_HALVES),
            (KEM_PUBLIC, KEM_PRIVATE, Ckm.ML_KEM_KEY_PAIR_GEN, KEM_HALVES),
        ):
            args = self._live([KEYRING, int(mechanism), None, *halves, WRITE])
            made = await tenant.client.ok(pair, args)
            values[public], values[private] = made[0][0], made[1][0]

    async def _make_outcomes(self) -> None:
        """Make what earlier operations would have left: signatures, ciphertexts, wrapped keys."""

        async def ask(operation: int, args: list[Any]) -> Any:
            return await self.tenant.client.ok(operation, self._live(args))

        cbc, plain = int(Ckm.AES_CBC_PAD), int(Ckm.AES_KEY_WRAP)
        values = self._values
        values[SIGNATURE] = await ask(*self._seed("sign"))
        values[RECOVERABLE] = await ask(*self._seed("sign-recover"))
        values[WRAPPED_PADDED] = await ask(*self._seed("wrap"))
        wrap = [KEYRING, WRAPPING, plain, None, LEAVING]
        values[WRAPPED] = await ask(Operation.WRAP_KEY, wrap)
        encrypt = [KEYRING, SECRET, cbc, IV, b"data"]
        values[CIPHERTEXT] = await ask(Operation.ENCRYPT, encrypt)
        values[KEM_CIPHERTEXT], _ = await ask(*self._seed("encapsulate"))

    @staticmethod
    def _seed(name: str) -> tuple[int, Any]:
        _, operation, _, args = seed_requests()[name]
        return operation, args

    def _live(self, args: list[Any]) -> Any:
        self._values[DEADLINE] = self.tenant.bench.deadline(DEADLINE_SECONDS)
        return self.put_into(args, os.urandom(16))

    async def _made(self, operation: Operation, args: list[Any]) -> bytes:
        made: list[bytes] = await self.tenant.client.ok(operation, self._live(args))
        return made[0]


def _flags(*attributes: Cka) -> list[list[Any]]:
    return [[int(attribute), TRUE] for attribute in attributes]


TOKEN_AES: Final = [TOKEN, [int(Cka.VALUE_LEN), ulong(32)]]
RSA_HALVES: Final = (
    [[int(Cka.MODULUS_BITS), ulong(2048)], TOKEN, *_flags(Cka.VERIFY_RECOVER)],
    [TOKEN, *_flags(Cka.SIGN_RECOVER)],
)
KEM_HALVES: Final = ([[int(Cka.PARAMETER_SET), ulong(2)], TOKEN], [TOKEN])


def _generation(*template: list[Any], write: list[Any] | None = WRITE) -> list[Any]:
    return [KEYRING, int(Ckm.AES_KEY_GEN), None, list(template), write]


def _ec_halves(*permitted: Cka) -> tuple[list[list[Any]], list[list[Any]]]:
    public, _ = ec_pair(token=True)
    return [list(item) for item in public], [TOKEN, *_flags(*permitted)]


GUARDED_HALVES: Final = _ec_halves(Cka.SIGN, Cka.ALWAYS_AUTHENTICATE)
