"""Tables of the cluster store, as they are at the newest schema version.

Only what SQLite and PostgreSQL share is used: integers instead of dates, counters of our own
instead of sequences, no arrays, no upserts.  `migrations` makes the tables; a test compares.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

SCHEMA_VERSION: Final = 3
REVISION_COUNTER: Final = "revision"
SLOT_COUNTER: Final = "slot"
USERS_COUNTER: Final = "users"
"""The version of the list of users, 0 before there is one."""

metadata: Final = MetaData()

schema_version: Final = Table(
    "schema_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

counters: Final = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

cluster_state: Final = Table(
    "cluster_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("cluster_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("dual_identity", Boolean, nullable=False),
    Column("epoch_number", BigInteger, nullable=False),
    Column("epoch_member", Text, nullable=False),
    Column("primary_member", Text, nullable=False),
    Column("visible", Text, nullable=False),
    Column("feature_level", Integer, nullable=False),
    Column("sealed_keys", LargeBinary, nullable=False),
    Column("ca_certificate_der", LargeBinary, nullable=False),
    Column("assigned", Boolean, nullable=False),
)

members: Final = Table(
    "members",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("admin_port", Integer, nullable=False),
    Column("crypto_port", Integer, nullable=False),
    Column("affinity_group", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False),
    Column("certificate_der", LargeBinary, nullable=False),
)

users: Final = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("full_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("verifier", LargeBinary, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

clients: Final = Table(
    "clients",
    metadata,
    Column("client_id", LargeBinary, primary_key=True),
    Column("common_name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("monitor_user", Text, nullable=False),
    Column("key_sha256", LargeBinary, nullable=False, unique=True),
    Column("certificate_der", LargeBinary, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

enrolment_tokens: Final = Table(
    "enrolment_tokens",
    metadata,
    Column("token_id", LargeBinary, primary_key=True),
    Column("secret_sha256", LargeBinary, nullable=False),
    Column("common_name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("monitor_user", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("client_id", LargeBinary),
    Column("used_ms", BigInteger, nullable=False),
)

assignments: Final = Table(
    "assignments",
    metadata,
    Column("client_id", LargeBinary, ForeignKey("clients.client_id"), primary_key=True),
    Column("keyring_id", LargeBinary, ForeignKey("keyrings.keyring_id"), primary_key=True),
)

keyrings: Final = Table(
    "keyrings",
    metadata,
    Column("keyring_id", LargeBinary, primary_key=True),
    Column("label", Text, nullable=False, unique=True),
    Column("serial", Text, nullable=False, unique=True),
    Column("slot", BigInteger, nullable=False, unique=True),
    Column("state", Integer, nullable=False),
    Column("key_generation", BigInteger, nullable=False),
    Column("authorization_version", LargeBinary, nullable=False),
    Column("check_value", LargeBinary, nullable=False),
    Column("krso_salt", LargeBinary, nullable=False),
    Column("krso_sealed_outer", LargeBinary, nullable=False),
    Column("krso_never_locks", Boolean, nullable=False),
    Column("krso_failures", Integer, nullable=False),
    Column("krco_salt", LargeBinary),
    Column("krco_sealed_outer", LargeBinary),
    Column("krco_never_locks", Boolean),
    Column("krco_failures", Integer),
    Column("revision", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

objects: Final = Table(
    "objects",
    metadata,
    Column("keyring_id", LargeBinary, ForeignKey("keyrings.keyring_id"), primary_key=True),
    Column("object_id", LargeBinary, primary_key=True),
    Column("private", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("key_generation", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("record_id", LargeBinary, primary_key=True),
    Column("keyring_id", LargeBinary, nullable=False),
    Column("request_mac", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index("idempotency_by_expiry", "expires_ms"),
)
