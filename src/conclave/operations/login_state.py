"""Which HSM and partition roles a session is logged in as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conclave import faults
from conclave.errors import NotAllowed
from conclave.hsm.views import CredentialVersion

if TYPE_CHECKING:
    from conclave.hsm.hsm import Hsm


@dataclass(slots=True, eq=False)
class LoginState:
    """Logins of one session; each dies when the credential that it proved is set anew."""

    so: CredentialVersion | None = None
    roles: dict[tuple[str, str], CredentialVersion] = field(default_factory=dict)

    def so_is_logged_in(self, hsm: Hsm) -> bool:
        """Tell whether the HSM SO's login stands."""
        return self.so is not None and hsm.so_login_is_current(self.so)

    def role_is_logged_in(self, hsm: Hsm, partition_id: str, role_id: str) -> bool:
        """Tell whether a partition role's login stands."""
        version = self.roles.get((partition_id, role_id))
        return version is not None and hsm.role_login_is_current(partition_id, role_id, version)

    def forget(self) -> None:
        """Log everybody out, since the session ended; Waiting tasks may still hold this state."""
        self.so = None
        self.roles.clear()

    def forget_partition(self, partition_id: str) -> None:
        """Log all roles of a partition out."""
        for key in [key for key in self.roles if key[0] == partition_id]:
            del self.roles[key]


def require_so(state: LoginState | None, hsm: Hsm) -> None:
    """Refuse unless the HSM SO is logged in."""
    if state is None or not state.so_is_logged_in(hsm):
        message = (
            "The HSM SO is not logged in to this session: 'hsm login' in LunaSH; over REST POST"
            " /auth/session, then POST /api/lunasa/hsms/{hsmid}/login."
        )
        raise NotAllowed(faults.SO_NOT_LOGGED_IN, message)


def require_role(state: LoginState | None, hsm: Hsm, partition_id: str, role_id: str) -> None:
    """Refuse unless a role is logged in to its partition."""
    if state is None or not state.role_is_logged_in(hsm, partition_id, role_id):
        message = (
            f"Role {role_id} is not logged in to partition {partition_id} in this private session:"
            " POST /api/lunasa/hsms/{hsmid}/partitions/{partitionid}/login first."
        )
        raise NotAllowed(faults.PARTITION_USER_NOT_AUTHENTICATED, message)
