"""A second host of the same data folder: it waits for the first one to end, and takes its place.

Who is active is what decides it for any host: the kernel's locks, and the lease where machines share the folder
(`lock.py`, `lease.py`). A host on standby asks for both again and again, and touches nothing else of the folder. Where
the first host stopped in order, and where it ran on this machine, that is at once; a host of another machine that is
gone is followed once its lease was not renewed for `Timing.wait` seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from host.lease import Lease, LeaseHeld
from host.lease_rules import Timing
from host.lock import FolderInUse, held
from shared_schema.layout import DataLayout

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.2


@contextmanager
def held_in_turn(
    layout: DataLayout, waits: Callable[[], object], timing: Timing | None = None
) -> Iterator[Lease | None]:
    """Hold the folder as `held` does, after waiting for as long as another host has it.

    `waits` is called once, when there is one to wait for. Blocks without end; raises `DumbwaiterError` when the folder
    cannot be used.
    """
    with ExitStack() as stack:
        is_told = False
        while True:
            try:
                lease = stack.enter_context(held(layout, wait_seconds=0, timing=timing, is_first_try=not is_told))
                break
            except (FolderInUse, LeaseHeld) as error:
                if not is_told:
                    log.info("on standby", extra={"because": error.what})
                    waits()
                    is_told = True
            time.sleep(_STEP_SECONDS)
        if is_told:
            log.info("taking over")
        yield lease
