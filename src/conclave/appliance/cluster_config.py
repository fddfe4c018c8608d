"""The cluster service's configuration and its rules (S6, K1), without files or sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from conclave import faults
from conclave.errors import BadInput, Conflict, NotAllowed
from conclave.settings import ADMIN_PORTS, CRYPTO_PORTS

IdentityMode = Literal["single", "dual"]
ListenerName = Literal["admin", "crypto"]
ALL_IPV4: Final = "0.0.0.0"  # noqa: S104 - only when the appliance has several interfaces
ALL_IPV6: Final = "::"

_ADMIN_RANGE: Final = "50070 or 50075 to 50079"
_CRYPTO_RANGE: Final = "50052 or 50055 to 50059"
_PORTS: Final = {"admin": ADMIN_PORTS, "crypto": CRYPTO_PORTS}


class ListenerConfig(msgspec.Struct, frozen=True):
    """Where admin or crypto traffic is accepted; `interface` None means every interface."""

    interface: str | None
    port: int


class FormerPort(msgspec.Struct, frozen=True):
    """A crypto port that clients may still name (rule S7)."""

    port: int
    until_ms: int
    """Appliance time from which on it is opened no more."""


class StoredClusterConfig(msgspec.Struct, frozen=True):
    """What was configured; a port of 0 means the appliance's default."""

    core_address: str | None = None
    admin_interface: str | None = None
    admin_port: int = 0
    crypto_interface: str | None = None
    crypto_port: int = 0
    former_crypto_ports: tuple[FormerPort, ...] = ()
    identity: IdentityMode = "single"
    on_boot: bool = False
    cluster_created: bool = False
    """Known without asking the cluster process, which may be stopped."""


class ClusterConfig(msgspec.Struct, frozen=True):
    """The configuration with defaults filled in; `core_address` None means not yet chosen."""

    core_address: str | None
    admin: ListenerConfig
    crypto: ListenerConfig
    identity: IdentityMode
    former_crypto_ports: tuple[FormerPort, ...] = ()


class Setup(msgspec.Struct, frozen=True):
    """What a service runs with, or would run with after a restart."""

    config: ClusterConfig
    certificate_pem: str
    version: str
    """The package's."""


def effective(stored: StoredClusterConfig, admin_port: int, crypto_port: int) -> ClusterConfig:
    """Fill in the appliance's default ports."""
    return ClusterConfig(
        core_address=stored.core_address,
        admin=ListenerConfig(stored.admin_interface, stored.admin_port or admin_port),
        crypto=ListenerConfig(stored.crypto_interface, stored.crypto_port or crypto_port),
        identity=stored.identity,
        former_crypto_ports=stored.former_crypto_ports,
    )


def with_core_address(
    stored: StoredClusterConfig, address: str, interfaces: Mapping[str, str]
) -> StoredClusterConfig:
    """Fix the core address: one of the appliance's, once until factory reset."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        message = f"IpAddress must be an IP address; it is {address!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message) from None
    own = {ipaddress.ip_address(value): name for name, value in interfaces.items()}
    if wanted not in own:
        listed = ", ".join(f"{name} {value}" for name, value in interfaces.items())
        message = f"IpAddress must be one of the appliance's ({listed}); it is {address}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if stored.core_address is not None and stored.core_address != str(wanted):
        message = (
            f"The core address is {stored.core_address} and cannot be changed to {address};"
            " a factory reset of the cluster service frees it."
        )
        raise Conflict(faults.CLUSTER_CONFIG_FIXED, message)
    return msgspec.structs.replace(stored, core_address=str(wanted))


def with_listener(
    stored: StoredClusterConfig,
    service: str,
    interface: str | None,
    port: int | None,
    interfaces: Mapping[str, str],
) -> StoredClusterConfig:
    """Set interface, port or both of the admin or crypto listener."""
    allowed = _PORTS.get(service)
    if allowed is None:
        message = f"service must be core, admin, crypto or identity; it is {service!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if interface is None and port is None:
        message = f"An interface or a port must be given for service {service}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if interface is not None and interface not in interfaces:
        message = f"interface must be one of {', '.join(interfaces)}; it is {interface!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if port is not None and port not in allowed:
        message = (
            f"port {port} is not allowed for {service}: admin ports are {_ADMIN_RANGE},"
            f" crypto ports {_CRYPTO_RANGE}."
        )
        raise BadInput(faults.CLUSTER_CONFIG, message)
    changes: dict[str, str | int] = {}
    if interface is not None:
        changes[f"{service}_interface"] = interface
    if port is not None:
        changes[f"{service}_port"] = port
    return msgspec.structs.replace(stored, **changes)


def with_former_port(
    stored: StoredClusterConfig, before: int, after: int, until_ms: int
) -> StoredClusterConfig:
    """Note that clients know the crypto port `before`, when `after` takes its place."""
    if before == after:
        return stored
    kept = [former for former in stored.former_crypto_ports if former.port not in (before, after)]
    formers = (*kept, FormerPort(before, until_ms))
    return msgspec.structs.replace(stored, former_crypto_ports=formers)


def open_ports(config: ClusterConfig, now_ms: int) -> list[int]:
    """Return the crypto ports to be opened, the present one first."""
    former = [each.port for each in config.former_crypto_ports if now_ms < each.until_ms]
    return [config.crypto.port, *(port for port in former if port != config.crypto.port)]


def with_identity(stored: StoredClusterConfig, mode: str) -> StoredClusterConfig:
    """Choose single or dual identity, before a cluster exists (rule K1)."""
    if mode not in ("single", "dual"):
        message = f"mode must be single or dual; it is {mode!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if stored.cluster_created and mode != stored.identity:
        message = (
            f"The identity mode is {stored.identity} since the cluster was created;"
            " a factory reset of the cluster service frees it."
        )
        raise Conflict(faults.CLUSTER_CONFIG_FIXED, message)
    return msgspec.structs.replace(stored, identity=mode)


def with_cluster(stored: StoredClusterConfig, mode: IdentityMode | None) -> StoredClusterConfig:
    """Note that there is a cluster of that mode, which its store decides, or none (None)."""
    if mode is None:
        return msgspec.structs.replace(stored, cluster_created=False)
    return msgspec.structs.replace(stored, cluster_created=True, identity=mode)


def require_core_address(config: ClusterConfig, interfaces: Mapping[str, str]) -> str:
    """Return the core address; refuse a start without one, or with one that went away (S6)."""
    if config.core_address is None:
        message = "The cluster service has no core address: set it in the cluster configuration."
        raise NotAllowed(faults.CLUSTER_CONFIG_MISSING, message)
    if config.core_address not in {str(ipaddress.ip_address(own)) for own in interfaces.values()}:
        message = (
            f"The core address {config.core_address} is no address of the appliance any more:"
            " restore the interface, or reset the cluster service."
        )
        raise NotAllowed(faults.CLUSTER_CONFIG_MISSING, message)
    return config.core_address


def check_remote_address(address: str, own: str) -> None:
    """Refuse an address that no member of another cluster can have."""
    try:
        remote = ipaddress.ip_address(address)
    except ValueError:
        message = f"remoteClusterIpAddress must be an IP address; it is {address!r}."
        raise BadInput(faults.CLUSTER_CONFIG, message) from None
    if remote == ipaddress.ip_address(own):
        message = f"remoteClusterIpAddress must be another appliance's; {address} is this one's."
        raise BadInput(faults.CLUSTER_CONFIG, message)
    if remote.is_unspecified or remote.is_multicast:
        message = f"remoteClusterIpAddress must be the address of one member; it is {address}."
        raise BadInput(faults.CLUSTER_CONFIG, message)


def listen_address(interface: str | None, interfaces: Mapping[str, str]) -> str:
    """Return the one address to bind: the interface's, the only one's, or the wildcard."""
    if interface is not None:
        return interfaces[interface]
    addresses = list(interfaces.values())
    if len(addresses) == 1:
        return addresses[0]
    return ALL_IPV6 if any(":" in address for address in addresses) else ALL_IPV4


def restart_causes(running: Setup, wanted: Setup) -> tuple[str, ...]:
    """Return why what runs differs from what is configured or installed (rule S5)."""
    causes = []
    for name, now, then in (
        ("admin", running.config.admin, wanted.config.admin),
        ("crypto", running.config.crypto, wanted.config.crypto),
    ):
        if now.interface != then.interface:
            causes.append(f"{name} interface")
        if now.port != then.port:
            causes.append(f"{name} port")
    if running.certificate_pem != wanted.certificate_pem:
        causes.append("certificate")
    if running.version != wanted.version:
        causes.append("package version")
    return tuple(causes)
