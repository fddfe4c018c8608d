"""The client protocol: frames, operations and message shapes, as docs/protocol.md prints them.

Both ends decode within bounds: a frame's length is checked before anything is read into memory
and every message has a fixed shape, so nothing is allocated that the frame does not hold.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 1
FRAME_HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1 << 20
MAX_DATA_BYTES: Final = (1 << 20) - 4096
MAX_TEMPLATE_ATTRIBUTES: Final = 64
MAX_ATTRIBUTE_BYTES: Final = 1 << 16
MAX_PASSWORD_BYTES: Final = 255
MAX_FIND_RESULTS: Final = 16384
MAX_TOLD_OBJECTS: Final = 64
MAX_TOLD_BYTES: Final = 1 << 18
MAX_TOLD_OBJECT_BYTES: Final = 1 << 14
OBJECT_ID_BYTES: Final = 16
BUSY: Final = 0xC0000001
"""Wire-only return value: nothing was done, try again after a pause."""
BEHIND: Final = 0xC0000002
"""Wire-only return value: this member lacks changes the client has seen; nothing was done."""


class Operation(enum.IntEnum):
    """Numbers of the operations a client may ask for."""

    HELLO = 0
    PING = 1
    LIST_TOKENS = 2
    TOKEN_INFO = 3
    MECHANISMS = 4
    MEMBERS = 5
    LOGIN = 10
    LOGOUT = 11
    SET_PIN = 12
    INIT_PIN = 13
    INIT_TOKEN = 14
    FIND = 20
    GET_ATTRIBUTES = 21
    SET_ATTRIBUTES = 22
    CREATE_OBJECT = 23
    COPY_OBJECT = 24
    DESTROY_OBJECT = 25
    OBJECT_SIZE = 26
    KEY_INFO = 27
    GENERATE_KEY = 30
    GENERATE_KEY_PAIR = 31
    WRAP_KEY = 32
    UNWRAP_KEY = 33
    DERIVE_KEY = 34
    SIGN_RECOVER = 35
    VERIFY_RECOVER = 36
    CONTEXT_LOGIN = 37
    USE_IN_CONTEXT = 38
    SIGN = 40
    VERIFY = 41
    ENCRYPT = 42
    DECRYPT = 43
    ENCAPSULATE_KEY = 44
    DECAPSULATE_KEY = 45
    RANDOM = 50
    FORWARD = 60


class Role(enum.IntEnum):
    """Roles of a keyring, numbered as CKU_SO and CKU_USER."""

    KRSO = 0
    KRCO = 1


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of everything on the wire: a msgpack array in the order of the fields.

    A repr names the fields only, since some are passwords.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


Attribute = tuple[int, bytes]
Template = list[Attribute]
"""Attributes as (type, value); CK_ULONG values are 8 bytes little endian, CK_BBOOL one byte."""


class Request(Message, frozen=True):
    """What a client sends: `args` has the shape that `operation` names."""

    request_id: int
    operation: int
    ticket: bytes | None
    args: msgspec.Raw
    min_position: int | None = None
    """The least log position that the member must have, else it answers BEHIND."""


class Response(Message, frozen=True):
    """What a worker answers: `value` is a CK_RV; `ticket` replaces the caller's, if present."""

    request_id: int
    value: int
    result: object = None
    ticket: bytes | None = None


class ResponseWithState(Response, frozen=True):
    """An answer that tells, in a fifth element, what has changed since the last one told.

    A type of its own, so that all the other answers carry nothing for it.
    """

    state: msgspec.Raw = msgspec.Raw(b"\xc0")


class MemberState(Message, frozen=True):
    """The fifth element of an answer: what this member is at."""

    epoch_number: int
    promoting_member: str
    log_position: int
    members_version: int
    read_write: bool


class Greeting(Message, frozen=True):
    """First frame of a connection, sent by the worker with request id 0."""

    request_id: int
    magic: str
    protocol_version: int
    worker_index: int
    worker_count: int
    cluster_id: str
    member_id: str
    cluster_time_ms: int
    authorized: bool


class Write(Message, frozen=True):
    """What every change of token objects or credentials carries."""

    idempotency_key: bytes
    deadline_ms: int
    """Cluster time after which the request must no longer be carried out."""


class Hello(Message, frozen=True):
    """First request of a connection."""

    process_id: bytes
    software: str
    direct: bool = True
    """False: spread my requests over the members for me, I talk to this one only."""


class Standing(enum.IntEnum):
    """What a member is good for at present."""

    READ_WRITE = 0
    READ_ONLY = 1
    NOT_VISIBLE = 2
    NOT_AUTHORIZED = 3


class Member(Message, frozen=True):
    """One member as MEMBERS lists it."""

    member_id: str
    address: str
    crypto_port: int
    group: str
    key_sha256: bytes
    """Of its public key, SubjectPublicKeyInfo."""
    state: int
    """A `Standing`."""


class MemberList(Message, frozen=True):
    """Result of MEMBERS; the version is that of the answers' fifth element."""

    version: int
    members: list[Member]
    local_group: str


class Empty(Message, frozen=True):
    """Arguments of an operation that takes none."""


class ListTokens(Message, frozen=True):
    """Ask for the keyrings with a slot number of at least `first_slot`."""

    first_slot: int
    limit: int


class Token(Message, frozen=True):
    """One keyring as a PKCS#11 token; `flags` are CK_TOKEN_INFO's."""

    slot: int
    keyring_id: bytes
    label: str
    serial: str
    flags: int
    min_pin_bytes: int
    max_pin_bytes: int


class TokenInfo(Message, frozen=True):
    """Ask for one keyring."""

    keyring_id: bytes


class TokenDetails(Message, frozen=True):
    """One keyring with its counts; `max_objects` 0 means no limit."""

    token: Token
    object_count: int
    max_objects: int
    dual_identity: bool
    failed_attempts: int


class MechanismInfo(Message, frozen=True):
    """One mechanism as C_GetMechanismInfo reports it."""

    mechanism: int
    min_key_size: int
    max_key_size: int
    flags: int


class Login(Message, frozen=True):
    """Check a password; the answer carries the ticket."""

    keyring_id: bytes
    role: int
    password: bytes
    attempt_id: bytes


class SetPin(Message, frozen=True):
    """Change the password of `role`, proving the old one; the answer carries a new ticket."""

    keyring_id: bytes
    role: int
    old_password: bytes
    new_password: bytes
    write: Write


class InitPin(Message, frozen=True):
    """Initialise the KRCO under the KRSO's ticket; the answer carries a new ticket."""

    keyring_id: bytes
    new_password: bytes
    write: Write


class InitToken(Message, frozen=True):
    """Destroy a keyring's objects and KRCO, proving the KRSO's password, and relabel it."""

    keyring_id: bytes
    password: bytes
    label: str
    write: Write


class Find(Message, frozen=True):
    """Ask for the ids of the token objects that match every attribute of `template`.

    With `told` ask instead for the attributes of these objects.
    """

    keyring_id: bytes
    template: Template
    limit: int
    told: list[bytes] = []


class GetAttributes(Message, frozen=True):
    """Ask for attributes of an object."""

    keyring_id: bytes
    reference: bytes
    types: list[int]


class ChangeObject(Message, frozen=True):
    """Arguments of SET_ATTRIBUTES and COPY_OBJECT."""

    keyring_id: bytes
    reference: bytes
    template: Template
    write: Write | None


class CreateObject(Message, frozen=True):
    """Arguments of CREATE_OBJECT; `write` is needed when the object is a token object."""

    keyring_id: bytes
    template: Template
    write: Write | None


class DestroyObject(Message, frozen=True):
    """Arguments of DESTROY_OBJECT (token objects; session objects die in the client)."""

    keyring_id: bytes
    reference: bytes
    write: Write


class ObjectReference(Message, frozen=True):
    """Arguments of OBJECT_SIZE and KEY_INFO."""

    keyring_id: bytes
    reference: bytes


class KeyInfo(Message, frozen=True):
    """What a module needs to know before it starts an operation."""

    object_class: int
    key_type: int
    size_bits: int
    usage: int
    """CKF_ENCRYPT, CKF_DECRYPT, CKF_SIGN, ... of CK_MECHANISM_INFO that the key permits."""
    private: bool
    always_authenticate: bool
    refusals: list[tuple[int, int, int]] = []
    """Mechanism, CKF bits, CK_RV: what `usage` permits and is refused all the same."""


class GenerateKey(Message, frozen=True):
    """Arguments of GENERATE_KEY."""

    keyring_id: bytes
    mechanism: int
    parameter: msgspec.Raw
    template: Template
    write: Write | None


class GenerateKeyPair(Message, frozen=True):
    """Arguments of GENERATE_KEY_PAIR; `write` is needed when either key is a token object."""

    keyring_id: bytes
    mechanism: int
    parameter: msgspec.Raw
    public_template: Template
    private_template: Template
    write: Write | None


class WrapKey(Message, frozen=True):
    """Arguments of WRAP_KEY: the key named by `key` leaves under the one named by `reference`."""

    keyring_id: bytes
    reference: bytes
    mechanism: int
    parameter: msgspec.Raw
    key: bytes


class UnwrapKey(Message, frozen=True):
    """Arguments of UNWRAP_KEY; `write` is needed when the new key is a token object."""

    keyring_id: bytes
    reference: bytes
    mechanism: int
    parameter: msgspec.Raw
    wrapped: bytes
    template: Template
    write: Write | None


class DeriveKey(Message, frozen=True):
    """Arguments of DERIVE_KEY; `write` is needed when the new key is a token object."""

    keyring_id: bytes
    reference: bytes
    mechanism: int
    parameter: msgspec.Raw
    template: Template
    write: Write | None


class EncapsulateKey(DeriveKey, frozen=True):
    """Arguments of ENCAPSULATE_KEY: a public key, and what its shared secret becomes."""


class DecapsulateKey(UnwrapKey, frozen=True):
    """Arguments of DECAPSULATE_KEY: a private key, a ciphertext, and what its secret becomes."""


class ObjectResult(Message, frozen=True):
    """A new or changed object: its reference and, for a session object, what may be read of it."""

    reference: bytes
    private: bool
    attributes: Template


class UseKey(Message, frozen=True):
    """Arguments of all uses of a key but VERIFY; `prehashed` means `data` is the digest already."""

    keyring_id: bytes
    reference: bytes
    mechanism: int
    parameter: msgspec.Raw
    data: bytes
    prehashed: bool = False


class ContextLogin(Message, frozen=True):
    """Prove the password for one use of a key; `operation` is SIGN, SIGN_RECOVER or DECRYPT."""

    keyring_id: bytes
    reference: bytes
    operation: int
    password: bytes
    attempt_id: bytes


class UseInContext(Message, frozen=True):
    """Arguments of USE_IN_CONTEXT: the use that a context login has proven."""

    keyring_id: bytes
    reference: bytes
    operation: int
    context: bytes
    """The context ticket."""
    mechanism: int
    parameter: msgspec.Raw
    data: bytes
    prehashed: bool = False


class VerifySignature(Message, frozen=True):
    """Arguments of VERIFY."""

    keyring_id: bytes
    reference: bytes
    mechanism: int
    parameter: msgspec.Raw
    data: bytes
    signature: bytes
    prehashed: bool = False


class Random(Message, frozen=True):
    """Ask for random bytes."""

    length: int


class Forward(Message, frozen=True):
    """A client's request, handed on by the worker of another member."""

    client_id: bytes
    source: str
    request: bytes
    """The body of the client's frame."""
    process_id: bytes


class PssParameter(Message, frozen=True):
    """CK_RSA_PKCS_PSS_PARAMS: hash mechanism, MGF, salt length in bytes."""

    hash_mechanism: int
    mask_generation: int
    salt_bytes: int


class OaepParameter(Message, frozen=True):
    """CK_RSA_PKCS_OAEP_PARAMS: hash mechanism, MGF, label."""

    hash_mechanism: int
    mask_generation: int
    label: bytes


class RsaAesParameter(Message, frozen=True):
    """CK_RSA_AES_KEY_WRAP_PARAMS: bits of the passing AES key, and an `OaepParameter`."""

    aes_bits: int
    oaep: msgspec.Raw


class EcdhParameter(Message, frozen=True):
    """CK_ECDH1_DERIVE_PARAMS: key derivation function, shared data, the other's point."""

    kdf: int
    shared_data: bytes
    public_data: bytes


class HkdfParameter(Message, frozen=True):
    """CK_HKDF_PARAMS; `salt` is empty, the salt, or the reference of a key, as its type says."""

    extract: bool
    expand: bool
    hash_mechanism: int
    salt_type: int
    info: bytes
    salt: bytes


class Pbkdf2Parameter(Message, frozen=True):
    """CK_PKCS5_PBKD2_PARAMS2: PRF, iterations, salt, password."""

    prf: int
    iterations: int
    salt: bytes
    password: bytes


class CounterKdfPart(Message, frozen=True):
    """CK_PRF_DATA_PARAM: of its last four, those count that its kind has."""

    kind: int
    octets: bytes
    width_bits: int
    little_endian: bool
    method: int


class CounterKdfParameter(Message, frozen=True):
    """CK_SP800_108_KDF_PARAMS: PRF, and the parts of its input in their order."""

    prf: int
    parts: list[CounterKdfPart]


class FeedbackKdfParameter(Message, frozen=True):
    """CK_SP800_108_FEEDBACK_KDF_PARAMS: PRF, the parts of its input, the initial value."""

    prf: int
    parts: list[CounterKdfPart]
    vector: bytes


class GcmParameter(Message, frozen=True):
    """CK_GCM_PARAMS: nonce, additional data, tag length in bits."""

    nonce: bytes
    additional_data: bytes
    tag_bits: int


class CcmParameter(Message, frozen=True):
    """CK_CCM_PARAMS: length of the data without the MAC, nonce, additional data, MAC length."""

    data_bytes: int
    nonce: bytes
    additional_data: bytes
    tag_bytes: int


class ChaChaParameter(Message, frozen=True):
    """CK_SALSA20_CHACHA20_POLY1305_PARAMS: nonce, additional data."""

    nonce: bytes
    additional_data: bytes


class SignContextParameter(Message, frozen=True):
    """CK_SIGN_ADDITIONAL_CONTEXT: hedge variant, context."""

    hedge: int
    context: bytes


class CtrParameter(Message, frozen=True):
    """CK_AES_CTR_PARAMS: how many bits count, and the counter block."""

    counter_bits: int
    counter_block: bytes
