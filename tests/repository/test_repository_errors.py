"""The error table: one row per fault, and a page that is current."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
from sqlalchemy.exc import OperationalError

from conclave.cluster.store_threads import storage_error
from conclave.error_table import markdown, rows

ROOT = Path(__file__).parents[2]


def test_the_page_of_errors_is_current() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    assert page == markdown(), "run: python -m conclave.error_table > docs/errors.md"


def test_every_fault_has_a_text_and_a_sensible_status() -> None:
    assert len(rows()) > 40
    for name, fault in rows():
        assert fault.title, name
        assert 400 <= fault.http_status < 600, name


def test_what_was_not_done_because_postgresql_was_away_may_be_repeated() -> None:
    assert storage_error(lost_connection(), committing=False).fault.retry_is_safe
    assert not storage_error(lost_connection(), committing=True).fault.retry_is_safe


def lost_connection() -> OperationalError:
    return OperationalError("INSERT", None, psycopg.OperationalError("server closed"))


def test_an_identifier_means_one_status() -> None:
    statuses = Counter(
        rest_id for rest_id, _ in {(fault.rest_id, fault.http_status) for _, fault in rows()}
    )
    assert [rest_id for rest_id, count in statuses.items() if count > 1] == []


def test_row_names_are_unique_so_that_they_can_cross_a_channel() -> None:
    assert len({name for name, _ in rows()}) == len(rows())
    assert len({id(fault) for _, fault in rows()}) == len(rows())
