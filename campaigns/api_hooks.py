"""What schemathesis is told beside the document, and which of its findings are none here.

Loaded by schemathesis by the name in its configuration, never by the appliance.
"""

from __future__ import annotations

import json
from typing import Any, Final

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import IgnoredAuth, RejectedPositiveData

VENDOR: Final = "application/vnd.safenetinc.lunasa+"
TEXT: Final = f"{VENDOR}octet-stream"
CHANGE_WEBSERVER: Final = "PATCH /api/lunasa/webServer"
ACT_ON_SERVICE: Final = "POST /api/lunasa/services/{serviceid}/actions/{actionid}"
LOGIN_DELAYED: Final = "429"
DECODER_WORDS: Final = (" breaks a rule: ", "The body is not valid JSON")


def accepted(responses: dict[str, Any]) -> str:
    """Return the Accept of 8443 for what an operation answers."""
    answers = responses.get("200", {}).get("content", {})
    kind = "octet-stream" if "application/octet-stream" in answers else "json"
    return f"{VENDOR}{kind};version="


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], **_options: Any
) -> None:
    """Name the media type that the operation answers: OpenAPI declares no header Accept."""
    responses = case.operation.definition.raw["responses"]
    case.headers.setdefault("Accept", accepted(responses))
    # These two do what they say: they end REST until LunaSH lets it begin again, and the trial too.
    if case.operation.label == CHANGE_WEBSERVER and isinstance(case.body, dict):
        case.body.pop("enabled", None)
    if case.operation.label == ACT_ON_SERVICE and case.path_parameters.get("actionid") == "stop":
        case.path_parameters["serviceid"] = "ntp"


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext,
    failure: Failure,
    _case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Tell whether a finding is one."""
    if isinstance(failure, IgnoredAuth):
        # After many wrong passwords of one address, the next one is not even looked at: 429.
        return LOGIN_DELAYED not in failure.message
    if isinstance(failure, RejectedPositiveData):
        # What a schema cannot say, such as the HSM's state or a rule over two fields, is refused by
        # handlers.  What the schema allows must pass the decoder, whose refusals have these words;
        # but for 1.0, which JSON Schema calls an integer.
        refusal = json.loads(response.content).get("details", "")
        return any(words in refusal for words in DECODER_WORDS) and "got `float`" not in refusal
    return True


@schemathesis.serializer(TEXT)
def send_text(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send text as it is."""
    return value if isinstance(value, bytes) else str(value).encode()
