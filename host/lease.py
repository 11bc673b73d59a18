"""One host per data folder on a mount that several machines share, where a lock may end at its machine.

What every usable mount has (`mount check` measures it): a name is made exclusively, a listing is not old, and a file
that was renamed over another is read anew. So the lease is a number that only grows: the file of the highest number in
`<data>/lease/` belongs to the host that serves the folder. It renames a new one over it every `renew` seconds.

- A host that finds the file of another one waits for a change. It sees one: that host lives, and this one refuses. It
  sees none for `wait` seconds: it makes the file of the next number, which only one of several can.
- The holder counts by the clock since its machine's start, which goes on while the process is frozen and while the
  machine sleeps (`time.monotonic` stands still then). Once the last renewal began more than `limit` seconds ago, or a
  higher number is there, it writes nothing more (`require`), and its process ends at once, without the orderly stop:
  what it would write then is not its own any more. `limit` is shorter than `wait`. A lease that has run out is never
  renewed, and a renewal counts that ended before that: a later one may come when the other host has waited long enough.
- On the machine and mount of the last holder no wait is needed: there the kernel's lock, which is taken first, says
  that it is over (`lock.py`).
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from host.lease_rules import Holder, HolderStanding, Silence, Timing, is_free, is_superseded, is_sure, renewed_since
from host.place import mounted, type_number
from shared_schema import json_text
from shared_schema.clock import since_boot
from shared_schema.errors import Conflict, DumbwaiterError, FileTrouble
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

EXIT_LEASE = 75  # EX_TEMPFAIL of sysexits.h: a service manager starts the host again
_STEP_SECONDS = 0.1
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MAY_BE_SHARED = frozenset(
    {
        0x6969,  # NFS, and the rest of linux/magic.h and the file systems' own headers
        0x517B,  # SMB
        0xFF534D42,  # CIFS
        0xFE534D42,  # SMB 2
        0x65735546,  # FUSE: MooseFS, GlusterFS, sshfs
        0x00C36400,  # Ceph
        0x0BD00BD0,  # Lustre
        0x01021997,  # 9P
        0x01161970,  # GFS2
        0x7461636F,  # OCFS2
        0x5346414F,  # AFS
    }
)


class LeaseHeld(Conflict):
    """A host, of this machine or another, serves the folder."""


class LeaseLost(FileTrouble):
    """This host is not sure any more that it alone serves the folder."""


def is_wanted(data: Path, *, shared: bool) -> bool:
    """Whether a folder needs a lease: the settings say that it is shared, or its file system may be."""
    return shared or type_number(data) in _MAY_BE_SHARED


def holder(folder: Path) -> Holder | None:
    """Who has the lease at the moment, as far as its file says; None: no host, or one that cannot be read."""
    found = _newest(folder)[1] if folder.is_dir() else None
    return None if found is None or found.is_over else found


class Lease:
    """The lease of one host, from `take` to `release`. `lost` is called, once, with what happened."""

    def __init__(self, folder: Path, timing: Timing, at: str, lost: Callable[[str], object]) -> None:
        self.number = 0
        self._folder = folder
        self._timing = timing
        self._lost = lost
        self._me = Holder(platform.node(), os.getpid(), at)
        self._renewed = since_boot()
        self._is_lost = False
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def require(self) -> None:
        """Raise `LeaseLost` unless this host is sure to be the only one. Costs a look at the clock."""
        if self._is_lost or not is_sure(since_boot(), self._renewed, self._timing):
            raise LeaseLost("another host may serve this data folder by now", where=self._folder)

    def release(self) -> None:
        """Give it back: the next host need not wait. What cannot be written now is found out by waiting."""
        self._over.set()
        for thread in self._threads:
            thread.join(self._timing.renew)
        with suppress(OSError, LeaseLost):
            self.require()
            self._write(replace(self._me, is_over=True))

    def _begin(self, number: int, began: float) -> None:
        self.number, self._renewed = number, began
        for name, run in (("lease", self._keep_renewing), ("lease-watch", self._keep_watching)):
            self._threads.append(threading.Thread(target=run, name=name, daemon=True))
            self._threads[-1].start()

    def _keep_renewing(self) -> None:
        while not self._over.wait(self._timing.renew):
            began = since_boot()
            try:
                if is_superseded(self.number, _numbers(self._folder)):
                    return self._is_gone(f"the host {_newest(self._folder)[1]} took it over")
                if not is_sure(since_boot(), self._renewed, self._timing):  # before the file says that this host lives
                    return self._is_gone(self._run_out())
                self._me = replace(self._me, beat=self._me.beat + 1)
                self._write(self._me)
            except OSError as error:  # a mount that is away for a moment; for longer, `_keep_watching` finds it
                log.warning("the lease of the data folder cannot be renewed", extra={"error": str(error)})
                continue
            renewed = renewed_since(began, since_boot(), self._renewed, self._timing)
            if renewed is None:
                return self._is_gone(self._run_out())
            self._renewed = renewed

    def _keep_watching(self) -> None:
        """Beside the renewing, which may hang in the mount."""
        while not self._over.wait(_STEP_SECONDS):
            if not is_sure(since_boot(), self._renewed, self._timing):
                return self._is_gone(self._run_out())

    def _run_out(self) -> str:
        return f"it could not be renewed for {self._timing.limit:g} seconds"

    def _is_gone(self, why: str) -> None:
        if not self._is_lost and not self._over.is_set():
            self._is_lost = True
            self._lost(why)

    def _write(self, content: Holder) -> None:
        draft = self._folder / f".{self.number}"
        draft.write_text(json.dumps(asdict(content)))
        draft.replace(self._folder / str(self.number))


def take(
    folder: Path,
    *,
    is_locked: bool,
    timing: Timing | None = None,
    lost: Callable[[str], object] | None = None,
    at: str | None = None,
    is_first_try: bool = True,
) -> Lease:
    """Take the lease that lies in a folder; blocks, for `wait` seconds where another machine's host had it last.

    `is_locked`: this process has the kernel's lock of the data folder. `at` is where it is, as `here` tells it.
    `is_first_try`: a wait is logged. Raises `LeaseHeld`, `DumbwaiterError`.
    """
    timing, at = timing or Timing(), at or here(folder.parent)
    lease = Lease(folder, timing, at, lost or _end_at_once)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        number, last = _newest(folder)
        if not is_free(number, last, at, is_locked=is_locked):
            if is_first_try:
                log.info("waiting whether the last host of this folder lives", extra={"holder": str(last)})
            number = _wait_for_silence(folder, number, last, timing)
        began = since_boot()
        # Exactly the next number after the one that was found silent: of several hosts that wait, one makes it.
        with open(os.open(folder / str(number + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(asdict(lease._me)))
        if is_superseded(number + 1, _numbers(folder)):  # this process slept, and others have come and gone meanwhile
            raise _held(folder, _newest(folder)[1])
    except FileExistsError as error:
        raise _held(folder, _newest(folder)[1]) from error
    except OSError as error:
        raise DumbwaiterError(f"the lease cannot be written: {words_of(error)}", where=folder) from error
    for earlier in _numbers(folder):
        if earlier <= number:
            with suppress(OSError):
                (folder / str(earlier)).unlink()
    lease._begin(number + 1, began)
    return lease


def here(data: Path) -> str:
    """Where the kernel's locks of a folder reach: this machine since its start, and this mount of it."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = platform.node()
    return f"{boot} {data.stat().st_dev} {mounted(data)}"


def _wait_for_silence(folder: Path, number: int, last: Holder | None, timing: Timing) -> int:
    """The number that has not changed for long enough, or whose holder has said that it is over. Raises `LeaseHeld`."""
    silence = Silence(number, last, since_boot(), timing)
    while True:
        time.sleep(_STEP_SECONDS)
        # The clock before the look: a process that sleeps between the two has not seen the last moment of the wait.
        now = since_boot()
        now_number, holder = _newest(folder)
        match silence.standing(now, now_number, holder):
            case HolderStanding.FREE:
                return now_number
            case HolderStanding.HELD:
                raise _held(folder, holder)


def _held(folder: Path, by: Holder | None) -> LeaseHeld:
    where = "another host" if by is None else f"a host: {by}"
    return LeaseHeld(
        f"the data folder is served by {where}",
        where=folder.parent,
        hint="stop that host, or type the command on its machine; one host serves a data folder, never two. To have "
        f"this one wait and take over: `{standby_command(folder.parent)}`",
    )


def standby_command(data: Path) -> str:
    """What a person types for a host that takes over when the one that serves has ended."""
    return shlex.join(["dumbwaiter", "run", "--standby", "--data", str(data)])


def _numbers(folder: Path) -> list[int]:
    return [int(name) for name in os.listdir(folder) if name.isdecimal()]


def _newest(folder: Path) -> tuple[int, Holder | None]:
    """The highest number, 0 for none, and what its file says; None for one that is just being made."""
    number = max(_numbers(folder), default=0)
    try:
        return number, Holder(**json_text.parse((folder / str(number)).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):  # also one that a later holder has just removed
        return number, None


def _end_at_once(why: str) -> None:
    """Without the orderly stop, which would write."""
    with suppress(Exception):
        sys.stderr.write(f"dumbwaiter: this host ends at once, it is not sure to be the only one: {why}\n")
        sys.stderr.flush()
    os._exit(EXIT_LEASE)
