"""central.db: one writing thread, any number of readers.

Everything that changes central.db passes through `write`, in one thread, in the order it was asked for. All jobs that
wait when the thread is free are committed as one transaction, so a burst costs one flush to disk and not one each;
`write` returns only after that commit, so what it reports is on the disk. A job that raises is rolled back alone.

A function that changes something takes a `Transaction`, which has its moment with it, and one that only asks takes a
`Queryable`, which a transaction is too. What follows from a change (a chat has something to send, a session something
to be written) the module of the table adds to the transaction. These effects are dispatched after the commit. They are
hints: the rows stay the truth, and the next start of a host finds the same in them.

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from host.central import install, upgrade
from shared_schema.clock import Clock, to_text
from shared_schema.database import open_reader, open_writer, snapshot, transaction, translate
from shared_schema.dataclass import dataclass
from shared_schema.migrate import Schema, migrate, version_of

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

CENTRAL = Schema("central.db", Path(__file__).parent / "migrations")
_MAX_JOBS = 64
_WAIT_SECONDS = 0.03
"""How long what can wait waits for a commit to go along with: as long as a quick answer takes."""

SMALL_CACHE = "PRAGMA cache_size = -256"  # KiB: there is a reader in every thread


class Queryable(Protocol):
    """What can be asked: one snapshot of what is committed, or a transaction with what it has changed so far."""

    def execute(self, statement: str, parameters: Any = ..., /) -> sqlite3.Cursor:
        """Run one statement. Raises `sqlite3.Error`."""


# SQLite's errors that are about what was to be stored, and not about the file.
_OF_A_VALUE = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class Effect:
    """What follows from a change once it is committed: small frozen records, defined beside what they are about.

    Two equal ones in one transaction are one.
    """

    __slots__ = ()


@dataclass(slots=True)
class Transaction:
    """One write of central.db: `at` is its moment, `now` the same as it is stored, and `effects` what follows."""

    connection: sqlite3.Connection
    at: datetime
    now: str = field(init=False)
    effects: dict[Effect, Effect] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = to_text(self.at)

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement. Raises `sqlite3.Error`."""
        return self.connection.execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each of the parameters. Raises `sqlite3.Error`."""
        return self.connection.executemany(statement, parameters)

    def add(self, effect: Effect) -> None:
        """Have something follow from this transaction. It takes the place of an equal one."""
        self.effects[effect] = effect

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Do something whole or not at all: what raises is undone with its effects, and goes on raising."""
        before = dict(self.effects)
        self.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:
                self.execute(f"ROLLBACK TO {name}")
                self.execute(f"RELEASE {name}")
            self.effects = before
            raise
        self.execute(f"RELEASE {name}")  # raises where what was done has ended the transaction itself


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Transaction], Any]
    done: Future[Any]
    context: contextvars.Context  # of who asks: the audit log wants to know on whose behalf something is changed
    can_wait: bool = False


_NONE_NOW = _Job(lambda tx: None, Future(), contextvars.Context())


class Central:
    """The open registry. Made by `Central.open`; `close` waits for what was asked for."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, clock: Clock, install_id: str, first_install_id: str
    ) -> None:
        self.install_id = install_id
        self.first_install_id = first_install_id
        self.dispatch: Callable[[Sequence[Effect]], object] = lambda effects: None
        """Takes the effects of each commit, in the writing thread, before its writers hear of it. May not block."""
        self.require_sole: Callable[[], object] = lambda: None
        """Raises `FileTrouble` where another host may serve the folder by now (`host/lease.py`): nothing is written."""
        self.commits = 0
        """How many there were. While a host serves a folder nothing else writes: what was read holds until the next."""
        self._path = path
        self._clock = clock
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(2, "central-read")
        self._of_thread = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._writer = threading.Thread(target=self._write_loop, name="central-write", daemon=True)
        self._writer.start()

    def now(self) -> str:
        """The present moment, as it is stored."""
        return to_text(self._clock.now())

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
        return cls(path, connection, clock, install_id, first_install_id)

    async def write(self, run: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a transaction; returns after its commit. Raises what it raises, or `FileTrouble`.

        A cancelled caller does not undo the write.
        """
        return await committed(self.submit(run, *args, **kwargs))

    def submit(self, run: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The same for a thread that may block on the future, or hand it on."""
        job = _Job(lambda tx: run(tx, *args, **kwargs), Future(), contextvars.copy_context())
        self._jobs.put(job)
        return job.done

    def submit_with_next(
        self, run: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """The same for what can wait: it is committed with the next job, before it, or soon by itself.

        Every job that is submitted later finds it done. A crash before that loses it, so it must be what is done again.
        """
        job = _Job(lambda tx: run(tx, *args, **kwargs), Future(), contextvars.copy_context(), can_wait=True)
        self._jobs.put(job)
        return job.done

    async def read(self, run: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function on one snapshot of what is committed. Raises what it raises, or `FileTrouble`."""
        here = partial(self.read_here, run, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, here)

    def read_here(self, run: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same in the calling thread, which gets a connection of its own."""
        connection = self._connection_of_thread()
        try:
            with snapshot(connection):
                return run(connection, *args, **kwargs)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

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
        """Run the jobs in one transaction, each so that it can be undone alone; then dispatch effects and report."""
        finished: list[tuple[_Job, Any]] = []
        failed: list[tuple[_Job, BaseException]] = []
        at, effects = self._clock.now(), dict[Effect, Effect]()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                tx = Transaction(self._connection, at)
                # What is the first of a transaction needs no savepoint: to undo it is to begin anew.
                boundary = tx.part("job") if finished else nullcontext()
                try:
                    with boundary:
                        result = job.context.run(job.run, tx)
                except Exception as error:  # a caller's own error, handed back to it
                    if len(jobs) == 1 or not self._connection.in_transaction:
                        raise
                    if not finished:
                        self._connection.execute("ROLLBACK")
                        self._connection.execute("BEGIN IMMEDIATE")
                    failed.append((job, error))
                else:
                    if not self._connection.in_transaction:
                        raise sqlite3.OperationalError("a job has ended the transaction that it was run in")
                    finished.append((job, result))
                    effects |= tx.effects
            self.require_sole()  # last: a process that was frozen may wake anywhere before
            self._connection.execute("COMMIT")
            self.commits += 1
        except Exception as error:  # the transaction as a whole: nothing of it happened
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                log.error("the disk is full", extra={"file": self._path.name, "jobs": len(jobs)})
            finished, failed, effects = [], [(job, error) for job in jobs], {}
        if finished:
            self.dispatch(list(effects.values()))
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


def one(connection: Queryable, statement: str, parameters: Any = ()) -> sqlite3.Row | None:
    """The first row of a query, or None."""
    row: sqlite3.Row | None = connection.execute(statement, parameters).fetchone()
    return row


def is_of_a_row(error: Exception) -> bool:
    """Whether it may be the fault of one row, which can be left out, and not of the ledger's own file. Pure."""
    return not isinstance(error, sqlite3.Error) or isinstance(error, _OF_A_VALUE)
