"""Settings of one appliance, read from its conclave.toml.

Unknown fields are refused, and every refusal names the field, the rule and the value.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec

from conclave import faults
from conclave.crypto.password_hash import (
    DEFAULT_COST,
    LOW_COST_FOR_TESTS,
    Argon2Cost,
    check_cost,
)
from conclave.errors import BadInput
from conclave.versions import Versions

CONFIG_FILE_NAME: Final = "conclave.toml"
MAX_KEYRINGS_EVER: Final = 1_000_000
MAX_PASSWORD_BYTES: Final = 255
CRYPTO_PORTS: Final = frozenset({50052, *range(50055, 50060)})
ADMIN_PORTS: Final = frozenset({50070, *range(50075, 50080)})
"""Ports that an administrator may choose; a configuration file may name others for tests."""


class Strictness(enum.Enum):
    """Which media types a REST door accepts."""

    VENDOR = "vendor"
    JSON = "json"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and thresholds of keyrings."""

    max_keyrings: int = 3500
    """Keyrings of one cluster."""
    max_objects: int = 256
    """Token objects of one keyring; 0 means no limit."""
    max_per_call: int = 100
    """Keyrings that one call creates."""
    min_password_characters: int = 8
    """Characters of a new keyring password."""
    lock_after: int = 10
    """Consecutive failures that lock a credential."""
    never_locks_from: int = 17
    """Characters of a password from which failures are slowed down instead of counted."""
    uncounted_up_to: int = 6
    """Attempts of at most so many characters are refused without a check and never count."""
    ticket_idle_days: int = 7
    """Days without use after which a login ends."""
    label_separator: str = ""
    """Stands between label and index in a bulk create."""
    clear_token_keys: bool = False
    """Secret and private token keys may have `CKA_PRIVATE` false: whoever has a registered client
    uses them without a login, and whoever holds the master key reads them."""
    extractable_keys: bool = True
    """Secret and private keys may leave their keyring while `CKA_EXTRACTABLE` is true; false
    refuses new ones of that kind, and neither wraps nor shows those that exist. Set it alike on all
    members."""
    fips_mechanisms: bool = False
    """Only mechanisms and curves that FIPS 140-3 approves; SHA-1 signs nothing. Set it alike on all
    members, as the four below: each member's workers hold to their own."""
    sha1_signatures: bool = True
    """SHA-1 signs; false leaves its signatures for verification."""
    legacy_mechanisms: bool = False
    """Triple DES decrypts and verifies, for what exists; nothing encrypts or signs with it."""
    min_rsa_bits: int = 2048
    """Bits of an RSA key from which it is used and generated."""
    min_curve_bits: int = 224
    """Bits of an ECDSA key from which it is used and generated."""


class RestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits and habits of the REST doors."""

    strictness: Strictness = Strictness.VENDOR
    """Media types of 8443: `vendor` accepts the vendor's template only, as Luna appliances do;
    `json` accepts application/json as well. 50070 always accepts plain JSON."""
    task_status_204: bool = False
    """Announce tasks with 204 and Location only, as old callers expect."""
    max_body_bytes: int = 65_536
    """Bytes of a request's body."""
    body_seconds: float = 30.0
    """Seconds that a body may take to arrive."""
    max_connections: int = 256
    """Connections of each door, half of them of one source; one more is closed unanswered."""


class SshSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """LunaSH, the appliance's shell over SSH, and the users' files over scp and sftp."""

    enabled: bool = True
    """Serve it."""
    port: int = 2222
    """TCP port; `conclave appliance install` sets 22, which asks for a right of its own."""
    max_connections: int = 256
    """Connections, half of them of one source; one more is closed unanswered."""
    idle_minutes: int = 30
    """Minutes without a key after which a session ends."""
    login_seconds: int = 120
    """Seconds from the connection to the end of the login."""


class ClusterTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the members of a cluster watch each other, and what they do alone."""

    core_port: int = 50051
    """TCP port of the member link on the core address; the same on all members."""
    heartbeat_ms: int = 250
    """Milliseconds between two heartbeats of a member."""
    lease_ms: int = 1500
    """Milliseconds that a member stays Read-Write after sending its last answered heartbeat."""
    drop_ms: int = 2000
    """Milliseconds after the last answer to a silent member until writes go on without it."""
    strict_primary: bool = False
    """A primary that sees no other member stops writing."""
    automatic_authorization: bool = True
    """A member that returns is authorized by a live one from memory to memory."""
    read_only_limit_seconds: int = 0
    """Seconds for which a member that is cut off goes on using private keys; 0: no limit."""


class PostgresqlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The PostgreSQL of a cluster of several members."""

    directory: str = ""
    """Directory with the programs of PostgreSQL 15 or newer; empty means those of the extra
    `cluster`, or else the distribution's newest."""
    account: str = ""
    """Account that PostgreSQL runs as when the daemon is root; empty means the first that exists
    of `conclave`, `postgres` and `nobody`."""


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The files of the appliance's users."""

    max_file_bytes: int = 256 << 20
    """Bytes of one uploaded file."""
    max_user_bytes: int = 2 << 30
    """Bytes of all files of one user together, with those that are still coming in."""


class PackageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How software comes onto the appliance."""

    cluster_service: Literal["package", "preinstalled"] = "package"
    """`package`: the secure package brings the cluster service (rule D2); `preinstalled`: it runs
    from Conclave's own source, for development."""
    minimum_versions: bool = True
    """Refuse to start the cluster service while `emulated` is below the guide's least versions."""


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The audit log."""

    reads: bool = False
    """Record calls that only read as well; refused ones always are."""
    max_file_bytes: int = 8 << 20
    """Bytes after which a new file is begun."""
    max_files: int = 32
    """Files that are kept; the oldest goes first."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log files: `messages`, `lunalogs` and one of each process."""

    max_file_bytes: int = 8 << 20
    """Bytes after which a log is begun anew."""
    max_files: int = 5
    """Files of each log that are kept, the current one included; the oldest goes first."""
    remote_ca_file: str = ""
    """PEM of the authorities that vouch for remote log hosts over TLS; "": those of the host."""


class ApplianceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of one appliance."""

    state_dir: Path
    """Where everything is kept; absent, the directory of the file."""
    host_name: str = "conclave"
    """The appliance's name, in its certificates and answers."""
    interfaces: dict[str, str] = msgspec.field(default_factory=lambda: {"eth0": "127.0.0.1"})
    """Network devices and their addresses."""
    rest_port: int = 8443
    """TCP port of REST."""
    admin_port: int = 50070
    """TCP port of the cluster's administration, until the cluster service is told another."""
    crypto_port: int = 50052
    """TCP port of the clients, until the cluster service is told another."""
    former_port_days: int = 90
    """Days for which a former crypto port stays open beside the present one, so that clients whose
    Chrystoki.conf names it go on (rule S7); looked at when the service starts. 0: it closes."""
    crypto_socket: str = ""
    """Path of a Unix socket on which the workers serve clients of the same host as well, in a
    directory that the appliance may write to; empty: none. TLS and a registered key are asked for
    as on `crypto_port`, so whoever can open it is nobody yet."""
    workers: int = 0
    """Crypto workers; 0 means one per core."""
    cache_mib: int = 64
    """Memory in which each worker keeps decrypted objects and loaded keys, in MiB; what was unused
    for longest goes first, but the keyring in use stays whole."""
    cache_idle_seconds: int = 900
    """Seconds without use after which a worker forgets a keyring's objects (rule C13)."""
    server_common_name: str = "lnh.thalesgroup.com"
    """LNHServerCN: the fixed name that a client demands of a member's certificate (rule L1)."""
    argon2: Argon2Cost = DEFAULT_COST
    """What one guess at a password costs; holds for passwords that are set from now on, while
    those that are stored keep the cost they were set with."""
    low_cost_for_tests: bool = False
    """Hash passwords at a cost that protects nothing instead of `argon2`: for tests, never in
    production (rule G2)."""
    so_lockout: Literal["zeroize", "backoff"] = "zeroize"
    """What three wrong HSM SO passwords do (rule K5)."""
    missing_right_status: Literal[401, 403] = 403
    """HTTP status of a missing right (rule K5)."""
    limits: Limits = Limits()
    """Limits and thresholds of keyrings."""
    rest: RestSettings = RestSettings()
    """Limits and habits of the REST doors."""
    ssh: SshSettings = SshSettings()
    """LunaSH over SSH."""
    cluster: ClusterTimes = ClusterTimes()
    """How members watch each other."""
    postgresql: PostgresqlSettings = PostgresqlSettings()
    """The store of a cluster of several members."""
    packages: PackageSettings = PackageSettings()
    """How software comes onto the appliance."""
    files: FileSettings = FileSettings()
    """The files of the appliance's users."""
    emulated: Versions = Versions()
    """Versions that the appliance shows, for those who know the guide's family (rule D6)."""
    audit: AuditSettings = AuditSettings()
    """The audit log."""
    logs: LogSettings = LogSettings()
    """The log files."""
    host_power: bool = False
    """The appliance may reboot its host and power it off; `conclave appliance install` sets it."""

    @property
    def password_cost(self) -> Argon2Cost:
        """Return the cost of one password check in this installation."""
        return LOW_COST_FOR_TESTS if self.low_cost_for_tests else self.argon2


NUMBER_RULES: Final[Mapping[str, tuple[int, int]]] = {
    "rest_port": (1, 65_535),
    "admin_port": (1, 65_535),
    "crypto_port": (1, 65_535),
    "former_port_days": (0, 3650),
    "workers": (0, 64),
    "cache_mib": (1, 65_536),
    "cache_idle_seconds": (1, 86_400),
    "limits.max_keyrings": (1, MAX_KEYRINGS_EVER),
    "limits.max_objects": (0, 1_000_000),
    "limits.max_per_call": (1, 1000),
    "limits.min_password_characters": (1, 64),
    "limits.lock_after": (1, 100),
    "limits.never_locks_from": (2, 255),
    "limits.uncounted_up_to": (0, 64),
    "limits.min_rsa_bits": (2048, 4096),
    "limits.min_curve_bits": (224, 521),
    "limits.ticket_idle_days": (1, 3650),
    "cluster.core_port": (1, 65_535),
    "cluster.heartbeat_ms": (20, 10_000),
    "cluster.lease_ms": (100, 60_000),
    "cluster.drop_ms": (200, 120_000),
    "cluster.read_only_limit_seconds": (0, 31_536_000),
    "files.max_file_bytes": (1 << 20, 1 << 40),
    "files.max_user_bytes": (1 << 20, 1 << 44),
    "rest.max_body_bytes": (4096, 4 << 20),
    "rest.body_seconds": (1, 600),
    "rest.max_connections": (1, 10_000),
    "audit.max_file_bytes": (65_536, 1 << 30),
    "audit.max_files": (2, 1000),
    "logs.max_file_bytes": (4096, 1 << 30),
    "logs.max_files": (2, 100),
    "ssh.port": (1, 65_535),
    "ssh.max_connections": (1, 10_000),
    "ssh.idle_minutes": (1, 1440),
    "ssh.login_seconds": (5, 600),
}
"""Lowest and highest value."""
WORD_RULES: Final[Mapping[str, str]] = {
    "limits.uncounted_up_to": "must be below limits.min_password_characters",
    "cluster.lease_ms": "must be two heartbeats at least and less than cluster.drop_ms",
    "limits.label_separator": "must be at most 8 printable bytes",
    "host_name": "must be a host name",
    "crypto_socket": "must be an absolute path of at most 107 bytes, or empty",
    "server_common_name": "must be 1 to 64 printable characters",
    "interfaces": "must name one device such as eth0 at least, each with an IP address",
}
"""What a number's range does not say, in the words of a refusal."""
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_DEVICE_NAME: Final = re.compile(r"[a-z][a-z0-9.:-]{0,15}")


def load_config(path: Path) -> ApplianceConfig:
    """Read and check a configuration file; `state_dir` is its directory unless the file says else.

    Raises BadInput when the file is unreadable or a field breaks a rule.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        message = f"The configuration {path} cannot be read: {cause.strerror}."
        raise BadInput(faults.BAD_REQUEST, message) from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        message = f"The configuration {path} is not TOML: {cause}."
        raise BadInput(faults.BAD_REQUEST, message) from cause
    document.setdefault("state_dir", str(path.parent.absolute()))
    try:
        config = msgspec.convert(document, ApplianceConfig, dec_hook=_decode)
    except msgspec.ValidationError as cause:
        message = f"The configuration {path} is refused: {cause}{_value_at(document, str(cause))}."
        raise BadInput(faults.BAD_REQUEST, message) from cause
    check_config(config)
    return config


def check_config(config: ApplianceConfig) -> None:
    """Refuse a configuration whose values break a rule, naming field, rule and value."""
    for field, (low, high) in NUMBER_RULES.items():
        _check_range(field, _look_up(config, field), low, high)
    check_cost(config.argon2, allow_low_cost=config.low_cost_for_tests)
    limits, name = config.limits, config.server_common_name
    times = config.cluster
    if not 2 * times.heartbeat_ms <= times.lease_ms < times.drop_ms:
        _refuse("cluster.lease_ms", times.lease_ms)
    if limits.uncounted_up_to >= limits.min_password_characters:
        _refuse("limits.uncounted_up_to", limits.uncounted_up_to)
    if len(limits.label_separator.encode()) > 8 or not _printable(limits.label_separator):
        _refuse("limits.label_separator", limits.label_separator)
    if config.crypto_socket and not _is_socket_path(config.crypto_socket):
        _refuse("crypto_socket", config.crypto_socket)
    if not _HOST_NAME.fullmatch(config.host_name):
        _refuse("host_name", config.host_name)
    if not 1 <= len(name) <= 64 or not _printable(name):
        _refuse("server_common_name", name)
    _check_interfaces(config.interfaces)


def write_config(config: ApplianceConfig, path: Path) -> None:
    """Write a configuration file of mode 0600, whole or not at all."""
    check_config(config)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(render_config(config))
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def render_config(config: ApplianceConfig) -> str:
    """Return a configuration as TOML."""
    return "\n".join(_toml_lines(msgspec.to_builtins(config, enc_hook=str))) + "\n"


def _toml_lines(table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        if not isinstance(value, dict):
            yield f"{name} = {_toml_scalar(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{name}]"
            yield from (f"{json.dumps(key)} = {_toml_scalar(item)}" for key, item in value.items())


def _toml_scalar(value: object) -> str:
    # JSON's strings, numbers and booleans are TOML's as well.
    return json.dumps(value, ensure_ascii=False)


def _decode(wanted: type, value: object) -> object:
    if wanted is Path and isinstance(value, str) and value:
        return Path(value)
    message = f"Expected `path`, got `{type(value).__name__}`"
    raise ValueError(message)


def _value_at(document: Mapping[str, object], complaint: str) -> str:
    """Return ', value ...' for the field that a msgspec complaint ends with, if it can be found."""
    found = re.search(r"at `\$\.([a-z0-9_.]+)`", complaint)
    value: object = document
    for part in found.group(1).split(".") if found else ():
        value = value.get(part) if isinstance(value, dict) else None
    return f", value {value!r}" if found else ""


def _look_up(config: ApplianceConfig, field: str) -> float:
    value: object = config
    for part in field.split("."):
        value = getattr(value, part)
    assert isinstance(value, int | float)  # noqa: S101 - the table names numeric fields only
    return value


def _is_socket_path(text: str) -> bool:
    # sun_path has 108 bytes with its final zero (unix(7)).
    return text.startswith("/") and "\0" not in text and len(os.fsencode(text)) <= 107


def _check_range(field: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        _refuse(field, value, f"must lie between {low} and {high}")


def _check_interfaces(interfaces: Mapping[str, str]) -> None:
    if not interfaces:
        _refuse("interfaces", interfaces)
    for device, address in interfaces.items():
        if not _DEVICE_NAME.fullmatch(device):
            _refuse("interfaces", device, "must have device names such as eth0")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            _refuse(f"interfaces.{device}", address, "must be an IP address")


def _printable(text: str) -> bool:
    return all(character.isprintable() for character in text)


def _refuse(field: str, value: object, rule: str = "") -> NoReturn:
    message = f"Setting {field} {rule or WORD_RULES[field]}; it is {value!r}."
    raise BadInput(faults.BAD_REQUEST, message)
