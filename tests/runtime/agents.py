"""Ten-line agents: a session folder whose `agent.py` is run in place of the real one, and how to wait for it."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

from host.runtime.protocol import AgentSpecification, ResourceLimits
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import SessionLayout

UID = 10001

LIVES = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("on stderr", file=sys.stderr, flush=True)
    print("ready", flush=True)
    while True:
        signal.pause()
"""
DEAF = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        signal.pause()
"""
EXITS = """
    import sys
    print("ready", flush=True)
    sys.exit(3)
"""


def session_folder(parent: Path, program: str) -> SessionLayout:
    """A session folder as the host makes it, for an agent of any uid: only out/ can be written."""
    layout = SessionLayout(parent / new_id(Prefix.SESSION))
    layout.folder.mkdir()
    layout.folder.chmod(0o755)
    layout.out.mkdir()
    layout.out.chmod(0o777)
    (layout.folder / "agent.py").write_text(textwrap.dedent(program))
    (layout.folder / "agent.py").chmod(0o644)
    workspace = parent / f"workspace-{layout.folder.name}"
    workspace.mkdir()
    workspace.chmod(0o777)
    return layout


def specification(
    layout: SessionLayout, install_id: str, *, image: str = "", uid: int = 0, limits: ResourceLimits | None = None
) -> AgentSpecification:
    """A specification for a folder made by `session_folder`."""
    return AgentSpecification(
        install_id=install_id,
        run_id=new_id(Prefix.RUN),
        session_id=layout.folder.name,
        agent_group_id=new_id(Prefix.AGENT_GROUP),
        folder=layout,
        workspace=layout.folder.parent / f"workspace-{layout.folder.name}",
        environment={"GREETING": "hello"},
        limits=limits or ResourceLimits(),
        image=image,
        uid=uid,
        gid=uid,
    )


async def eventually(condition: Callable[[], Awaitable[bool]], limit: float = 60.0) -> None:
    """Wait until a condition holds; `TimeoutError` after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not await condition():
            await asyncio.sleep(0.02)
