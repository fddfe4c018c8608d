"""The chain of records: each holds the hash of the one before; pure functions.

Invariant: a record's hash covers its text and the former hash, so nothing can be changed, taken out
or put in without breaking every later hash.  A checkpoint is the newest hash signed with the
appliance's audit key: who has it and the public key needs to trust no copy of the log.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from conclave import faults
from conclave.audit.events import AuditEvent
from conclave.errors import Conflict

NO_HASH: Final = "0" * 64
_CONTEXT: Final = b"conclave audit checkpoint\0"
_LINE: Final = re.compile(rb'(\{.*),"hash":"([0-9a-f]{64})"\}', re.DOTALL)
_CHECKPOINT_START: Final = b'{"checkpoint":'


@dataclass(frozen=True, slots=True)
class Head:
    """The newest record of a chain; sequence 0 is before the first."""

    sequence: int = 0
    digest: str = NO_HASH


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A signed head."""

    sequence: int
    digest: str
    key: str
    """Ed25519 public key, hexadecimal."""
    signature: str


class _CheckpointLine(msgspec.Struct, frozen=True):
    checkpoint: Checkpoint


class _Linked(msgspec.Struct, frozen=True):
    sequence: int
    previous: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found."""

    records: int
    first: int
    head: Head
    signed_by: str
    """Public key of the checkpoint at the end; empty when there is none."""


def link(head: Head, moment: datetime, event: AuditEvent) -> tuple[bytes, Head]:
    """Return an event as the line that follows a head, with the head that it makes."""
    sequence = head.sequence + 1
    record: dict[str, Any] = {
        "sequence": sequence,
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        **msgspec.to_builtins(event),
        "previous": head.digest,
    }
    body = msgspec.json.encode(record)
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + f',"hash":"{digest}"}}\n'.encode(), Head(sequence, digest)


def read_head(line: bytes) -> tuple[Head, Head]:
    """Return the head that a line follows and the one it makes; raise Conflict."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise _broken("a line is no record of an audit log")
    body = found[1] + b"}"
    digest = found[2].decode()
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), digest):
        raise _broken("a record was changed: its hash does not fit its text")
    try:
        linked = msgspec.json.decode(body, type=_Linked)
    except msgspec.DecodeError as cause:
        raise _broken("a record lacks its place in the chain") from cause
    return Head(linked.sequence - 1, linked.previous), Head(linked.sequence, digest)


def verify(lines: Iterable[bytes], *, trusted_key: str = "") -> Verdict:
    """Check a whole log, with a checkpoint at its end or without; raise Conflict where it breaks.

    The first record is believed about what went before it: older files may have been rotated away.
    A trusted key asks for a checkpoint that it signed.
    """
    head, first, count, signed_by = Head(), 0, 0, ""
    for number, line in enumerate(lines, start=1):
        if signed_by:
            raise _broken(f"line {number} follows the checkpoint")
        if line.startswith(_CHECKPOINT_START):
            signed_by = _check_checkpoint(line, head, trusted_key, number)
            continue
        try:
            before, made = read_head(line.rstrip(b"\n"))
        except Conflict as cause:
            raise Conflict(cause.fault, f"Line {number}: {cause.message}") from cause
        if count == 0:
            first = made.sequence
        elif before != head:
            raise _broken(
                f"line {number} has record {made.sequence} and does not follow record"
                f" {head.sequence}: records were changed, taken out or put in"
            )
        head, count = made, count + 1
    if trusted_key and not signed_by:
        raise _broken("there is no checkpoint at the end, so records may have been cut off")
    return Verdict(count, first, head, signed_by)


def sign(head: Head, key: Ed25519PrivateKey) -> Checkpoint:
    """Sign a head."""
    return Checkpoint(
        sequence=head.sequence,
        digest=head.digest,
        key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(_signed_text(head)).hex(),
    )


def checkpoint_line(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as the last line of an export."""
    return msgspec.json.encode(_CheckpointLine(checkpoint)) + b"\n"


def read_checkpoint(line: bytes) -> Checkpoint:
    """Return a checkpoint whose signature fits its own key; raise Conflict."""
    try:
        checkpoint = msgspec.json.decode(line, type=_CheckpointLine).checkpoint
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoint.key))
        text = _signed_text(Head(checkpoint.sequence, checkpoint.digest))
        key.verify(bytes.fromhex(checkpoint.signature), text)
    except (msgspec.DecodeError, ValueError, InvalidSignature) as cause:
        raise _broken("the checkpoint's signature is wrong") from cause
    return checkpoint


def _check_checkpoint(line: bytes, head: Head, trusted_key: str, number: int) -> str:
    checkpoint = read_checkpoint(line)
    if trusted_key and checkpoint.key != trusted_key.lower():
        raise _broken(f"the checkpoint in line {number} was signed with the key {checkpoint.key}")
    if Head(checkpoint.sequence, checkpoint.digest) != head:
        raise _broken(
            f"the checkpoint names record {checkpoint.sequence}, but the log ends with record"
            f" {head.sequence}, or that record was changed"
        )
    return checkpoint.key


def _signed_text(head: Head) -> bytes:
    return _CONTEXT + f"{head.sequence}:{head.digest}".encode()


def _broken(what: str) -> Conflict:
    return Conflict(faults.AUDIT_BROKEN, f"The audit log is not whole: {what}.")
