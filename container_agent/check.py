"""The check script of a schedule: it runs where the agent runs, and says whether the model is asked at all.

What it prints is added to the prompt. Without output there is nothing to do. It ends the run as a failure when its exit
status is not 0, and when it takes longer than `SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from container_agent.providers.protocol import ProviderError, TurnRequest
from shared_schema.errors import FileDamaged
from shared_schema.rows import FailureReason, MessageIn, MessageInKind, decode, encode

SECONDS = 30.0
NOTHING = "its check found nothing to do"
"""The `stop_reason` of a turn whose model was not asked."""
_MOST_BYTES = 60_000
_LONGEST_REASON = 200

Check = Callable[[TurnRequest], Awaitable[TurnRequest | None]]
"""The request as it goes to the provider; None: there is nothing to ask."""


async def no_check(request: TurnRequest) -> TurnRequest | None:
    """The request as it is."""
    return request


def checking(environment: Mapping[str, str], seconds: float = SECONDS) -> Check:
    """Runs the check scripts of a turn's messages. `environment` is the agent's own."""

    async def check(request: TurnRequest) -> TurnRequest | None:
        if not any(script_of(message) for message in request.triggering):
            return request
        kept: list[MessageIn] = []
        for message in request.messages:
            script = script_of(message)
            said = "" if script is None else await _run(script, request.workspace, environment, seconds)
            if script is None:
                kept.append(message)
            elif said:
                kept.append(replace(message, content=encode({"text": f"{message.text}\n\n{said}"})))
        request = replace(request, messages=tuple(kept))
        return request if request.triggering else None

    return check


def script_of(message: MessageIn) -> str | None:
    """The check script that comes with the run of a schedule."""
    if message.kind != MessageInKind.TASK or '"check"' not in message.content:
        return None
    try:
        script = decode(message.content).get("check")
    except FileDamaged:
        return None
    return script if isinstance(script, str) and script.strip() else None


async def _run(script: str, workspace: Path, environment: Mapping[str, str], seconds: float) -> str:
    """What a script prints. Raises `ProviderError`, with its last line."""
    from container_agent.tools.environment import for_programs  # an agent without tools need not load them
    from container_agent.tools.program import Program
    from container_agent.tools.shell import Excerpt

    excerpt = Excerpt(_MOST_BYTES)
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    # A script that names its interpreter (`#!/usr/bin/env python3`) is read by that: those of scripts know `-c`.
    interpreter = script.splitlines()[0][2:].split() if script.startswith("#!") else []
    try:
        program = Program([*(interpreter or [shell]), "-c", script], workspace, for_programs(environment), excerpt.add)
    except OSError as error:
        raise _failed(f"cannot be started: {(error.strerror or 'unknown').lower()}") from error
    try:
        async with asyncio.timeout(seconds):
            await program.over.wait()
    except TimeoutError as error:
        raise _failed(f"took longer than {seconds:g} seconds") from error
    finally:
        program.kill()
        await program.end()
    said = excerpt.text().strip()
    if program.status != 0:
        last = said.splitlines()[-1][:_LONGEST_REASON] if said else ""
        raise _failed(f"ended with status {program.status}{': ' if last else ''}{last}")
    return said


def _failed(why: str) -> ProviderError:
    return ProviderError(FailureReason.OTHER, f"the check script {why}")
