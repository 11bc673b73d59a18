"""`python -m tests.soak --minutes 30 [--seed N] [--sessions 50] [--runtime docker]
[--provider model]`: run it and report.

Exit status 1 when a number is not 0 that must be, and then the data folder stays to be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from tests.platforms.model_server import model_server
from tests.soak.plan import Plan
from tests.soak.report import Report
from tests.soak.run import Soak, Tell

_LINE_SECONDS = 30.0


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = float("-inf")

    def tell(self, line: str) -> None:
        """Show how it goes."""
        if self._is_terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            print(line, file=sys.stderr, flush=True)


async def soak(plan: Plan, folder: Path, tell: Tell) -> Report:
    """Run it, and leave nothing running whatever happens."""
    async with AsyncExitStack() as around:
        if plan.provider != "scripted":  # the service lives on when the host dies, as theirs do
            server = await around.enter_async_context(model_server(key="sk-of-the-soak"))
            plan = replace(plan, service=server.url)
        run = Soak(plan, folder, tell)
        try:
            return await run.run()
        finally:
            await run.kill()


async def _until_told(plan: Plan, folder: Path) -> Report:
    """The same; SIGTERM ends it as Ctrl-C does."""
    task = asyncio.create_task(soak(plan, folder, Progress().tell))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="A long run under random trouble.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--provider", choices=("scripted", "model", "claude"), default="scripted")
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    given = parser.parse_args()
    plan = Plan.of(given.provider, given.minutes * 60, given.seed, given.runtime, given.sessions)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o711)  # agents may have a user of their own
    print(f"seed {plan.seed}, in {folder}", file=sys.stderr)
    report = asyncio.run(_until_told(plan, folder))
    print("\n" + "\n".join(report.lines()))
    if not report.verdict.is_good:
        print(f"everything is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
