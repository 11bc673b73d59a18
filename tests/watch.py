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
        self._longest = PHASE_SECONDS

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note how long the longest of these tests may take."""
        self._longest = max(map(_seconds, session.items), default=PHASE_SECONDS)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._begin(_seconds(item))
        try:
            return (yield)
        finally:
            self._begin(self._longest)  # until the next test, which another worker may have, and to the very end

    # Each phase begins anew, also because pytest itself calls the watchdog off where a test has failed.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._begin(_seconds(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self._begin(_seconds(item))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self._begin(_seconds(item))

    def _begin(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._stderr)


def _seconds(item: pytest.Item) -> float:
    return PHASE_SECONDS if item.get_closest_marker("full") is None else FULL_PHASE_SECONDS
