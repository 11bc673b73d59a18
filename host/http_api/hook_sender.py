"""Posting events to hooks: signed, in their order, tried again as deliveries are, from where each was before a restart.

Each request is signed as Standard Webhooks 1.0 has it (`host/channels/webhook/signature.py`). An event may come twice,
with the same `webhook-id`: when the host dies between the answer and noting it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp

from host.background import heard, in_background, repeat
from host.central import events, hooks
from host.central.database import Queryable
from host.central.events import LiveEvent
from host.central.hooks import EventHook
from host.channels.unreachable import why
from host.channels.webhook.signature import signed
from host.delivery.retry import RetryPolicy, wait_after
from host.services import Services
from shared_schema import json_text
from shared_schema.clock import from_text, to_text

log = logging.getLogger(__name__)

_FINAL = frozenset({400, 410, 413, 414, 415, 422})
"""What a receiver answers that will never take this event."""
_AT_ONCE = 50
_LOOK_SECONDS = 5.0
_LONGEST_WAIT = 30.0
_RETRY_SECONDS = 2.0
_GATHER_SECONDS = 0.05


class _Refused(Exception):
    """The receiver will never take this event."""


class _NotNow(Exception):
    """It was not taken, and may be later."""


@asynccontextmanager
async def sending_hooks(services: Services) -> AsyncIterator[None]:
    """Post events to hooks until the block ends. Without hooks it only waits for one."""
    sender = _Sender(services)
    services.hooks.attempt = sender.attempt
    try:
        async with in_background(sender.run(), name="hooks"):
            yield
    finally:
        services.hooks.attempt = None


class _Sender:
    """One task for each hook: one that is down holds up no other."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._policy = RetryPolicy(services.settings.delivery_retry_seconds, services.settings.delivery_hours)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        changed = self._services.hooks.changed
        try:
            await repeat(self._keep_all, log=log, failure="hooks wait", retry_seconds=_RETRY_SECONDS, news=changed)
        finally:
            await self._keep(set())

    async def _keep_all(self) -> None:
        await self._keep(set(await self._services.central.read(hooks.ids)))

    async def _keep(self, wanted: set[str]) -> None:
        """Have a task for each of the hooks, and none for others."""
        gone = [self._tasks.pop(each) for each in self._tasks.keys() - wanted]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for hook_id in wanted - self._tasks.keys():
            self._tasks[hook_id] = asyncio.create_task(self._serve(hook_id), name=f"hook {hook_id}")

    async def _serve(self, hook_id: str) -> None:
        with self._services.dispatcher.following() as news:

            async def step() -> float:
                pause = await self._post_some(hook_id)
                if pause is None:
                    await heard(news, _LOOK_SECONDS)
                    pause = _GATHER_SECONDS
                await asyncio.sleep(pause)  # where its receiver is down, news change nothing about that
                return 0.0

            await repeat(step, log=log, failure="a hook waits", retry_seconds=_RETRY_SECONDS, news=news, hook=hook_id)

    async def _post_some(self, hook_id: str) -> float | None:
        """Post what waits. How long to rest in any case; None: until there is news."""
        services = self._services
        hook, found, oldest = await services.central.read(lambda c: _waiting(c, hook_id))
        if hook is None:  # it was removed, and this ends in a moment
            return None
        if hook.next_at is not None:
            left = (from_text(hook.next_at) - services.clock.now()).total_seconds()
            if left > 0:
                return min(left, _LONGEST_WAIT)  # the clock may be set meanwhile
        if oldest is not None and oldest > hook.position + 1:
            missed = oldest - hook.position - 1
            log.warning("a hook has missed events", extra={"hook": hook.name, "events": missed})
            await services.central.write(lambda c: hooks.passed(c, hook.id, oldest - 1, missed))
        attempts, passed = hook.attempts, 0
        for event in found:
            if not hook.wants(event.kind, event.agent_group_id):
                passed = event.number
                continue
            wait = await self._post_one(hook, event, attempts + 1)
            if wait is not None:
                return wait
            attempts = 0  # the next one is tried for the first time
        if passed:
            await services.central.write(lambda c: hooks.passed(c, hook.id, passed))
        return 0.0 if len(found) == _AT_ONCE else None

    async def _post_one(self, hook: EventHook, event: LiveEvent, attempts: int) -> float | None:
        """Post an event, and note what came of it. How long to wait before it is tried again; None: it is done with."""
        services = self._services
        try:
            await self._post(hook, f"{hook.id}-{event.number}", _told(hook, event))
        except _NotNow as failure:
            wait, error = wait_after(attempts, self._policy), str(failure)
            if wait is not None:
                at = to_text(services.clock.now() + timedelta(seconds=wait))
                await services.central.write(lambda c: hooks.failed(c, hook.id, attempts, at, error))
                return min(wait, _LONGEST_WAIT)
            await self._give_up(hook, event, error)
        except _Refused as failure:
            await self._give_up(hook, event, str(failure))
        else:
            await services.central.write(hooks.delivered, hook.id, event.number)
        return None

    async def _give_up(self, hook: EventHook, event: LiveEvent, error: str) -> None:
        log.warning("an event was not delivered", extra={"hook": hook.name, "number": event.number, "error": error})
        await self._services.central.write(lambda c: hooks.given_up(c, hook.id, event.number, error))

    async def attempt(self, hook_id: str) -> str | None:
        """Post a test; why it was not taken, None: it was."""
        hook = await self._services.central.read(lambda c: hooks.by_id(c, hook_id))
        if hook is None:
            return "the hook is gone"
        now = to_text(self._services.clock.now())
        body: dict[str, Any] = {"type": "test", "number": None, "at": now, "hook": hook.name, "data": {}}
        try:
            await self._post(hook, f"{hook.id}-test-{now}", body)
        except (_NotNow, _Refused) as failure:
            return str(failure)
        return None

    async def _post(self, hook: EventHook, message_id: str, body: dict[str, Any]) -> None:
        """Raises `_NotNow`, `_Refused`."""
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = signed(hook.secret, message_id, int(self._services.clock.now().timestamp()), content)
        headers |= {"Content-Type": "application/json", "Idempotency-Key": message_id, "User-Agent": "dumbwaiter"}
        limit = aiohttp.ClientTimeout(total=self._services.settings.delivery_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(hook.url, data=content, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except TimeoutError as error:
            raise _NotNow("it did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _NotNow(f"it cannot be reached: {why(error)}") from error
        if 200 <= status < 300:
            return
        if status in _FINAL or 300 <= status < 400:
            raise _Refused(f"it answered {status}")
        raise _NotNow(f"it answered {status}")


def _waiting(connection: Queryable, hook_id: str) -> tuple[EventHook | None, list[LiveEvent], int | None]:
    hook = hooks.by_id(connection, hook_id)
    if hook is None:
        return None, [], None
    return hook, events.after(connection, hook.position, _AT_ONCE), hooks.oldest_event(connection)


def _told(hook: EventHook, event: LiveEvent) -> dict[str, Any]:
    return {
        "type": event.kind,
        "number": event.number,
        "at": event.at,
        "hook": hook.name,
        "session_id": event.session_id,
        "agent_group_id": event.agent_group_id,
        "data": json_text.parse(event.data),
    }
