"""What a process costs: memory and processor time, as the kernel counts them."""

from __future__ import annotations

import time

import psutil

MB = 1_000_000


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used, in seconds, all its threads together.

    Read from the process's own clock (clock_getcpuclockid(3)), which counts nanoseconds; /proc counts ticks of 10 ms
    and would see nothing of what wakes for less.
    """
    return time.clock_gettime((~pid << 3) | 2)


def cpu_percents(pids: list[int], seconds: float) -> list[float]:
    """Percent of one core that each process uses from now on, over so many seconds."""
    began = time.perf_counter()
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    after = [cpu_seconds(pid) for pid in pids]
    lasted = time.perf_counter() - began
    return [(late - early) / lasted * 100 for early, late in zip(before, after, strict=True)]


def resident(pid: int) -> float:
    """Resident memory in MB, with what it shares with others."""
    return float(psutil.Process(pid).memory_info().rss) / MB


def proportional(pid: int) -> float:
    """Resident memory in MB, each shared page divided by the number of processes that share it."""
    return float(psutil.Process(pid).memory_full_info().pss) / MB
