"""Ends a run of tests in which one hangs, and says where: a process that hangs tells nothing to who waits for it.

The watchdog is a thread in C (`faulthandler`), so it also ends what holds the interpreter. With workers beside each
other only the worker ends: another takes its place, and the test that hung is called failed.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

PHASE_SECONDS = float(os.environ.get("TEST_SECONDS", "600"))
"""How long the setup, the call or the teardown of one test may take; the longest takes 40 s on two cores."""
FULL_PHASE_SECONDS = 4 * 3600.0
"""The same for those of `make chaos`."""


class Watch:
    """A plugin of pytest; `stderr` is the descriptor that is written to, since a test's own may be captured."""

    def __init__(self, stderr: int) -> None:
        self._stderr = stderr

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._begin(item)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    # Each phase begins anew, also because pytest itself calls the watchdog off where a test has failed.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._begin(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._begin(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._begin(item)

    def _begin(self, item: pytest.Item) -> None:
        seconds = PHASE_SECONDS if item.get_closest_marker("full") is None else FULL_PHASE_SECONDS
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._stderr)
