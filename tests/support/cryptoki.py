"""A PKCS#11 module by ctypes: every argument as the test wants it, also those no binding passes."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr

SERIAL: Final = 0x4
READ_WRITE: Final = 0x2
SO: Final = 0
USER: Final = 1
UNAVAILABLE: Final = ctypes.c_ulong(-1).value

Template = Mapping[Cka, "bytes | int | Template"]


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = (
        ("type", ctypes.c_ulong),
        ("value", ctypes.c_void_p),
        ("length", ctypes.c_ulong),
    )


class Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("parameter", ctypes.c_void_p),
        ("length", ctypes.c_ulong),
    )


class SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_ = (
        ("slot", ctypes.c_ulong),
        ("state", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
        ("device_error", ctypes.c_ulong),
    )


class TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO."""

    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("manufacturer", ctypes.c_char * 32),
        ("model", ctypes.c_char * 16),
        ("serial", ctypes.c_char * 16),
        ("flags", ctypes.c_ulong),
        ("max_sessions", ctypes.c_ulong),
        ("sessions", ctypes.c_ulong),
        ("max_read_write_sessions", ctypes.c_ulong),
        ("read_write_sessions", ctypes.c_ulong),
        ("max_pin", ctypes.c_ulong),
        ("min_pin", ctypes.c_ulong),
        ("memory", ctypes.c_ulong * 4),
        ("hardware", ctypes.c_ubyte * 2),
        ("firmware", ctypes.c_ubyte * 2),
        ("time", ctypes.c_char * 16),
    )


class PssParameter(ctypes.Structure):
    """CK_RSA_PKCS_PSS_PARAMS."""

    _fields_ = (
        ("hash", ctypes.c_ulong),
        ("mask", ctypes.c_ulong),
        ("salt", ctypes.c_ulong),
    )


class OaepParameter(ctypes.Structure):
    """CK_RSA_PKCS_OAEP_PARAMS."""

    _fields_ = (
        ("hash", ctypes.c_ulong),
        ("mask", ctypes.c_ulong),
        ("source", ctypes.c_ulong),
        ("label", ctypes.c_char_p),
        ("label_length", ctypes.c_ulong),
    )


class GcmParameter(ctypes.Structure):
    """CK_GCM_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_char_p),
        ("nonce_length", ctypes.c_ulong),
        ("nonce_bits", ctypes.c_ulong),
        ("associated", ctypes.c_char_p),
        ("associated_length", ctypes.c_ulong),
        ("tag_bits", ctypes.c_ulong),
    )


class CounterParameter(ctypes.Structure):
    """CK_AES_CTR_PARAMS."""

    _fields_ = (("bits", ctypes.c_ulong), ("block", ctypes.c_ubyte * 16))


class HkdfParameter(ctypes.Structure):
    """CK_HKDF_PARAMS."""

    _fields_ = (
        ("extract", ctypes.c_ubyte),
        ("expand", ctypes.c_ubyte),
        ("hash", ctypes.c_ulong),
        ("salt_type", ctypes.c_ulong),
        ("salt", ctypes.c_char_p),
        ("salt_length", ctypes.c_ulong),
        ("salt_key", ctypes.c_ulong),
        ("info", ctypes.c_char_p),
        ("info_length", ctypes.c_ulong),
    )


class Refused(AssertionError):
    """A call that had to succeed did not."""

    def __init__(self, name: str, value: int) -> None:
        known = {int(one): one.name for one in Ckr}
        super().__init__(f"{name} gave {known.get(value, hex(value))}")
        self.value = value


def mechanism(kind: int, parameter: bytes | ctypes.Structure | None = None) -> Mechanism:
    """Build a CK_MECHANISM that keeps its parameter alive."""
    if parameter is None:
        return Mechanism(kind, None, 0)
    if isinstance(parameter, bytes):
        held: Any = ctypes.create_string_buffer(parameter, len(parameter))
    else:
        held = parameter
    built = Mechanism(kind, ctypes.addressof(held), ctypes.sizeof(held))
    built.held = held
    return built


def _in_memory(value: bytes | int) -> bytes:
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return value.to_bytes(ctypes.sizeof(ctypes.c_ulong), "little")
    return value


def attributes(template: Template) -> ctypes.Array[Attribute]:
    """Build a CK_ATTRIBUTE array that keeps its values alive."""
    array = (Attribute * len(template))()
    held: list[Any] = []
    for row, (kind, value) in zip(array, template.items(), strict=True):
        if isinstance(value, Mapping):
            inner = attributes(value)
            held.append(inner)
            row.type, row.value, row.length = kind, ctypes.addressof(inner), ctypes.sizeof(inner)
            continue
        raw = _in_memory(value)
        buffer = ctypes.create_string_buffer(raw, len(raw))
        held.append(buffer)
        row.type, row.value, row.length = kind, ctypes.addressof(buffer), len(raw)
    vars(array)["held"] = held
    return array


class Cryptoki:
    """The module, loaded from a copy of its own: its state is shared with nobody else's."""

    def __init__(self, module: str, directory: Path) -> None:
        copy = directory / Path(module).name
        shutil.copy(module, copy)
        self.path = str(copy)
        self._library = ctypes.CDLL(self.path)

    def value(self, name: str, *arguments: Any) -> int:
        """Call a function with whole numbers as CK_ULONG and return its CK_RV."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_ulong
        return int(function(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments)))

    def do(self, name: str, *arguments: Any) -> None:
        """Call a function that must succeed."""
        value = self.value(name, *arguments)
        if value != Ckr.OK:
            raise Refused(name, value)

    def slots(self) -> list[int]:
        """Return the slot ids."""
        count = ctypes.c_ulong()
        self.do("C_GetSlotList", 1, None, ctypes.byref(count))
        ids = (ctypes.c_ulong * count.value)()
        self.do("C_GetSlotList", 1, ids, ctypes.byref(count))
        return list(ids)[: count.value]

    def token(self, slot: int) -> TokenInfo:
        """Return CK_TOKEN_INFO."""
        info = TokenInfo()
        self.do("C_GetTokenInfo", slot, ctypes.byref(info))
        return info

    def mechanisms(self, slot: int) -> list[int]:
        """Return the mechanisms of a slot."""
        count = ctypes.c_ulong()
        self.do("C_GetMechanismList", slot, None, ctypes.byref(count))
        kinds = (ctypes.c_ulong * count.value)()
        self.do("C_GetMechanismList", slot, kinds, ctypes.byref(count))
        return list(kinds)

    def open(self, slot: int, flags: int = SERIAL | READ_WRITE) -> Session:
        """Open a session."""
        handle = ctypes.c_ulong()
        self.do("C_OpenSession", slot, flags, None, None, ctypes.byref(handle))
        return Session(self, handle.value)


class Session:
    """A session; methods raise `Refused`, `value` returns what a call gave."""

    def __init__(self, library: Cryptoki, handle: int) -> None:
        self.library = library
        self.handle = handle

    def value(self, name: str, *arguments: Any) -> int:
        """Call a function of this session and return its CK_RV."""
        return self.library.value(name, self.handle, *arguments)

    def do(self, name: str, *arguments: Any) -> None:
        """Call a function of this session that must succeed."""
        self.library.do(name, self.handle, *arguments)

    def state(self) -> int:
        """Return the session's CK_STATE."""
        info = SessionInfo()
        self.do("C_GetSessionInfo", ctypes.byref(info))
        return int(info.state)

    def login(self, pin: str, role: int = USER) -> int:
        """Log in and return the CK_RV."""
        return self.value("C_Login", role, pin.encode(), len(pin.encode()))

    def create(self, template: Template) -> int:
        """Create an object."""
        made = ctypes.c_ulong()
        self.do("C_CreateObject", attributes(template), len(template), ctypes.byref(made))
        return made.value

    def generate(self, kind: int, template: Template) -> int:
        """Generate a secret key."""
        made = ctypes.c_ulong()
        self.do(
            "C_GenerateKey",
            ctypes.byref(mechanism(kind)),
            attributes(template),
            len(template),
            ctypes.byref(made),
        )
        return made.value

    def generate_pair(
        self, kind: int, public: Template, private: Template | None = None
    ) -> tuple[int, int]:
        """Generate a key pair."""
        private = private or {}
        made = ctypes.c_ulong(), ctypes.c_ulong()
        self.do(
            "C_GenerateKeyPair",
            ctypes.byref(mechanism(kind)),
            attributes(public),
            len(public),
            attributes(private),
            len(private),
            ctypes.byref(made[0]),
            ctypes.byref(made[1]),
        )
        return made[0].value, made[1].value

    def find(self, template: Template) -> list[int]:
        """Find objects."""
        self.do("C_FindObjectsInit", attributes(template), len(template))
        found: list[int] = []
        while True:
            handles, count = (ctypes.c_ulong * 50)(), ctypes.c_ulong()
            self.do("C_FindObjects", handles, len(handles), ctypes.byref(count))
            if not count.value:
                break
            found.extend(handles[: count.value])
        self.do("C_FindObjectsFinal")
        return found

    def get(self, handle: int, kind: Cka) -> bytes:
        """Return one attribute."""
        row = Attribute(kind, None, 0)
        self.do("C_GetAttributeValue", handle, ctypes.byref(row), 1)
        buffer = ctypes.create_string_buffer(row.length or 1)
        row.value = ctypes.addressof(buffer)
        self.do("C_GetAttributeValue", handle, ctypes.byref(row), 1)
        return buffer.raw[: row.length]

    def begin(self, name: str, with_mechanism: Mechanism, key: int) -> None:
        """Begin an operation: `name` is Sign, Verify, Encrypt or Decrypt."""
        self.do(f"C_{name}Init", ctypes.byref(with_mechanism), key)

    def output(self, name: str, *arguments: Any, room: int = 1 << 20) -> bytes:
        """Call a function whose last arguments are a buffer and its length."""
        buffer, length = ctypes.create_string_buffer(room), ctypes.c_ulong(room)
        self.do(name, *arguments, buffer, ctypes.byref(length))
        return buffer.raw[: length.value]

    def whole(self, name: str, with_mechanism: Mechanism, key: int, data: bytes) -> bytes:
        """Sign, Encrypt or Decrypt in one call, after asking for the length."""
        self.begin(name, with_mechanism, key)
        length = ctypes.c_ulong()
        self.do(f"C_{name}", data, len(data), None, ctypes.byref(length))
        return self.output(f"C_{name}", data, len(data), room=max(length.value, 1))

    def signed_in_parts(self, with_mechanism: Mechanism, key: int, parts: list[bytes]) -> bytes:
        """Sign in parts."""
        self.begin("Sign", with_mechanism, key)
        for part in parts:
            self.do("C_SignUpdate", part, len(part))
        return self.output("C_SignFinal")

    def crypted_in_parts(
        self, name: str, with_mechanism: Mechanism, key: int, parts: list[bytes]
    ) -> bytes:
        """Encrypt or Decrypt in parts."""
        self.begin(name, with_mechanism, key)
        done = [self.output(f"C_{name}Update", part, len(part)) for part in parts]
        return b"".join(done) + self.output(f"C_{name}Final")

    def verified(self, with_mechanism: Mechanism, key: int, data: bytes, signature: bytes) -> int:
        """Verify in one call and return the CK_RV."""
        self.begin("Verify", with_mechanism, key)
        return self.value("C_Verify", data, len(data), signature, len(signature))

    def digest(self, kind: Ckm, parts: list[bytes]) -> bytes:
        """Digest in parts."""
        self.do("C_DigestInit", ctypes.byref(mechanism(kind)))
        for part in parts:
            self.do("C_DigestUpdate", part, len(part))
        return self.output("C_DigestFinal", room=64)
