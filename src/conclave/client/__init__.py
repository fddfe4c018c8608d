"""The client: a library with two faces, registration, and the tools of a keyring's owner.

::

    with Client.from_environment() as client, client.keyring("demo1", pin) as keyring:
        key = keyring.private_key("demo-ec")
        signature = key.sign(b"data")

    async with AsyncClient.from_environment() as client, client.keyring("demo1", pin) as keyring:
        key = await keyring.private_key("demo-ec")
        signatures = await asyncio.gather(*(key.sign(text) for text in texts))
"""

from conclave.client.async_keyring import AsyncKeyPair, AsyncKeyring
from conclave.client.async_keys import (
    AsyncCertificate,
    AsyncKey,
    AsyncObject,
    AsyncPrivateKey,
    AsyncPublicKey,
    AsyncSecretKey,
)
from conclave.client.async_session import AsyncClient, AsyncKeyringSession
from conclave.client.key_kinds import PairName, SecretName
from conclave.client.keyring import KeyPair, Keyring
from conclave.client.keys import Certificate, Key, Object, PrivateKey, PublicKey, SecretKey
from conclave.client.module_path import module_path
from conclave.client.session import Client, KeyringSession
from conclave.client.templates import Attributes, Value, template
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import (
    BadInput,
    Ckr,
    ConclaveError,
    Conflict,
    CredentialRefused,
    LimitReached,
    NotAllowed,
    NotFound,
    Unavailable,
)
from conclave.service.wire import Role

__all__ = [
    "AsyncCertificate",
    "AsyncClient",
    "AsyncKey",
    "AsyncKeyPair",
    "AsyncKeyring",
    "AsyncKeyringSession",
    "AsyncObject",
    "AsyncPrivateKey",
    "AsyncPublicKey",
    "AsyncSecretKey",
    "Attributes",
    "BadInput",
    "Certificate",
    "Cka",
    "Ckk",
    "Ckm",
    "Cko",
    "Ckr",
    "Client",
    "ConclaveError",
    "Conflict",
    "CredentialRefused",
    "Key",
    "KeyPair",
    "Keyring",
    "KeyringSession",
    "LimitReached",
    "NotAllowed",
    "NotFound",
    "Object",
    "PairName",
    "PrivateKey",
    "PublicKey",
    "Role",
    "SecretKey",
    "SecretName",
    "Unavailable",
    "Value",
    "module_path",
    "template",
]
