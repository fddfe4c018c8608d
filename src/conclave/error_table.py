"""Print the error table as the documentation page: `python -m conclave.error_table`."""

from __future__ import annotations

import sys

from conclave import faults
from conclave.errors import Fault

_HEAD = """# Errors

Every fault that Conclave reports, one row each, made from `conclave/faults.py`. REST answers
carry the identifier as `id`, the status as `returnCode`, the title as `message` and a full
sentence as `details`; LunaSH prints the code and name; the PKCS#11 module returns the CKR code.
"Retry" says whether the same request may simply be sent again; requests that carry an idempotency
key may always be repeated with the same key.

| REST id | status | title | CKR | LunaSH | retry |
|---|---:|---|---|---|---|
"""


def rows() -> list[tuple[str, Fault]]:
    """Return every fault with the name of its row, in the order of the table."""
    return [(name, value) for name, value in vars(faults).items() if isinstance(value, Fault)]


def markdown() -> str:
    """Return the page."""
    lines = [
        f"| {fault.rest_id} | {fault.http_status} | {fault.title} "
        f"| CKR_{fault.ckr.name} (0x{fault.ckr:08x}) "
        f"| {fault.luna_code:X} : {fault.luna_name} | {'yes' if fault.retry_is_safe else 'no'} |"
        for _, fault in rows()
    ]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
