"""A private PostgreSQL for each member of a cluster: a direct child, reached by Unix socket."""

from conclave.store.postgresql.account import Account, Directories
from conclave.store.postgresql.binaries import Binaries
from conclave.store.postgresql.instance import Instance
from conclave.store.postgresql.status import (
    Lsn,
    Positions,
    StandbyStatus,
    member_name,
)
from conclave.store.postgresql.views import SlotReport

__all__ = [
    "Account",
    "Binaries",
    "Directories",
    "Instance",
    "Lsn",
    "Positions",
    "SlotReport",
    "StandbyStatus",
    "member_name",
]
