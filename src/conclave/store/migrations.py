"""Bring a cluster store to the newest schema, one version after the other.

Invariant: each step and its version number commit together, so an interrupted migration goes on
where it was; a store newer than this program is refused and left as it is.

Steps are frozen text: a step that was ever released is never edited, a new one is added.
"""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import Connection, Engine, insert, inspect, select, text, update

from conclave import faults
from conclave.errors import InternalFault
from conclave.store.schema import SCHEMA_VERSION, schema_version

logger = logging.getLogger(__name__)

_V1: Final = (
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
    "INSERT INTO counters (name, value) VALUES ('revision', 0)",
    "INSERT INTO counters (name, value) VALUES ('slot', 0)",
    """CREATE TABLE cluster_state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        cluster_id TEXT NOT NULL,
        label TEXT NOT NULL,
        dual_identity BOOLEAN NOT NULL,
        epoch_number BIGINT NOT NULL,
        epoch_member TEXT NOT NULL,
        primary_member TEXT NOT NULL,
        visible TEXT NOT NULL,
        feature_level INTEGER NOT NULL,
        sealed_keys {bytes} NOT NULL,
        ca_certificate_der {bytes} NOT NULL)""",
    """CREATE TABLE members (
        member_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        admin_port INTEGER NOT NULL,
        crypto_port INTEGER NOT NULL,
        affinity_group TEXT NOT NULL,
        key_sha256 {bytes} NOT NULL,
        certificate_der {bytes} NOT NULL)""",
    """CREATE TABLE users (
        user_id TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        full_name TEXT NOT NULL,
        email TEXT NOT NULL,
        verifier {bytes} NOT NULL,
        enabled BOOLEAN NOT NULL,
        revision BIGINT NOT NULL)""",
    """CREATE TABLE clients (
        client_id {bytes} PRIMARY KEY,
        common_name TEXT NOT NULL,
        label TEXT NOT NULL,
        monitor_user TEXT NOT NULL,
        key_sha256 {bytes} NOT NULL UNIQUE,
        certificate_der {bytes} NOT NULL,
        revoked BOOLEAN NOT NULL,
        created_ms BIGINT NOT NULL)""",
    """CREATE TABLE keyrings (
        keyring_id {bytes} PRIMARY KEY,
        label TEXT NOT NULL UNIQUE,
        serial TEXT NOT NULL UNIQUE,
        slot BIGINT NOT NULL UNIQUE,
        state INTEGER NOT NULL,
        key_generation BIGINT NOT NULL,
        authorization_version {bytes} NOT NULL,
        check_value {bytes} NOT NULL,
        krso_salt {bytes} NOT NULL,
        krso_sealed_outer {bytes} NOT NULL,
        krso_never_locks BOOLEAN NOT NULL,
        krso_failures INTEGER NOT NULL,
        krco_salt {bytes},
        krco_sealed_outer {bytes},
        krco_never_locks BOOLEAN,
        krco_failures INTEGER,
        revision BIGINT NOT NULL,
        created_ms BIGINT NOT NULL)""",
    """CREATE TABLE objects (
        keyring_id {bytes} NOT NULL REFERENCES keyrings (keyring_id),
        object_id {bytes} NOT NULL,
        private BOOLEAN NOT NULL,
        version BIGINT NOT NULL,
        key_generation BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        blob {bytes} NOT NULL,
        mac {bytes} NOT NULL,
        PRIMARY KEY (keyring_id, object_id))""",
    """CREATE TABLE idempotency (
        record_id {bytes} PRIMARY KEY,
        keyring_id {bytes} NOT NULL,
        request_mac {bytes} NOT NULL,
        result {bytes} NOT NULL,
        revision BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL)""",
    "CREATE INDEX idempotency_by_expiry ON idempotency (expires_ms)",
)

_V2: Final = (
    # A list that is there already is the first one.
    "INSERT INTO counters (name, value)"
    " SELECT 'users', CASE WHEN COUNT(*) > 0 THEN 1 ELSE 0 END FROM users",
)

_V3: Final = (
    """CREATE TABLE enrolment_tokens (
        token_id {bytes} PRIMARY KEY,
        secret_sha256 {bytes} NOT NULL,
        common_name TEXT NOT NULL,
        label TEXT NOT NULL,
        monitor_user TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL,
        revoked BOOLEAN NOT NULL,
        client_id {bytes},
        used_ms BIGINT NOT NULL)""",
    """CREATE TABLE assignments (
        client_id {bytes} NOT NULL REFERENCES clients (client_id),
        keyring_id {bytes} NOT NULL REFERENCES keyrings (keyring_id),
        PRIMARY KEY (client_id, keyring_id))""",
    "ALTER TABLE cluster_state ADD COLUMN assigned BOOLEAN NOT NULL DEFAULT FALSE",
)

STEPS: Final[dict[int, tuple[str, ...]]] = {1: _V1, 2: _V2, 3: _V3}
"""Statements that lead from the version before to this one; {bytes} is the engine's byte type."""

_BYTE_TYPES: Final = {"sqlite": "BLOB", "postgresql": "BYTEA"}


def migrate(engine: Engine) -> None:
    """Apply the steps that the store lacks; raise InternalFault when it is newer than we are."""
    with engine.begin() as connection:
        version = stored_version(connection)
    if version > SCHEMA_VERSION:
        raise InternalFault(
            faults.STORE_TOO_NEW,
            f"The cluster store has schema version {version}, this program knows {SCHEMA_VERSION}:"
            " install the release that wrote it, or a newer one.",
        )
    for step in range(version + 1, SCHEMA_VERSION + 1):
        with engine.begin() as connection:
            # Asked again under the write lock: another process may have been faster.
            if stored_version(connection) < step:
                _apply(connection, step)
                logger.info("The cluster store has schema version %d now.", step)


def stored_version(connection: Connection) -> int:
    """Return the schema version of a store, 0 for an empty one."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    version: int = connection.execute(select(schema_version.c.version)).scalar_one()
    return version


def _apply(connection: Connection, step: int) -> None:
    if step == 1:
        schema_version.create(connection)
        connection.execute(insert(schema_version).values(id=1, version=0))
    byte_type = _BYTE_TYPES[connection.dialect.name]
    for statement in STEPS[step]:
        connection.execute(text(statement.replace("{bytes}", byte_type)))
    connection.execute(update(schema_version).values(version=step))
