"""Media types of the doors: the vendor's template on 8443, plain JSON on 50070.

`application/vnd.safenetinc.lunasa+json;version=N`; N may be empty or absent and then means the
newest.  Content-Type counts before Accept.  On 8443 one of the two must follow the template.
"""

from __future__ import annotations

import re
from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.settings import Strictness

JSON: Final = "application/json"
VENDOR_JSON: Final = "application/vnd.safenetinc.lunasa+json"
NEWEST_VERSION: Final = 17
_VENDOR: Final = re.compile(
    r"application/vnd\.safenetinc\.lunasa\+(?P<kind>[a-z-]+)", re.IGNORECASE
)
_PARAMETER: Final = re.compile(r"\s*(?P<name>[A-Za-z]+)\s*=\s*\"?(?P<value>[^\";]*)\"?\s*")


def check_media_type(
    content_type: str | None, accept: str | None, *, has_body: bool, strictness: Strictness
) -> None:
    """Refuse headers that a door does not accept; raise BadInput naming header and rule."""
    if content_type is not None:
        _check("Content-Type", content_type, strictness)
    elif has_body:
        message = f"Content-Type is missing; {_rule(strictness)}."
        raise BadInput(faults.MEDIA_TYPE, message)
    elif strictness is Strictness.VENDOR:
        if accept is None:
            message = f"Content-Type and Accept are missing; {_rule(strictness)}."
            raise BadInput(faults.MEDIA_TYPE, message)
        _check_accept(accept)


def _check_accept(accept: str) -> None:
    refusals = []
    for choice in accept.split(","):
        try:
            _check("Accept", choice.strip(), Strictness.VENDOR)
        except BadInput as refusal:
            refusals.append(refusal)
        else:
            return
    raise refusals[0]


def _check(header: str, value: str, strictness: Strictness) -> None:
    essence, _, parameters = value.partition(";")
    essence = essence.strip()
    if strictness is Strictness.JSON and essence.lower() == JSON:
        return
    vendor = _VENDOR.fullmatch(essence)
    if vendor is None:
        message = f"{header} is {value[:80]!r}; {_rule(strictness)}."
        raise BadInput(faults.MEDIA_TYPE, message)
    if vendor["kind"].lower() != "json":
        message = f"{header} names the type {vendor['kind'][:20]!r}; this resource takes json."
        raise BadInput(faults.MEDIA_TYPE, message)
    _check_version(header, parameters)


def _check_version(header: str, parameters: str) -> None:
    for parameter in parameters.split(";"):
        found = _PARAMETER.fullmatch(parameter)
        if found is None or found["name"].lower() != "version" or found["value"] in ("", "*"):
            continue
        version = found["value"]
        if not re.fullmatch(r"[0-9]{1,3}", version) or not 1 <= int(version) <= NEWEST_VERSION:
            message = (
                f"{header} has the version {version[:16]!r}; it must be empty or a number from 1"
                f" to {NEWEST_VERSION}."
            )
            raise BadInput(faults.MEDIA_TYPE, message)


def _rule(strictness: Strictness) -> str:
    vendor = f"it must be {VENDOR_JSON};version="
    return vendor if strictness is Strictness.VENDOR else f"{vendor} or {JSON}"
