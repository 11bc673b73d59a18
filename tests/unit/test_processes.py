"""Processes are found by what they have inherited, and nobody else is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from shared_schema import processes
from tests.support.wait import until_sync

MARK = "DUMBWAITER_TEST_MARK"


@contextmanager
def started(command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell that has printed a line."""
    with subprocess.Popen(
        ["sh", "-c", command], env={"PATH": os.environ["PATH"], **environment}, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


KILLED = (-9, 0)
"""Of a shell that waits: it ends by itself where its child was killed a moment before."""


def test_what_has_the_mark_is_ended_with_all_that_descends_from_it_and_nothing_else() -> None:
    with (
        started("env -i sleep 600 & echo $!; wait", **{MARK: "one"}) as marked,
        started("sleep 600 & echo $!; wait", **{MARK: "one more"}) as another,
    ):
        child, stranger = said(marked), said(another)
        assert processes.descendants({marked.pid}) == {marked.pid, child}
        processes.end_marked(MARK, "one")
        assert marked.wait(30) in KILLED
        until_sync(lambda: not processes.descendants({child}), "its child is gone")
        assert processes.descendants({another.pid}) == {another.pid, stranger}
        processes.end_marked(MARK, "one more")
        assert another.wait(30) in KILLED


def test_whoever_ends_others_is_left_alone() -> None:
    assert processes.kill({os.getpid()}) == 0
