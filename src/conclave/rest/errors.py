"""Error bodies, and the words for arguments that break a rule."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import msgspec

from conclave import faults
from conclave.errors import ConclaveError, Fault, LimitReached, Unavailable

_TYPES: Final = (
    ("FRAMEWORK_", "FRAMEWORK"),
    ("SERVER_", "SERVER"),
    ("API_", "API"),
)


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What every refusal looks like; `id` is the key that programs may rely on."""

    status: str = "ERROR"
    return_code: int
    type: str
    id: str
    message: str
    details: str


def http_status(fault: Fault, *, missing_right: int) -> int:
    """Return the HTTP status of a fault; a missing right's is a setting (rule K5)."""
    return missing_right if fault is faults.NO_ACL_RULE else fault.http_status


def error_body(error: ConclaveError, status: int) -> ErrorBody:
    """Return the body of a refusal."""
    fault = error.fault
    kind = next((name for prefix, name in _TYPES if fault.rest_id.startswith(prefix)), "PLUGIN")
    return ErrorBody(
        return_code=status,
        type=kind,
        id=fault.rest_id,
        message=fault.title,
        details=error.message,
    )


def error_headers(error: ConclaveError, status: int) -> dict[str, str]:
    """Return the headers that go with a refusal."""
    headers = {}
    if error.fault is faults.NOT_AUTHENTICATED and status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="Conclave", charset="UTF-8"'
    if isinstance(error, Unavailable) and error.fault.retry_is_safe:
        waits = re.search(r"(\d+) s\.$", error.message)
        headers["Retry-After"] = waits.group(1) if waits else "1"
    return headers


def warning_value(text: str) -> str:
    """Return a header `Warning` (RFC 7234, 5.5) with a text, of code 199: of any other kind."""
    quoted = re.sub(r'(["\\])', r"\\\1", _one_line(text))
    return f'199 - "{quoted}"'


def _one_line(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())


def too_large(limit: int) -> LimitReached:
    """Return the refusal of a body beyond the limit, in bytes."""
    message = f"A request's body may have {limit} bytes at most; this one is larger."
    return LimitReached(faults.REQUEST_TOO_LARGE, message)
