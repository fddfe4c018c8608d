"""Enrolment tokens in the cluster store: only the hash of a secret ever gets here.

Invariant: a token is spent by one statement that names its unspent state, in the transaction that
lists the client, so two registrations never share one.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, func, insert, or_, select, update

from conclave.ids import ClientId, EnrolmentTokenId
from conclave.store import mapping, schema
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import EnrolmentTokenRow

_TABLE = schema.enrolment_tokens


def find_token(reader: ClusterReader, token_id: EnrolmentTokenId) -> EnrolmentTokenRow | None:
    """Return a token, None when there is none of that id."""
    query = select(_TABLE).where(_TABLE.c.token_id == token_id)
    row = reader.connection.execute(query).one_or_none()
    return mapping.enrolment_token(row) if row else None


def all_tokens(reader: ClusterReader) -> list[EnrolmentTokenRow]:
    """Return the tokens in the order in which they were made."""
    query = select(_TABLE).order_by(_TABLE.c.created_ms, _TABLE.c.token_id)
    return [mapping.enrolment_token(row) for row in reader.connection.execute(query)]


def token_count(reader: ClusterReader) -> int:
    """Return how many tokens are listed, whatever became of them."""
    return reader.connection.execute(select(func.count()).select_from(_TABLE)).scalar_one()


def insert_token(writer: ClusterWriter, row: EnrolmentTokenRow) -> None:
    """Insert a token of a new id."""
    writer.connection.execute(insert(_TABLE), mapping.enrolment_token_values(row))
    writer.next_revision()


def revoke_token(writer: ClusterWriter, token_id: EnrolmentTokenId) -> bool:
    """Revoke a token for good unless it was used; tell whether there was one to revoke."""
    open_one = (_TABLE.c.token_id == token_id) & _TABLE.c.client_id.is_(None)
    found = writer.connection.execute(update(_TABLE).where(open_one).values(revoked=True))
    writer.next_revision()
    return found.rowcount == 1


def spend_token(
    writer: ClusterWriter, token_id: EnrolmentTokenId, client_id: ClientId, now_ms: int
) -> bool:
    """Spend a token for a client; tell whether it was still there to be spent."""
    unspent = (
        (_TABLE.c.token_id == token_id)
        & _TABLE.c.client_id.is_(None)
        & _TABLE.c.revoked.is_(False)
        & (_TABLE.c.expires_ms > now_ms)
    )
    values = {"client_id": client_id, "used_ms": now_ms}
    found = writer.connection.execute(update(_TABLE).where(unspent).values(values))
    writer.next_revision()
    return found.rowcount == 1


def is_monitor_user(reader: ClusterReader, user_id: str) -> bool:
    """Tell whether a client or a token names a user as its monitor user, or ever did."""
    by_token = exists().where(_TABLE.c.monitor_user == user_id)
    by_client = exists().where(schema.clients.c.monitor_user == user_id)
    named = reader.connection.execute(select(or_(by_token, by_client))).scalar_one()
    return bool(named)


def forget_tokens(writer: ClusterWriter, ended_before_ms: int) -> None:
    """Delete tokens whose time was over before an instant, whether used, revoked or neither.

    The last token of a monitor user whom no client names stays: who was once named as a customer
    must not become a user who sees everything.
    """
    user, newer = _TABLE.c.monitor_user, _TABLE.alias()
    ends_later = or_(
        newer.c.expires_ms > _TABLE.c.expires_ms,
        and_(newer.c.expires_ms == _TABLE.c.expires_ms, newer.c.token_id > _TABLE.c.token_id),
    )
    by_token = exists().where(newer.c.monitor_user == user, ends_later)
    by_client = exists().where(schema.clients.c.monitor_user == user)
    named_elsewhere = or_(user == "", by_token, by_client)
    over = _TABLE.c.expires_ms < ended_before_ms
    writer.connection.execute(delete(_TABLE).where(over, named_elsewhere))
