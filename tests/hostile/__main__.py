"""The agent: honest until it is told a trick. With `--at-once SIZE NAME` it does the trick to a folder nobody reads.

`trick SIZE NAME | NAME …` does several tricks at the same time, each in a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

from tests.hostile.draw import TOGETHER
from tests.hostile.session import Session, from_environment
from tests.hostile.table import TRICKS

STEP = 0.02


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.argv[1:2] == ["--at-once"]:
        size, name = sys.argv[2:]
        TRICKS[name].act(from_environment(size), "msg_0000000000000000")
        return
    session = from_environment()
    seen = 0
    while True:
        session.beat()
        if seen != (seen := session.inbound.stat().st_mtime_ns):
            for message, text in session.open_messages():
                answer(session, message, text)
        time.sleep(STEP)


def answer(session: Session, message: str, text: str) -> None:
    """A trick may answer the message, or leave that to nobody."""
    word, _, rest = text.partition(" ")
    if word != "trick":
        session.reply(message, f"ok: {text}")
        return
    size, _, names = rest.partition(" ")
    first, *others = names.split(TOGETHER)
    for other in others:
        do_beside(size, other, message)
    TRICKS[first].act(from_environment(size), message)


def do_beside(size: str, name: str, message: str) -> None:
    """The same in a child. That another trick has taken away what it needs is no error of this one's."""
    if os.fork() == 0:
        with suppress(Exception):
            TRICKS[name].act(from_environment(size), message)
        os._exit(0)


main()
