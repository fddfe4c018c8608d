"""Customers of a service provider: monitor users who see only what is theirs.

Who is named as the monitor user of a client or of an enrolment token, whatever became of either, is
a customer for good, unless the role is admin or operator: such a user sees those clients, their
tokens and the keyrings that are assigned to them, and nothing that tells of everybody's.
"""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.appliance.user_rules import UserRole
from conclave.errors import NotAllowed
from conclave.operations.cluster_calls import ask
from conclave.operations.model import Call
from conclave.service.client_messages import ClientList, EnrolmentTokenList
from conclave.service.quiet import Nothing

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
    named |= {each.monitor_user for each in tokens.tokens}
    return user.user_id if user.user_id in named else ""


async def refuse_customer(call: Call, what: str) -> None:
    """Refuse a customer what tells of other customers; raise NotAllowed.

    Whether somebody is a customer only the cluster process knows: while it is stopped, nobody is
    let through but admins and operators, unless there is no cluster.
    """
    service = call.appliance.cluster.status()
    if service.status == "stopped" and not service.has_cluster:
        return
    customer = await customer_of(call)
    if customer:
        message = (
            f"User {customer} is the monitor user of a client or an enrolment token, and {what}"
            " of others too: only users who are no monitor user of any may read it."
        )
        raise NotAllowed(faults.NO_ACL_RULE, message)
