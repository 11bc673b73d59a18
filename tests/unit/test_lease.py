"""One host serves a folder that several machines see, whatever its locks do: real processes, as of two machines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host.central import agent_groups
from host.central.database import Central
from host.lease import EXIT_LEASE, Lease, LeaseHeld, LeaseLost, holder, is_wanted, take
from host.lease_rules import Timing
from shared_schema.clock import SystemClock
from tests.support.wait import until_sync

QUICK = Timing(renew=0.1, limit=1.5, wait=3.0)
SLOW = Timing(renew=0.1, limit=60.0, wait=120.0)
HOST = """
import sys, time
from pathlib import Path
from host import lease, lease_rules
timing = lease_rules.Timing(*map(float, sys.argv[2:5]))
held = lease.take(Path(sys.argv[1]), is_locked=False, timing=timing, at=sys.argv[5] or None)
print(held.number, flush=True)
sys.stdin.read()
held.require()
held.release()
print("done", flush=True)
"""


@contextmanager
def host(folder: Path, timing: Timing, *, at: str = "another machine") -> Iterator[subprocess.Popen[str]]:
    """A host that has the lease; of another machine no lock is seen here."""
    times = [str(each) for each in (timing.renew, timing.limit, timing.wait)]
    command = [sys.executable, "-c", HOST, str(folder), *times, at]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdecimal()
        try:
            yield process
        finally:
            process.kill()


def taken(folder: Path, timing: Timing = QUICK, *, is_locked: bool = False) -> Lease:
    return take(folder, is_locked=is_locked, timing=timing, lost=lambda why: None)


def test_a_folder_that_a_host_of_another_machine_serves_is_refused(tmp_path: Path) -> None:
    with (
        host(tmp_path / "lease", SLOW) as other,
        pytest.raises(
            LeaseHeld, match=rf"is served by a host: process {other.pid} on .*stop that host, or .*run --standby --data"
        ),
    ):
        taken(tmp_path / "lease", SLOW)


def test_a_host_that_is_gone_is_followed_after_its_silence_and_its_number_grows(tmp_path: Path) -> None:
    with host(tmp_path / "lease", QUICK) as other:
        other.kill()
        other.wait()
        lease = taken(tmp_path / "lease")
        assert lease.number == 2
        lease.release()


def test_a_host_that_has_stopped_is_followed_at_once(tmp_path: Path) -> None:
    taken(tmp_path / "lease", SLOW).release()
    assert holder(tmp_path / "lease") is None
    lease = taken(tmp_path / "lease", SLOW)
    assert lease.number == 2
    lease.release()


def test_where_the_kernels_lock_says_that_the_last_host_is_over_nothing_is_waited_for(tmp_path: Path) -> None:
    with host(tmp_path / "lease", SLOW, at="") as other:
        other.kill()
        other.wait()
        lease = taken(tmp_path / "lease", SLOW, is_locked=True)
        assert lease.number == 2
        lease.release()


def test_a_host_that_was_frozen_ends_when_it_wakes_and_writes_nothing(tmp_path: Path) -> None:
    with host(tmp_path / "lease", QUICK) as frozen:
        frozen.send_signal(signal.SIGSTOP)
        lease = taken(tmp_path / "lease", Timing(renew=0.1, limit=60.0, wait=QUICK.wait))
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(60) == EXIT_LEASE
        lease.require()
        assert holder(tmp_path / "lease") is not None
        lease.release()


def test_a_lease_that_has_run_out_is_not_renewed_though_no_other_host_took_it(tmp_path: Path) -> None:
    """Another host may be about to take it, and see a renewal too late."""
    timing = Timing(renew=0.1, limit=1.0, wait=60.0)
    with host(tmp_path / "lease", timing) as frozen:
        frozen.send_signal(signal.SIGSTOP)
        until_sync(lambda: state_of(frozen) == "T", "it stands still")
        before = beat(tmp_path / "lease" / "1")
        over = time.monotonic() + timing.limit
        until_sync(lambda: time.monotonic() > over, "its lease has run out")
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(60) == EXIT_LEASE
        assert beat(tmp_path / "lease" / "1") <= before + 1  # one that it was in the midst of counts for nothing


def beat(file: Path) -> int:
    return int(json.loads(file.read_text())["beat"])


def state_of(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_host_that_meets_a_higher_number_knows_it_at_its_next_renewal(tmp_path: Path) -> None:
    lost: list[str] = []
    lease = take(tmp_path / "lease", is_locked=False, timing=SLOW, lost=lost.append)
    file = tmp_path / "lease" / "2"
    file.write_text((tmp_path / "lease" / "1").read_text())
    until_sync(lambda: lost, "it is told")
    with pytest.raises(LeaseLost, match="another host may serve this data folder by now"):
        lease.require()
    lease.release()
    assert not json.loads(file.read_text())["is_over"]  # that of the other one is as it was


def test_of_two_that_wait_one_gets_it(tmp_path: Path) -> None:
    with host(tmp_path / "lease", QUICK) as other:
        other.kill()
        other.wait()
        times = [str(each) for each in (QUICK.renew, 60.0, QUICK.wait)]
        command = [sys.executable, "-c", HOST, str(tmp_path / "lease"), *times, "a third machine"]
        pipe = subprocess.PIPE
        both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
        until_sync(lambda: any(each.poll() is not None for each in both), "one of them is refused")
        outcomes = [each.communicate("", timeout=60) for each in both]
    assert sorted(each.returncode for each in both) == [0, 1]
    assert sorted(bool(output) for output, _ in outcomes) == [False, True]
    assert "LeaseHeld" in "".join(errors for _, errors in outcomes)


def test_the_lock_of_one_machine_says_nothing_of_a_host_on_another(tmp_path: Path) -> None:
    with host(tmp_path / "lease", SLOW), pytest.raises(LeaseHeld):
        taken(tmp_path / "lease", SLOW, is_locked=True)


def test_a_file_that_is_half_written_counts_as_held(tmp_path: Path) -> None:
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / "7").write_text('{"machine": "tw')
    lease = taken(tmp_path / "lease", Timing(renew=0.1, limit=0.5, wait=1.0), is_locked=True)
    assert lease.number == 8
    lease.release()


async def test_the_ledger_takes_no_commit_without_the_lease(tmp_path: Path) -> None:
    central = Central.open(tmp_path / "central.db", SystemClock())
    lease = taken(tmp_path / "lease", Timing(renew=60.0, limit=0.0, wait=0.0))
    central.require_sole = lease.require
    with pytest.raises(LeaseLost):
        await central.write(lambda tx: tx.execute("DELETE FROM agent_groups"))
    assert await central.read(agent_groups.all_groups) == []
    central.close()
    lease.release()


def test_a_lease_is_wanted_where_the_folder_is_said_to_be_shared(tmp_path: Path) -> None:
    assert is_wanted(tmp_path, shared=True)
    assert not is_wanted(Path("/proc"), shared=False)
