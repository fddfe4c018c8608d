"""All operations, collected from the modules that declare them."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from conclave.operations import (
    appliance,
    appliance_actions,
    assignments,
    audit,
    certificate_login,
    clients,
    cluster_config,
    clusters,
    enrolment,
    firmware,
    hsm,
    hsm_roles,
    hsm_state,
    hsm_usage,
    keyrings,
    members,
    metrics,
    monitoring,
    ntp,
    packages,
    partition_roles,
    partitions,
    roles,
    services,
    sessions,
    support_info,
    syslog,
    tasks,
    user_files,
    user_keys,
    users,
    web_server,
)
from conclave.operations.model import AnyOperation, Operation

_MODULES: Final = (
    sessions,
    certificate_login,
    appliance,
    appliance_actions,
    monitoring,
    ntp,
    syslog,
    metrics,
    web_server,
    hsm,
    hsm_usage,
    hsm_roles,
    support_info,
    hsm_state,
    firmware,
    partitions,
    partition_roles,
    services,
    packages,
    users,
    roles,
    user_keys,
    user_files,
    tasks,
    cluster_config,
    clusters,
    members,
    clients,
    enrolment,
    assignments,
    keyrings,
    audit,
)


def declared_in(module: ModuleType) -> tuple[AnyOperation, ...]:
    """Return a module's operations in the order of their declaration."""
    return tuple(value for value in vars(module).values() if isinstance(value, Operation))


OPERATIONS: Final[tuple[AnyOperation, ...]] = tuple(
    operation for module in _MODULES for operation in declared_in(module)
)
