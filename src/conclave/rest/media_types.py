"""Media types of the doors: the vendor's template on 8443, plain JSON on 50070.

`application/vnd.safenetinc.lunasa+json;version=N`; N may be empty or absent and then means the
newest.  Content-Type counts before Accept.  On 8443 one of the two must follow the template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.operations.model import JUST_JSON, Media
from conclave.settings import Strictness

JSON: Final = "application/json"
VENDOR: Final = "application/vnd.safenetinc.lunasa+"
VENDOR_JSON: Final = VENDOR + "json"
OCTETS: Final = "application/octet-stream"
TEXT: Final = "text/plain"
FORM_DATA: Final = "multipart/form-data"
NEWEST_VERSION: Final = 17
_VENDOR: Final = re.compile(
    r"application/vnd\.safenetinc\.lunasa\+(?P<kind>[a-z-]+)", re.IGNORECASE
)
_PARAMETER: Final = re.compile(r"\s*(?P<name>[A-Za-z]+)\s*=\s*\"?(?P<value>[^\";]*)\"?\s*")


def check_media_type(
    content_type: str | None,
    accept: str | None,
    *,
    has_body: bool,
    strictness: Strictness,
    kinds: frozenset[Media] = JUST_JSON,
) -> None:
    """Refuse headers that a door does not accept; raise BadInput naming header and rule."""
    rules = _Rules(strictness, kinds)
    if content_type is not None:
        _check("Content-Type", content_type, rules)
    elif has_body:
        message = f"Content-Type is missing; {rules.sentence}."
        raise BadInput(faults.MEDIA_TYPE, message)
    elif strictness is Strictness.VENDOR:
        if accept is None:
            message = f"Content-Type and Accept are missing; {rules.sentence}."
            raise BadInput(faults.MEDIA_TYPE, message)
        _check_accept(accept, _Rules(Strictness.VENDOR, kinds))


@dataclass(frozen=True, slots=True)
class _Rules:
    strictness: Strictness
    kinds: frozenset[Media]

    @property
    def sentence(self) -> str:
        accepted = [f"{VENDOR}{kind};version=" for kind in sorted(self.kinds)]
        if self.strictness is Strictness.JSON and Media.JSON in self.kinds:
            accepted.append(JSON)
        if Media.FORM in self.kinds:
            accepted.append(FORM_DATA)
        return f"it must be {' or '.join(accepted)}"


def _check_accept(accept: str, rules: _Rules) -> None:
    refusals = []
    for choice in accept.split(","):
        try:
            _check("Accept", choice.strip(), rules)
        except BadInput as refusal:
            refusals.append(refusal)
        else:
            return
    raise refusals[0]


def _check(header: str, value: str, rules: _Rules) -> None:
    essence, _, parameters = value.partition(";")
    essence = essence.strip()
    plain = essence.lower()
    if rules.strictness is Strictness.JSON and plain == JSON and Media.JSON in rules.kinds:
        return
    if plain == FORM_DATA and Media.FORM in rules.kinds:
        return
    vendor = _VENDOR.fullmatch(essence)
    if vendor is None:
        message = f"{header} is {value[:80]!r}; {rules.sentence}."
        raise BadInput(faults.MEDIA_TYPE, message)
    if vendor["kind"].lower() not in rules.kinds:
        wanted = " or ".join(sorted(rules.kinds))
        message = f"{header} names the type {vendor['kind'][:20]!r}; this resource takes {wanted}."
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
