"""Tricks with life and death: signs of life that are false, and processes that do not go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from tests.hostile.session import Session

Act = Callable[[Session, str], None]

YEAR_9999 = 253_402_300_799


def beats_and_does_nothing(at: Session, message: str) -> NoReturn:
    """A child touches the heartbeat; the agent itself sleeps."""
    if os.fork() == 0:
        at.hold()
    time.sleep(3600)
    raise AssertionError("unreachable")


def stops_its_heart(at: Session, message: str) -> NoReturn:
    time.sleep(3600)
    raise AssertionError("unreachable")


def heart_of(stamp: float) -> Act:
    """A heartbeat of a time that was not, or is not yet, once and for all."""

    def act(at: Session, message: str) -> None:
        os.utime(at.heartbeat, (stamp, stamp))
        time.sleep(3600)

    return act


def dies_at_once(at: Session, message: str) -> NoReturn:
    os._exit(7)


def deaf(at: Session, message: str) -> NoReturn:
    """It does not answer, shows no sign of life, and does not hear when it is told to go."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
    raise AssertionError("unreachable")


def children_that_go_on(at: Session, message: str) -> NoReturn:
    """The agent dies; its children, deaf, go on writing in its place."""
    for _ in range(3):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                with suppress(OSError):
                    at.beat()
                    (at.out / f"by-{os.getpid()}").write_text(str(time.time()))
                time.sleep(0.01)
    os._exit(3)


def children_that_leave_home(at: Session, message: str) -> NoReturn:
    """The same out of the agent's process group and session, and without their parents."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                at.beat()
                (at.out / f"by-{os.getpid()}").write_text(str(time.time()))
                time.sleep(0.05)
    os._exit(3)


def children_without_end(at: Session, message: str) -> None:
    """As many as it may have; it says how many when it may have no more."""
    children = 0
    with suppress(OSError):
        while children < 5000:
            if os.fork() == 0:
                signal.pause()
                os._exit(0)
            children += 1
            if children % 20 == 0:
                at.beat()
    at.reply(message, "done")
