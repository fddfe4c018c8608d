"""Keys of files on their way into a keyring: wrapped under a fresh key of it, or created in clear.

Wrapped, the key's bytes leave this process only under RSA-OAEP and AES key wrap with padding, and
the private half of the wrapping key is made in the keyring, is a session object there, and ends
with this process.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from conclave.client.cmu import keys
from conclave.client.cmu.attributes import given, key_type_named
from conclave.client.public_keys import PublicKeyOfPair
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.signing_keys import public_key_of
from conclave.client.templates import Value, encode, template
from conclave.crypto.private_key_info import read_private_key
from conclave.crypto.standard import Cka, Ckg, Ckk, Ckm, Cko
from conclave.errors import ConclaveError
from conclave.keyring.attributes import SCHEMAS
from conclave.service import wire

FORMATS: Final = ("pkcs8", "raw", "hex", "base64")
WRAPPING_BITS: Final = 3072
PASSING_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key that was read: its type, its material as attributes, its form when it is wrapped."""

    object_class: Cko
    kind: Ckk
    plain: bytes
    material: Mapping[int, bytes]
    public: PublicKeyOfPair | None

    def __repr__(self) -> str:
        return f"KeyFile({self.kind.name})"


def is_encrypted(content: bytes) -> bool:
    """Tell whether a private key's file asks for a password."""
    if b"-----BEGIN" in content:
        return b"ENCRYPTED" in content
    try:
        load_der_private_key(content, None)
    except TypeError:
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return False


def read_private_key_file(content: bytes, password: bytes | None) -> KeyFile:
    """Return the private key of a PEM or DER file; raise BadInput, which quotes nothing of it."""
    load = load_pem_private_key if b"-----BEGIN" in content else load_der_private_key
    try:
        key = load(content, password)
    except TypeError:
        raise misused("The file asks for a password, or for none: -filepasswordenv.") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "" if password is None else ", or the file's password is wrong"
        message = f"The file holds no private key that can be read{hint}; PKCS #8 is best."
        raise misused(message) from None
    try:
        plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        material = read_private_key(plain)
    except (ValueError, UnsupportedAlgorithm, ConclaveError):
        raise misused("Private keys of this type or curve are not supported.") from None
    public = key.public_key()
    kind = Ckk(int.from_bytes(material[Cka.KEY_TYPE], "little"))
    known = public if isinstance(public, PublicKeyOfPair) else None
    return KeyFile(Cko.PRIVATE_KEY, kind, plain, material, known)


def read_secret_key_file(content: bytes, form: str, key_type: str) -> KeyFile:
    """Return the secret key of a file of raw bytes, hexadecimal digits or base64."""
    kind = key_type_named(key_type)
    if (Cko.SECRET_KEY, kind) not in SCHEMAS:
        raise misused("Option -keyType names no secret key; private keys are read with pkcs8.")
    try:
        if form == "hex":
            value = bytes.fromhex(content.decode("ascii"))
        else:
            value = base64.b64decode(content.strip(), validate=True) if form != "raw" else content
    except (ValueError, binascii.Error):
        raise misused(f"The file does not hold a key as {form}.") from None
    if not value:
        raise misused("The file is empty.")
    return KeyFile(Cko.SECRET_KEY, kind, value, {Cka.VALUE: value}, None)


def key_template(key: KeyFile, values: Mapping[str, str], identifier: bytes) -> dict[int, Value]:
    """Return what the stored key has beside its material: sensitive and not extractable."""
    return {
        Cka.CLASS: key.object_class,
        Cka.KEY_TYPE: key.kind,
        Cka.TOKEN: True,
        Cka.LABEL: values.get("label", ""),
        Cka.ID: identifier,
        Cka.SENSITIVE: True,
        Cka.EXTRACTABLE: False,
        **given(values, "modifiable", "startDate", "endDate"),
        **given(values, "private", "sensitive", "extractable"),
        **keys.uses(values, key.object_class, key.kind),
    }


def store_in_clear(session: KeyringSession, key: KeyFile, wanted: Mapping[int, Value]) -> bytes:
    """Create the key of its material, which the worker sees as C_CreateObject gives it."""
    whole = {**{number: encode(value) for number, value in wanted.items()}, **key.material}
    return session.create_object(template(whole)).reference


def store_wrapped(session: KeyringSession, key: KeyFile, wanted: Mapping[int, Value]) -> bytes:
    """Wrap the key for a fresh key of the keyring, and let the keyring unwrap it."""
    apart: dict[int, Value] = {Cka.TOKEN: False}
    public, private = session.generate_key_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        template(
            {
                **apart,
                Cka.MODULUS_BITS: WRAPPING_BITS,
                Cka.PUBLIC_EXPONENT: b"\1\0\1",
                Cka.WRAP: True,
            }
        ),
        template({**apart, Cka.UNWRAP: True, Cka.DECRYPT: False, Cka.SIGN: False}),
    )
    receiver = public_key_of(session, public.reference)
    if not isinstance(receiver, rsa.RSAPublicKey):
        raise misused("The keyring gave another key than it was asked for.")
    oaep = wire.OaepParameter(Ckm.SHA256, Ckg.MGF1_SHA256, b"")
    parameter = wire.RsaAesParameter(
        PASSING_KEY_BYTES * 8, msgspec.Raw(msgspec.msgpack.encode(oaep))
    )
    passing = os.urandom(PASSING_KEY_BYTES)
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = receiver.encrypt(passing, scheme) + aes_key_wrap_with_padding(passing, key.plain)
    return session.unwrap_key(
        private.reference,
        Ckm.RSA_AES_KEY_WRAP,
        wrapped,
        template(dict(wanted)),
        parameter=parameter,
    ).reference
