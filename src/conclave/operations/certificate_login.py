"""Open a private session with a certificate, by challenge and answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from conclave import faults
from conclave.appliance.public_keys import parse_certificate
from conclave.operations.fields import CertificatePem, UserId
from conclave.operations.model import (
    NOBODY,
    Arguments,
    Call,
    Reply,
    Result,
    operation,
)


class AskForChallenge(Arguments, frozen=True):
    """Who wants to log in, and the certificate in PEM."""

    username: UserId
    certificate: CertificatePem


class ChallengeView(Result, frozen=True):
    """RSA-decrypt `challenge`, XOR it with `nonce`, encrypt that for `certificate`."""

    challenge: str
    nonce: str
    certificate: str


class AnswerChallenge(Arguments, frozen=True):
    """The answer in base64."""

    challenge_response: Annotated[str, Meta(min_length=1, max_length=4096)]


_REFUSALS = (faults.NOT_AUTHENTICATED, faults.LOGIN_DELAYED)


@operation(
    "session.challenge",
    "POST",
    "/auth/login/challenge",
    summary="Ask for a challenge that a certificate's key answers; it is good for a minute.",
    only="REST: LunaSH takes SSH keys, not certificates.",
    arguments=AskForChallenge,
    roles=NOBODY,
    statuses=(200,),
    result=ChallengeView,
    faults=_REFUSALS,
    audited=False,
)
async def ask_for_challenge(call: Call, arguments: AskForChallenge) -> Reply:
    """Return a challenge, to anybody alike."""
    made = await call.appliance.certificate_logins.challenge(
        arguments.username, parse_certificate(arguments.certificate), source=call.source
    )
    return Reply(
        body=ChallengeView(challenge=made.challenge, nonce=made.nonce, certificate=made.certificate)
    )


@operation(
    "session.answer",
    "POST",
    "/auth/login/basic",
    summary="Answer a challenge and open a private session: the answer sets its cookie.",
    only="REST: LunaSH takes SSH keys, not certificates.",
    arguments=AnswerChallenge,
    roles=NOBODY,
    faults=_REFUSALS,
)
async def answer_challenge(call: Call, arguments: AnswerChallenge) -> Reply:
    """Open a private session for whoever answered."""
    login = await call.appliance.certificate_logins.answer(
        arguments.challenge_response, source=call.source, door="rest"
    )
    return Reply(session_secret=call.sessions.open(login))
