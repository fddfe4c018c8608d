"""The audit log: show, read, verify, rotate and export it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.audit.chain import verify
from conclave.errors import BadInput
from conclave.lunash.render.audit import audit_verify
from conclave.operations.commands import Command
from conclave.operations.model import (
    AUDITORS,
    DONE,
    Call,
    Media,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.reveals import Reveals
from conclave.operations.support_info import WrittenFile
from conclave.operations.users import USERS

AUDIT = "/api/lunasa/audit"
NEWEST_RECORDS: Final = 100
"""Shown when nobody says how many."""


class AuditView(Result, frozen=True):
    """The log's state: its newest record, signed, and where to read more."""

    records: str
    export: str
    sequence: int
    hash: str
    public_key: str
    """Ed25519 key that signs the end of every export, hexadecimal."""
    signature: str
    files: list[str]
    total_bytes: int


class AuditRecords(Result, frozen=True):
    """Records, newest first."""

    records: list[dict[str, Any]]


class AuditVerdict(Result, frozen=True):
    """What a verification found."""

    records: int
    first: int
    last: int
    hash: str


@operation(
    "audit.show",
    "GET",
    AUDIT,
    summary="Show the audit log's newest record, signed, and its files.",
    arguments=NoArguments,
    roles=AUDITORS,
    statuses=(200,),
    result=AuditView,
)
async def show_audit(call: Call, _arguments: NoArguments) -> Reply:
    """Show the log's state."""
    summary = await call.appliance.audit.summary()
    return Reply(
        body=AuditView(
            records=f"{AUDIT}/records",
            export=f"{AUDIT}/export",
            sequence=summary.head.sequence,
            hash=summary.head.digest,
            public_key=summary.checkpoint.key,
            signature=summary.checkpoint.signature,
            files=list(summary.files),
            total_bytes=summary.total_bytes,
        )
    )


@operation(
    "audit.records",
    "GET",
    f"{AUDIT}/records",
    summary="List the records of the audit log, newest first; without a limit, a hundred.",
    arguments=NoArguments,
    roles=AUDITORS,
    reveals=Reveals.HISTORY,
    statuses=(200,),
    result=AuditRecords,
    paged=True,
)
async def list_records(call: Call, _arguments: NoArguments) -> Reply:
    """List records."""
    limit = NEWEST_RECORDS if call.page.limit is None else call.page.limit
    lines, total = await call.appliance.audit.page(call.page.offset, limit)
    records = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    return Reply(body=AuditRecords(records=records), total=total)


@operation(
    "audit.export",
    "GET",
    f"{AUDIT}/export",
    summary="Download the whole audit log; its last line signs its end.",
    arguments=NoArguments,
    roles=AUDITORS,
    reveals=Reveals.HISTORY,
    statuses=(200,),
    result=Result,
    media=frozenset({Media.JSON, Media.OCTETS}),
    audited=True,
    only="REST: 'audit log tarlogs' writes the same to a file that scp brings down.",
)
async def export_audit(call: Call, _arguments: NoArguments) -> Reply:
    """Download the log, which `conclave audit verify` checks."""
    return Reply(download=await call.appliance.audit.export())


@operation(
    "audit.export_file",
    "POST",
    f"{AUDIT}/actions/export",
    summary="Write the whole audit log to a file among the caller's own.",
    arguments=NoArguments,
    roles=AUDITORS,
    reveals=Reveals.HISTORY,
    statuses=(201,),
    result=WrittenFile,
    commands=(
        Command(
            words="audit log tarlogs",
            summary="Write the whole audit log, signed at its end, to a file among your own.",
            success="The audit log is among your files: 'my file list' shows its name.",
        ),
    ),
)
async def export_to_file(call: Call, _arguments: NoArguments) -> Reply:
    """Write the log to a file, which scp or REST then fetches."""
    user_id = call.by.user.user_id
    total_bytes = (await call.appliance.audit.summary()).total_bytes
    most_bytes = call.appliance.files.max_file_bytes
    if total_bytes >= most_bytes:
        message = (
            f"The audit log has {total_bytes} bytes, and a user's file {most_bytes} at most"
            f" (files.max_file_bytes): download the log by GET {AUDIT}/export, or keep less of it"
            " (audit.max_files)."
        )
        raise BadInput(faults.REQUEST_TOO_LARGE, message)
    name = f"audit-{call.appliance.clock.now():%Y%m%d-%H%M%S}.jsonl"
    chunks = await call.appliance.audit.export()
    await asyncio.to_thread(call.appliance.files.store, user_id, name, chunks)
    url = f"{USERS}/{user_id}/files/{name}"
    return Reply(body=WrittenFile(url=url), location=url)


@operation(
    "audit.verify",
    "POST",
    f"{AUDIT}/actions/verify",
    summary="Check that no record of the audit log was changed, taken out or put in.",
    arguments=NoArguments,
    roles=AUDITORS,
    statuses=(200,),
    result=AuditVerdict,
    faults=(faults.AUDIT_BROKEN,),
    commands=(
        Command(
            words="audit log verify",
            summary="Check that no record of the audit log was changed, taken out or put in.",
            render=audit_verify,
        ),
    ),
)
async def verify_audit(call: Call, _arguments: NoArguments) -> Reply:
    """Check the whole log."""
    lines = await call.appliance.audit.lines()
    verdict = await asyncio.to_thread(verify, lines)
    return Reply(
        body=AuditVerdict(
            records=verdict.records,
            first=verdict.first,
            last=verdict.head.sequence,
            hash=verdict.head.digest,
        )
    )


@operation(
    "audit.rotate",
    "POST",
    f"{AUDIT}/actions/rotate",
    summary="Begin a new file of the audit log; the oldest beyond the limit goes.",
    arguments=NoArguments,
    roles=AUDITORS,
    commands=(
        Command(
            words="audit log rotate",
            summary="Begin a new file of the audit log.",
        ),
    ),
)
async def rotate_audit(call: Call, _arguments: NoArguments) -> Reply:
    """Begin a new file."""
    await call.appliance.audit.rotate()
    return DONE
