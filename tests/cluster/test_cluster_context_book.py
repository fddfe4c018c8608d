"""C14: a proof of the password is good for one use, for a minute, at the member that gave it."""

from __future__ import annotations

import os

import pytest

from conclave import faults
from conclave.cluster import context_book
from conclave.cluster.context_book import ContextBook
from conclave.errors import CredentialRefused, Unavailable
from conclave.service.messages import SpendContext

NOW_MS = 1_000_000
ONE, OTHER = os.urandom(16), os.urandom(16)
USE, OTHER_USE = os.urandom(32), os.urandom(32)


def spend(book: ContextBook, context_id: bytes, use: bytes, now_ms: int = NOW_MS) -> None:
    book.spend(SpendContext(member_id="member", context_id=context_id, use_digest=use), now_ms)


def refused(book: ContextBook, context_id: bytes, use: bytes, now_ms: int = NOW_MS) -> None:
    with pytest.raises(CredentialRefused) as caught:
        spend(book, context_id, use, now_ms)
    assert caught.value.fault is faults.NOT_LOGGED_IN


def test_a_proof_serves_one_use_however_often_that_is_sent() -> None:
    book = ContextBook()
    book.issue(ONE, NOW_MS)
    spend(book, ONE, USE)
    spend(book, ONE, USE)
    refused(book, ONE, OTHER_USE)
    spend(book, ONE, USE)


def test_a_proof_that_was_not_given_here_is_none() -> None:
    book = ContextBook()
    book.issue(ONE, NOW_MS)
    refused(book, OTHER, USE)
    refused(ContextBook(), ONE, USE)


def test_a_proof_lasts_a_minute() -> None:
    book = ContextBook()
    assert book.issue(ONE, NOW_MS) == NOW_MS + 60_000
    spend(book, ONE, USE, NOW_MS + 59_999)
    refused(book, ONE, USE, NOW_MS + 60_000)


def test_the_book_forgets_what_has_expired_and_takes_no_more_than_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context_book, "MAX_CONTEXTS", 2)
    book = ContextBook()
    book.issue(ONE, NOW_MS)
    book.issue(OTHER, NOW_MS + 1000)
    with pytest.raises(Unavailable) as caught:
        book.issue(os.urandom(16), NOW_MS + 59_999)
    assert caught.value.fault is faults.BUSY
    book.issue(os.urandom(16), NOW_MS + 60_000)
    refused(book, ONE, USE, NOW_MS + 60_000)
    spend(book, OTHER, USE, NOW_MS + 60_000)
