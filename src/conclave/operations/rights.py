"""Whether a user may call an operation; the same for every door."""

from __future__ import annotations

from conclave import faults
from conclave.appliance.user_roles import CustomRoles
from conclave.appliance.user_store import User
from conclave.appliance.users import Login, Users
from conclave.errors import CredentialRefused, NotAllowed
from conclave.operations.model import EVERYBODY, NOBODY, AnyOperation


def current_user(users: Users, login: Login) -> User:
    """Return whose login this is; raise CredentialRefused when it is void."""
    user = users.current(login)
    if user is None:
        message = "The login is void: the user or the password has changed since."
        raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
    return user


def require_right(
    roles: CustomRoles,
    user: User,
    operation: AnyOperation,
    path: dict[str, str],
    *,
    attempt: str,
) -> None:
    """Refuse a user without the right, or whose first password is unchanged; raise NotAllowed.

    `attempt` says how the operation is called.
    """
    if user.must_change and not operation.before_password_change:
        message = (
            f"User {user.user_id} must change the password first:"
            f" POST /users/{user.user_id}/actions/changePassword, or log in to LunaSH."
        )
        raise NotAllowed(faults.PASSWORD_CHANGE_REQUIRED, message)
    if not may_call(roles, user, operation, path):
        allowed = ", ".join(sorted(role.value for role in operation.roles))
        message = (
            f"There is no rule that lets the role {user.role.value!r} {attempt}; {allowed} may."
        )
        raise NotAllowed(faults.NO_ACL_RULE, message)


def may_call(roles: CustomRoles, user: User, operation: AnyOperation, path: dict[str, str]) -> bool:
    """Tell whether a user's role may call an operation with these path values."""
    if operation.roles in (EVERYBODY, NOBODY) or user.role in operation.roles:
        return True
    return roles.allow(user.role, operation.method, operation.path, path)
