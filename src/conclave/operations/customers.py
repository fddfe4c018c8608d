"""Customers of a service provider: monitor users who see only what is theirs.

Who is named as the monitor user of a client or of an enrolment token, whatever became of either, is
a customer for good, unless the role is one of the provider's: such a user sees those clients, their
tokens and the keyrings that are assigned to them, and nothing that tells of everybody's.

Invariant: what an operation reveals is declared with it and asked right before its handler runs,
whichever door it came through; only the cluster process knows who is a customer.
"""

from __future__ import annotations

from typing import Final

from conclave import faults
from conclave.appliance.user_rules import UserRole
from conclave.errors import NotAllowed
from conclave.operations.cluster_calls import ask
from conclave.operations.model import AnyOperation, Call
from conclave.operations.reveals import Reveals
from conclave.service.client_messages import Customer, NamedUser

_OF_THE_PROVIDER: Final = frozenset({UserRole.ADMIN, UserRole.OPERATOR, UserRole.AUDIT})


async def customer_of(call: Call) -> str:
    """Return the caller's user id when the caller is a customer, else an empty text."""
    user = call.by.user
    if user.role in _OF_THE_PROVIDER:
        return ""
    found = await ask(call, "is_customer", NamedUser(user_id=user.user_id), Customer)
    return user.user_id if found.named else ""


async def refuse_customers(call: Call, operation: AnyOperation) -> None:
    """Refuse a customer what tells of others; raise NotAllowed, or what kept us from knowing."""
    if operation.reveals in (Reveals.NOTHING, Reveals.SIFTED) or _nothing_to_reveal(
        call, operation
    ):
        return
    customer = await customer_of(call)
    if customer:
        message = (
            f"User {customer} is the monitor user of a client or an enrolment token, and"
            f" {operation.method} {operation.path} tells of others too: only users who are no"
            " monitor user of any may call it."
        )
        raise NotAllowed(faults.NO_ACL_RULE, message)


def _nothing_to_reveal(call: Call, operation: AnyOperation) -> bool:
    """Tell whether there is no cluster, or the counts of its service have ended with it."""
    cluster = call.appliance.cluster
    stopped = cluster.processes is None
    return stopped and (operation.reveals is Reveals.USE or not cluster.status().has_cluster)
