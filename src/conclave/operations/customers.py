"""Customers of a service provider: monitor users who see only what is theirs.

Who is named as the monitor user of a client, a revoked one too, or of an enrolment token is a
customer, unless the role is admin or operator: such a user sees those clients, their tokens and the
keyrings that are assigned to them.
"""

from __future__ import annotations

from typing import Final

from conclave.appliance.user_rules import UserRole
from conclave.operations.cluster_calls import ask
from conclave.operations.model import Call
from conclave.service.client_messages import ClientList, EnrolmentTokenList
from conclave.service.messages import Nothing

_OF_THE_PROVIDER: Final = frozenset({UserRole.ADMIN, UserRole.OPERATOR})
ASKED: Final = ("list_clients", "list_enrolment_tokens")
"""What it takes to know a customer."""


async def customer_of(call: Call) -> str:
    """Return the caller's user id when the caller is a customer, else an empty text."""
    user = call.by.user
    if user.role in _OF_THE_PROVIDER:
        return ""
    clients = await ask(call, "list_clients", Nothing(), ClientList)
    tokens = await ask(call, "list_enrolment_tokens", Nothing(), EnrolmentTokenList)
    named = {each.monitor_user for each in clients.clients}
    named |= {each.monitor_user for each in tokens.tokens if each.state != "revoked"}
    return user.user_id if user.user_id in named else ""
