"""central.db: one writing thread, any number of readers.

Everything that changes central.db passes through `write`, in one thread, in the order it was asked for. All jobs that
wait when the thread is free are committed as one transaction, so a burst costs one flush to disk and not one each;
`write` returns only after that commit, so what it reports is on the disk. A job that raises is rolled back alone.

The event loop awaits `write` and `read`. Code that runs in a thread of its own calls `submit` and `read_here`, which
saves it the way to another thread and back.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from host.central import install, upgrade
from shared_schema.clock import Clock, to_text
from shared_schema.database import open_reader, open_writer, snapshot, transaction, translate
from shared_schema.migrate import Schema, migrate, version_of

log = logging.getLogger(__name__)

T = TypeVar("T")

CENTRAL = Schema("central.db", Path(__file__).parent / "migrations")
_MAX_JOBS = 64
_WAIT_SECONDS = 0.03
"""How long what can wait waits for a commit to go along with: as long as a quick answer takes."""

SMALL_CACHE = "PRAGMA cache_size = -256"  # KiB: there is a reader in every thread


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    done: Future[Any]
    context: contextvars.Context  # of who asks: the audit log wants to know on whose behalf something is changed
    can_wait: bool = False


_NONE_NOW = _Job(lambda connection: None, Future(), contextvars.Context())


class Central:
    """The open registry. Made by `Central.open`; `close` waits for what was asked for."""

    def __init__(self, path: Path, connection: sqlite3.Connection, install_id: str, first_install_id: str) -> None:
        self.install_id = install_id
        self.first_install_id = first_install_id
        self._path = path
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(2, "central-read")
        self._of_thread = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._watchers: list[Callable[[], object]] = []
        self._writer = threading.Thread(target=self._write_loop, name="central-write", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, clock: Clock, *, as_copy: bool = False) -> Central:
        """Open or create central.db and bring its schema up to date. Blocks. Raises `FileTrouble`.

        `as_copy`: it is the copy of another install's, and becomes one of its own (`host/central/install.py`).
        """
        connection = open_writer(path, create=True, journal_mode="WAL")
        try:
            path.chmod(0o600)
            if (version := version_of(connection)) > CENTRAL.version:
                raise upgrade.too_new(version, path, CENTRAL)
            upgrade.keep_before_upgrade(connection, path, CENTRAL, clock.now())
            migrate(connection, CENTRAL)
            with transaction(connection):
                install_id = install.current(connection)
                if install_id is None:
                    install_id = install.begin(connection, to_text(clock.now()))
                elif as_copy:
                    install_id = install.become_a_copy(connection, to_text(clock.now()))
            first_install_id = install.first(connection)
        except sqlite3.Error as error:
            connection.close()
            raise translate(error, path) from error
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, install_id, first_install_id)

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction; returns after its commit. Raises what it raises, or `FileTrouble`.

        A cancelled caller does not undo the write.
        """
        return await committed(self.submit(run))

    def submit(self, run: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """The same for a thread that may block on the future, or hand it on."""
        job = _Job(run, Future(), contextvars.copy_context())
        self._jobs.put(job)
        return job.done

    def submit_with_next(self, run: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """The same for what can wait: it is committed with the next job, before it, or soon by itself.

        Every job that is submitted later finds it done. A crash before that loses it, so it must be what is done again.
        """
        job = _Job(run, Future(), contextvars.copy_context(), can_wait=True)
        self._jobs.put(job)
        return job.done

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on one snapshot of what is committed. Raises what it raises, or `FileTrouble`."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_here, run)

    def read_here(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """The same in the calling thread, which gets a connection of its own."""
        connection = self._connection_of_thread()
        try:
            with snapshot(connection):
                return run(connection)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    @contextmanager
    def watched(self, committed: Callable[[], object]) -> Iterator[None]:
        """Call a function after each commit, in the writing thread, until the block ends. It may not block or raise."""
        self._watchers.append(committed)
        try:
            yield
        finally:
            self._watchers.remove(committed)

    def close(self) -> None:
        """Finish what was asked for, then close the file."""
        self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()

    def _connection_of_thread(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "reader", None)
        if connection is None:
            connection = open_reader(self._path)
            connection.execute(SMALL_CACHE)
            self._of_thread.reader = connection
            self._opened.append(connection)
        return connection

    def _write_loop(self) -> None:
        with closing(self._connection):
            while (job := self._jobs.get()) is not None:
                jobs = [job]
                until = time.monotonic() + _WAIT_SECONDS
                while len(jobs) < _MAX_JOBS and (following := self._following(jobs, until)) is not _NONE_NOW:
                    if following is None:
                        self._jobs.put(None)
                        break
                    jobs.append(following)
                self._commit(jobs)

    def _following(self, jobs: list[_Job], until: float) -> _Job | None:
        """The next job, if there is one at this moment; while all of `jobs` can wait, one that comes `until` then."""
        remaining = until - time.monotonic()
        try:
            if remaining > 0 and all(job.can_wait for job in jobs):
                return self._jobs.get(timeout=remaining)
            return self._jobs.get_nowait()
        except queue.Empty:
            return _NONE_NOW

    def _commit(self, jobs: list[_Job]) -> None:
        """Run the jobs in one transaction, several each in a savepoint of its own, then report to their callers."""
        finished: list[tuple[_Job, Any]] = []
        failed: list[tuple[_Job, BaseException]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if len(jobs) == 1:  # what fails alone is the transaction: no savepoint is needed to undo it
                finished.append((jobs[0], jobs[0].context.run(jobs[0].run, self._connection)))
            else:
                for job in jobs:
                    self._connection.execute("SAVEPOINT job")
                    try:
                        finished.append((job, job.context.run(job.run, self._connection)))
                    except Exception as error:  # a caller's own error, handed back to it
                        if not self._connection.in_transaction:
                            raise
                        self._connection.execute("ROLLBACK TO job")
                        failed.append((job, error))
                    self._connection.execute("RELEASE job")
            self._connection.execute("COMMIT")
        except Exception as error:  # the transaction as a whole: nothing of it happened
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                log.error("the disk is full", extra={"file": self._path.name, "jobs": len(jobs)})
            finished, failed = [], [(job, error) for job in jobs]
        for committed in tuple(self._watchers):
            committed()
        for job, result in finished:
            job.done.set_result(result)
        for job, reason in failed:
            job.done.set_exception(translate(reason, self._path) if isinstance(reason, sqlite3.Error) else reason)


async def committed(job: Future[T]) -> T:
    """Wait in the event loop for what was submitted. A waiter that is cancelled leaves the job alone.

    The same as `asyncio.shield(asyncio.wrap_future(job))`, with one turn of the loop in place of three.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()

    def hand_over() -> None:
        if waiter.done():  # cancelled
            return
        if (error := job.exception()) is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(job.result())

    def tell(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop is closed: its tasks are gone
            loop.call_soon_threadsafe(hand_over)

    job.add_done_callback(tell)
    return await waiter


def one(connection: sqlite3.Connection, statement: str, parameters: Any = ()) -> sqlite3.Row | None:
    """The first row of a query, or None."""
    row: sqlite3.Row | None = connection.execute(statement, parameters).fetchone()
    return row
