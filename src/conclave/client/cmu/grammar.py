"""The commands of cmu, `command -option=value ...`, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from conclave.client.cmu import extensions
from conclave.client.tools import grammar
from conclave.client.tools.grammar import (
    Command,
    Invocation,
    Option,
    credential,
    read_options,
)
from conclave.client.tools.grammar import text_option as _text
from conclave.client.tools.grammar import truth_option as _boolean

_SLOT: Final = _text("slot", "number", "the slot; needed when there are several")
_COMMON: Final = (_SLOT, *credential("password", "password", "the KRCO's password"))
_HANDLE: Final = _text("handle", "number", "the object, as list prints it")
_LABEL: Final = _text("label", "text", "the label")
_ID: Final = _text("id", "hex", "CKA_ID")
_OUTPUT: Final = _text("outputFile", "path", "the file to write, as PEM")
_INPUT: Final = _text("inputFile", "path", "the file to read")
_USES: Final = tuple(
    _boolean(name, f"CKA_{name.upper()}")
    for name in ("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive")
)
_KEPT: Final = (
    _boolean("private", "seen only after a login"),
    _boolean("sensitive", "never revealed"),
    _boolean("extractable", "may be wrapped"),
    _boolean("modifiable", "may be changed later"),
)
_DATES: Final = (
    _text("startDate", "YYYYMMDD", "the first day"),
    _text("endDate", "YYYYMMDD", "the last day"),
)
_SUBJECT: Final = (
    _text("C", "country", "two letters"),
    _text("S", "state", "state or province"),
    _text("L", "locality", "city"),
    _text("O", "organization", "organization"),
    _text("OU", "unit", "organizational unit"),
    _text("CN", "name", "common name"),
    _text("E", "address", "e-mail address"),
)
_EXTENSIONS: Final = (
    _text("san", "names", "subject alternative names: DNS:, IP:, email:, URI:, parted by commas"),
    _text("keyUsage", "names", ", ".join(extensions.USAGE_NAMES)),
    Option(
        "extendedKeyUsage",
        "eku",
        "names",
        f"{', '.join(extensions.PURPOSE_NAMES)}, or object identifiers",
    ),
    _boolean("ca", "a certificate authority"),
    _text("pathLength", "number", "how many authorities may be below this one"),
)
_SERIAL: Final = _text("serialNumber", "hex", "a random one by default")
_SIGNER: Final = (
    _text("privateHandle", "number", "the private key that signs"),
    _text("publicHandle", "number", "its public key; looked at only to see that it is"),
    _text("hash", "name", "sha256, sha384 or sha512; by default as strong as the key"),
)

COMMANDS: Final = (
    Command(
        ("generatekeypair",),
        ("gen",),
        "generate a key pair",
        (
            _text("keyType", "type", "RSA, ECDSA, EDDSA, X25519 or MLDSA"),
            _text("modulusBits", "number", "of an RSA key: 2048 to 4096"),
            _text("publicExponent", "number", "of an RSA key: 65537"),
            _text("curveType", "number", "2 to 5 for P-224 to P-521, or a curve's name"),
            _text("parameterSet", "number", "of an MLDSA key: 44, 65 (by default) or 87"),
            Option("keygenmech", "mech", "number", "of an RSA key: 1 (PKCS)"),
            _LABEL,
            _text("labelPublic", "text", "the public key's label"),
            _text("labelPrivate", "text", "the private key's label"),
            _ID,
            *_USES,
            *_KEPT,
            *_DATES,
            *_COMMON,
        ),
    ),
    Command(
        ("generatekey",),
        ("genkey",),
        "generate a secret key",
        (
            _text(
                "keyType", "type", "AES, AESXTS, CHACHA20, GENERIC, SHA256HMAC, SHA3-256HMAC, ..."
            ),
            _text("keyLength", "bytes", "16, 24 or 32 for AES"),
            _LABEL,
            _ID,
            *_USES,
            *_KEPT,
            *_DATES,
            *_COMMON,
        ),
    ),
    Command(
        ("list",),
        ("l",),
        "list objects",
        (
            _text("display", "names", "attributes to print, parted by commas"),
            _text("class", "name", "data, certificate, public, private or secret"),
            _text("keyType", "type", "as for generating"),
            _LABEL,
            _ID,
            *_USES,
            *_KEPT,
            *_COMMON,
        ),
    ),
    Command(
        ("getattribute",),
        ("get",),
        "print attributes of an object",
        (_HANDLE, _text("attributes", "names", "these only, parted by commas"), *_COMMON),
    ),
    Command(
        ("setattribute",),
        ("set",),
        "change attributes of an object",
        (
            _HANDLE,
            _LABEL,
            _ID,
            *_USES,
            _boolean("sensitive", "true only: it stays so"),
            _boolean("extractable", "false only: it stays so"),
            *_DATES,
            *_COMMON,
        ),
    ),
    Command(
        ("delete",),
        ("del",),
        "delete an object",
        (_HANDLE, Option("force", "f", None, "do not ask whether to proceed"), *_COMMON),
    ),
    Command(
        ("export",),
        ("exp",),
        "write a certificate or a public key to a file",
        (_HANDLE, _OUTPUT, *_COMMON),
    ),
    Command(
        ("import",),
        ("imp",),
        "store a certificate or a public key from a file",
        (_INPUT, _LABEL, _ID, *_COMMON),
    ),
    Command(
        ("importkey",),
        ("impkey",),
        "store a private or secret key from a file, wrapped under a fresh key of the keyring",
        (
            Option("inputFile", "in", "path", "the file to read"),
            _text("format", "form", "pkcs8 (PEM or DER; by default), raw, hex or base64"),
            Option("keyType", "keyalg", "type", "of a secret key: AES, GENERIC, SHA256HMAC, ..."),
            *credential("filepassword", "filepw", "the file's password"),
            _boolean("wrapped", "F: created in clear inside TLS; T by default"),
            _boolean("public", "F: do not store the public key as well"),
            _LABEL,
            _ID,
            *_USES,
            *_KEPT,
            *_DATES,
            *_COMMON,
        ),
    ),
    Command(
        ("requestcertificate",),
        ("req",),
        "write a certificate request, signed by a key of the keyring",
        (*_SIGNER, *_SUBJECT, *_EXTENSIONS, _OUTPUT, *_COMMON),
    ),
    Command(
        ("selfsigncertificate",),
        ("self",),
        "store a certificate that a key of the keyring signs for itself",
        (
            *_SIGNER,
            *_SUBJECT,
            *_EXTENSIONS,
            _SERIAL,
            *_DATES,
            _LABEL,
            _ID,
            _OUTPUT,
            *_COMMON,
        ),
    ),
    Command(
        ("certify",),
        ("cert",),
        "write a certificate for a request, signed by the key of a CA's certificate in the keyring",
        (
            _text("issuerHandle", "number", "the CA's certificate"),
            Option("inputFile", "in", "path", "the request to read, PEM or DER"),
            *_EXTENSIONS,
            _boolean("copySan", "F: leave the names out that the request asks for"),
            _SERIAL,
            *_DATES,
            _SIGNER[-1],
            _boolean("store", "store the certificate in the keyring as well"),
            _LABEL,
            _ID,
            _OUTPUT,
            *_COMMON,
        ),
    ),
    Command(
        ("verifyhsm",),
        ("verify",),
        "show that a keyring makes keys, keeps them and signs a challenge, over a proven link",
        (_text("challenge", "hex", "to be signed; 32 random bytes by default"), *_COMMON),
    ),
    Command(("help",), ("?",), "list the commands, or explain one"),
)


def parse(words: Sequence[str]) -> Invocation:
    """Return what the words ask for; raise BadInput naming what is not understood."""
    command = find_command(words[0])
    if command.name == "help":
        return Invocation(command, rest=tuple(words[1:]))
    return Invocation(command, read_options(command, words[1:]))


def find_command(word: str) -> Command:
    """Return the command of this name or short name; raise BadInput with the nearest one."""
    return grammar.find_command(COMMANDS, word, "cmu help lists all.")


def help_text(words: Sequence[str]) -> str:
    """Return the list of commands, or one command's options; raise BadInput for no command."""
    return grammar.command_help("cmu", COMMANDS, words)
