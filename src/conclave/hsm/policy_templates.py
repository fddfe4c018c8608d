"""Policy templates: a partition's policies as text, to initialise others alike; pure functions.

A line is `number:"name":value`; lines that begin with # are comments.  The name is for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from conclave import faults
from conclave.errors import BadInput

MAX_TEMPLATE_BYTES: Final = 16 * 1024
_LINE: Final = re.compile(r'(?P<number>[0-9]{1,4}):(?:"[^"]*":)?(?P<value>[0-9]{1,9})')


def written_template(policies: Iterable[tuple[int, str, int]], firmware: str) -> str:
    """Return the template of policies, given as number, name and value."""
    head = (
        f"# Policy template FW Version {firmware}\n"
        "# Field format - Policy ID:Policy Description:Policy Value\n"
    )
    return head + "".join(f'{number}:"{name}":{value}\n' for number, name, value in policies)


def read_template(content: bytes) -> dict[int, int]:
    """Return the values by number; raise BadInput naming the line that breaks the rule."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise BadInput(faults.BAD_REQUEST, "A policy template must be text in UTF-8.") from None
    values: dict[int, int] = {}
    for place, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        if found is None:
            message = (
                f'Line {place} of the template must be number:"name":value;'
                f" it is {stripped[:64]!r}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
        number = int(found["number"])
        if number in values:
            message = f"Line {place} of the template sets policy {number} again."
            raise BadInput(faults.BAD_REQUEST, message)
        values[number] = int(found["value"])
    return values
