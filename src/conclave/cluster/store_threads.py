"""The threads that own the cluster store: one that writes, one that reads.

Invariant: commit, then bump the shared page, then answer (rule C15).  Nobody is told of success
before COMMIT has returned and every synchronous standby has what it committed; of a batch whose
COMMIT fails, nothing is kept and nobody is told of success.  A job that refuses takes only its own
changes back.  What one job has read is taken for read by the next only while this thread, the
store's only writer, changes nothing but objects between them, on one and the same connection.
Where there are other members, they are told between commit and answer: `acknowledge` returns once
every visible one has taken note.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from conclave import faults
from conclave.errors import ConclaveError, InternalFault, NotAllowed, Unavailable
from conclave.store.engine import postgresql_was_lost, replication_was_cancelled
from conclave.store.repository import ClusterReader, ClusterWriter, Seen, Touched

MAX_QUEUED: Final = 1024
MAX_BATCH: Final = 128
CLOSE_SECONDS: Final = 10.0
READ_SECONDS: Final = 10.0
DISK_FULL_STATE: Final = "53100"
READ_ONLY_STATE: Final = "25006"
"""SQLSTATE of PostgreSQL: a standby, or one that was made read-only, was told to write."""
_UNKNOWN_MESSAGE: Final = (
    "The cluster store failed while it was committing; the outcome is unknown."
)

T = TypeVar("T")
WriteJob = Callable[[ClusterWriter], T]
ReadJob = Callable[[ClusterReader], T]
Publish = Callable[[Touched], None]
Acknowledge = Callable[[Touched], Awaitable[None]]
"""Raises Unavailable (OUTCOME_UNKNOWN) when what was committed may not be answered as done."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Queued:
    work: WriteJob[Any]
    answer: asyncio.Future[Any]
    internal: bool = False
    objects_only: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    internal: bool = False

    def deliver(self) -> None:
        """Wake whoever waits; runs in the event loop."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


class WriterThread:
    """The only writer: takes all queued jobs, commits them together, bumps, answers."""

    def __init__(
        self,
        engine: Engine,
        publish: Publish,
        acknowledge: Acknowledge | None = None,
        *,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._engine = engine
        self._publish = publish
        self._acknowledge = acknowledge
        self._acknowledging: set[asyncio.Task[None]] = set()
        # Made by the thread: a connect may take seconds, and the loop must go on meanwhile.
        self._connection: Connection | None = None
        self._queue: queue.Queue[_Queued | None] = queue.Queue(max_queued)
        self._failing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def write(
        self, work: WriteJob[T], *, internal: bool = False, objects_only: bool = False
    ) -> T:
        """Run `work` inside a transaction of its own and return its result once it is durable.

        An `internal` change is what acknowledging itself needs: it is answered without that.
        Work that changes objects and their records only may say so: see `ClusterWriter.once`.
        Raises what `work` raises; Unavailable when the queue or the disk is full, or with
        OUTCOME_UNKNOWN when the disk failed in the middle of COMMIT.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        try:
            self._queue.put_nowait(_Queued(work, answer, internal, objects_only))
        except queue.Full:
            message = "Too many changes of the cluster store wait; try again."
            raise Unavailable(faults.BUSY, message) from None
        return await answer

    def close(self) -> None:
        """Carry out what is queued, then end the thread."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        running = True
        while running:
            batch, running = self._next_batch()
            if batch:
                touched, outcomes = self._carry_out(batch)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    self._loop.call_soon_threadsafe(self._answer, touched, outcomes)
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> tuple[list[_Queued], bool]:
        """Return what is queued, waiting for a first job, and whether to go on after it."""
        batch: list[_Queued] = []
        item = self._queue.get()
        while item is not None:
            if not item.answer.cancelled():
                batch.append(item)
            if len(batch) >= MAX_BATCH:
                return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _carry_out(self, batch: Sequence[_Queued]) -> tuple[Touched, list[_Outcome]]:
        try:
            touched, outcomes = self._commit(batch)
            self._publish(touched)
        except ConclaveError as error:
            return Touched(), [_Outcome(job.answer, error=error) for job in batch]
        except Exception as error:
            # The boundary of the thread: it must live on, and whoever waits must learn of it.
            logger.exception("The writer of the cluster store failed.")
            return Touched(), [_Outcome(job.answer, error=error) for job in batch]
        return touched, outcomes

    # ------------------------------------------------------------------ in the event loop

    def _answer(self, touched: Touched, outcomes: Sequence[_Outcome]) -> None:
        """Answer everybody of a batch, after the other members were told of it."""
        if self._acknowledge is None or not touched.anything:
            _deliver(outcomes)
            return
        _deliver([outcome for outcome in outcomes if outcome.internal])
        others = [outcome for outcome in outcomes if not outcome.internal]
        task = self._loop.create_task(self._answer_later(self._acknowledge(touched), others))
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)

    async def _answer_later(self, told: Awaitable[None], outcomes: Sequence[_Outcome]) -> None:
        try:
            await told
        except ConclaveError as error:
            outcomes = _unknown(outcomes, error)
        except Exception as error:
            # The boundary of a task: whoever waits must learn that nothing is known.
            logger.exception("The other members could not be told of a change.")
            message = "The change is stored; whether the other members know is not known."
            unknown = Unavailable(faults.OUTCOME_UNKNOWN, message)
            outcomes = _unknown(outcomes, _caused(unknown, error))
        _deliver(outcomes)

    # ------------------------------------------------------------------ in the thread again

    def _commit(self, batch: Sequence[_Queued]) -> tuple[Touched, list[_Outcome]]:
        touched = Touched()
        committing = False
        try:
            connection = self._connected()
            with connection.begin() as transaction:
                outcomes = _run_jobs(connection, batch, touched)
                if len(batch) == 1 and outcomes[0].error is not None:
                    transaction.rollback()
                else:
                    committing = True
                    transaction.commit()
            if replication_was_cancelled(connection):
                self._reopen()
                self._publish(Touched(everything=True))
                raise Unavailable(faults.OUTCOME_UNKNOWN, _UNKNOWN_MESSAGE)
        except DBAPIError as error:
            if not self._failing:
                # Said once: a full disk is full for the log as well.
                logger.error("The cluster store refuses changes: %s", error.orig)
            self._failing = True
            self._reopen()
            if committing:
                # It may be in the store nevertheless, and nobody may ask again.
                self._publish(Touched(everything=True))
            raise storage_error(error, committing=committing) from error
        if self._failing:
            logger.warning("The cluster store takes changes again.")
        self._failing = False
        return touched, outcomes

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._engine.connect()
        return self._connection

    def _reopen(self) -> None:
        """Open the store anew, or leave that to the next batch when it does not open now."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.close()
        with contextlib.suppress(DBAPIError):
            self._connection = self._engine.connect()


def _run_jobs(connection: Connection, batch: Sequence[_Queued], touched: Touched) -> list[_Outcome]:
    """Carry out a batch; what a lone job did that refuses is the caller's to take back."""
    # Kept with the connection to the store, and lost with it.
    seen: Seen = connection.info.setdefault("seen", {})
    outcomes = []
    for job in batch:
        if not job.objects_only:
            seen.clear()
        run = _run_job if len(batch) == 1 else _run_apart
        outcomes.append(run(connection, job, touched, seen))
        if not job.objects_only:
            seen.clear()
    return outcomes


def _run_apart(connection: Connection, job: _Queued, touched: Touched, seen: Seen) -> _Outcome:
    """Carry out a job; one that refuses leaves the others of its transaction alone."""
    # The library's own nested transaction costs as much as three statements more.
    connection.exec_driver_sql("SAVEPOINT job")
    outcome = _run_job(connection, job, touched, seen)
    if outcome.error is not None:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
    connection.exec_driver_sql("RELEASE SAVEPOINT job")
    return outcome


def _run_job(connection: Connection, job: _Queued, touched: Touched, seen: Seen) -> _Outcome:
    writer = ClusterWriter(connection, seen)
    try:
        result = job.work(writer)
    except IntegrityError as error:
        logger.exception("A change broke a constraint of the cluster store.")
        message = "The change breaks a constraint of the cluster store; the log has the cause."
        return _Outcome(job.answer, error=_caused(InternalFault(faults.INTERNAL, message), error))
    except DBAPIError:
        raise  # SQLite may have ended the whole transaction already
    except Exception as error:  # noqa: BLE001 - handed to whoever waits, who logs what is unexpected
        return _Outcome(job.answer, error=error)
    touched.add(writer.touched)
    return _Outcome(job.answer, result=result, internal=job.internal)


def _deliver(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.deliver()


def _unknown(outcomes: Sequence[_Outcome], error: ConclaveError) -> list[_Outcome]:
    return [each if each.error else _Outcome(each.answer, error=error) for each in outcomes]


def _caused(error: ConclaveError, cause: Exception) -> ConclaveError:
    error.__cause__ = cause
    return error


def storage_error(error: DBAPIError, *, committing: bool) -> ConclaveError:
    """Say what a failure of the store means for the change under way."""
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    state = getattr(error.orig, "sqlstate", None)
    if code == sqlite3.SQLITE_FULL or state == DISK_FULL_STATE:
        message = "The disk of the cluster store is full; nothing was changed."
        return Unavailable(faults.STORAGE_FULL, message)
    if state == READ_ONLY_STATE:
        message = "This member's store is not the primary's; nothing was changed."
        return NotAllowed(faults.MEMBER_READ_ONLY, message)
    if code == sqlite3.SQLITE_BUSY:
        message = "The cluster store is in use elsewhere; nothing was changed."
        return Unavailable(faults.BUSY, message)
    if committing:
        return Unavailable(faults.OUTCOME_UNKNOWN, _UNKNOWN_MESSAGE)
    if postgresql_was_lost(error):
        # The server is gone or going; without COMMIT it takes everything back.
        message = "The connection to the cluster store was lost; nothing was changed."
        return Unavailable(faults.POSTGRESQL_UNAVAILABLE, message)
    message = "The cluster store cannot be written; nothing was changed. The log has the cause."
    return InternalFault(faults.STORAGE_FAILED, message)


class ReaderThread:
    """Answer questions to the store off the event loop."""

    def __init__(self, open_reader: Callable[[], ClusterReader]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._open = open_reader
        # Opened by the thread, at the first question: the loop must go on meanwhile.
        self._reader: ClusterReader | None = None
        self._closed = False

    async def read(self, work: ReadJob[T]) -> T:
        """Return the result of `work`, which sees the newest commit.

        A lost connection to PostgreSQL is made once more; raises Unavailable when that fails too.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await loop.run_in_executor(self._executor, self._work, work)
        except TimeoutError as error:
            message = f"The cluster store did not answer within {READ_SECONDS:g} s; try again."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from error
        except RuntimeError as error:
            if not self._closed:
                raise
            message = "The cluster store was closed; try again."
            raise Unavailable(faults.BUSY, message) from error

    def close(self) -> None:
        """End the thread and let go of the store; a question that hangs is left to itself."""
        self._closed = True
        ended = self._executor.submit(self._forget)
        self._executor.shutdown(wait=False)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            ended.result(CLOSE_SECONDS)

    def _work(self, work: ReadJob[T]) -> T:
        try:
            return self._attempt(work)
        except DBAPIError as error:
            if not postgresql_was_lost(error):
                raise
        # The server was started anew, or ended a reader that held up the log: ask again.
        try:
            return self._attempt(work)
        except DBAPIError as error:
            message = "The cluster store cannot be read now; the log has the cause."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from error

    def _attempt(self, work: ReadJob[T]) -> T:
        if self._reader is None:
            self._reader = self._open()
        try:
            return work(self._reader)
        except DBAPIError:
            self._forget()
            raise

    def _forget(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(DBAPIError):
                reader.close()
