"""Events posted to hooks: signed, in order, tried again, over a restart, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from host.http_api.hook_sender import sending_hooks
from shared_schema.errors import Conflict, InvalidValue, NotFound
from tests.platforms.webhook_receiver import WebhookReceiver, receiving
from tests.support.host import AGENT, Host, running
from tests.support.wait import until


@asynccontextmanager
async def sending(data: Path, **settings: Any) -> AsyncIterator[Host]:
    async with running(data, **settings) as host, sending_hooks(host.services):
        yield host


async def hooked(host: Host, receiver: WebhookReceiver, **options: Any) -> None:
    """A hook that posts to a receiver, which knows its secret."""
    made = await host.do("hook.add", name="ops", url=receiver.url, **options)
    receiver.secret = made["secret"]


async def the_hook(host: Host) -> dict[str, Any]:
    (hook,) = await host.do("hook.list")
    found: dict[str, Any] = hook
    return found


async def test_events_come_signed_and_in_their_order(tmp_path: Path) -> None:
    async with sending(tmp_path) as host, receiving("") as receiver:
        await hooked(host, receiver)
        await host.ask("hello")
        await host.settled()
        events = await host.do("events")

        got = await receiver.got(len(events))

        assert [each["number"] for each in got] == [each["number"] for each in events]
        assert got[0] | {"id": None} == {
            "type": events[0]["kind"],
            "number": events[0]["number"],
            "at": events[0]["at"],
            "hook": "ops",
            "session_id": events[0]["session_id"],
            "agent_group_id": events[0]["agent_group_id"],
            "data": events[0]["data"],
            "id": None,
        }


async def test_a_hook_gets_the_kinds_and_the_agent_that_it_asked_for(tmp_path: Path) -> None:
    async with sending(tmp_path) as host, receiving("") as receiver:
        await host.do("agent_group.add", name="other", provider="scripted")
        await host.do("hook.add", name="other", url=receiver.url, agent_group="other")
        await hooked(host, receiver, kinds=["turn-ended"], agent_group=AGENT)
        for _ in range(3):
            await host.ask("hello")

        got = await receiver.got(3)

        assert [each["type"] for each in got] == ["turn-ended"] * 3
        assert {each["hook"] for each in got} == {"ops"}


async def test_what_is_not_taken_is_tried_again_and_what_never_will_be_is_given_up(tmp_path: Path) -> None:
    async with sending(tmp_path) as host, receiving("") as receiver:
        receiver.answers = [503, 500, 429]
        await hooked(host, receiver, kinds=["turn-ended"])
        await host.ask("hello")
        await receiver.got(1)
        assert len(receiver.attempts) == 4
        assert len({each["webhook-id"] for each in receiver.attempts}) == 1
        receiver.answers = [410]
        await host.ask("hello again")

        async def is_missed() -> bool:
            hook = await the_hook(host)
            return hook["missed"] == 1 and hook["last_error"] == "it answered 410"

        await until(is_missed, "it is given up", 60)
        assert (await the_hook(host))["delivered"] == 1


async def test_what_waited_is_posted_by_the_next_host(tmp_path: Path) -> None:
    async with receiving("") as receiver:
        receiver.answers = [503] * 1000
        async with sending(tmp_path) as host:
            await hooked(host, receiver, kinds=["turn-ended"])
            await host.ask("hello")

            async def waits() -> bool:
                (shown,) = (await host.do("status"))["hooks"]
                return shown["waiting"] == 1 and shown["last_error"] == "it answered 503"

            await until(waits, "status says that it waits", 60)
        receiver.answers = []
        async with sending(tmp_path) as host:
            (got,) = await receiver.got(1)
            assert got["type"] == "turn-ended"


async def test_a_hook_that_is_down_holds_up_no_other(tmp_path: Path) -> None:
    async with sending(tmp_path) as host, receiving("") as receiver:
        await host.do("hook.add", name="away", url="http://127.0.0.1:9/x")
        await hooked(host, receiver, kinds=["turn-ended"])
        await host.ask("hello")
        await receiver.got(1)

        async def says_why() -> bool:
            away = next(each for each in await host.do("hook.list") if each["name"] == "away")
            return str(away["last_error"]).startswith("it cannot be reached")

        await until(says_why, "the list says what is wrong", 60)


async def test_events_that_are_gone_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as host, receiving("") as receiver:
        await hooked(host, receiver, kinds=["turn-ended"])
        for _ in range(2):
            await host.ask("hello")
        await host.settled()
        newest = (await host.do("events"))[-1]["number"]
        await host.services.central.write(lambda tx: tx.execute("DELETE FROM events WHERE number < ?", (newest,)))
        async with sending_hooks(host.services):

            async def is_counted() -> bool:
                return bool((await the_hook(host))["missed"] == newest - 1)

            await until(is_counted, "what is gone is counted", 60)


async def test_a_test_says_whether_it_was_taken(tmp_path: Path) -> None:
    async with sending(tmp_path) as host, receiving("") as receiver:
        await hooked(host, receiver)
        assert await host.do("hook.test", name="ops") == {"name": "ops", "taken": True, "error": None}
        receiver.answers = [404]
        assert (await host.do("hook.test", name="ops"))["error"] == "it answered 404"
        assert [each["type"] for each in receiver.messages] == ["test"]
        await host.do("hook.remove", name="ops")
        with pytest.raises(NotFound, match="hook list"):
            await host.do("hook.test", name="ops")


async def test_what_cannot_be_a_hook_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await host.do("hook.add", name="ops", url="https://a.example/x?key=canary")
        for wrong, kind in (
            ({"name": "ops", "url": "https://a.example"}, Conflict),
            ({"name": "a b", "url": "https://a.example"}, InvalidValue),
            ({"name": "a", "url": "ftp://a.example"}, InvalidValue),
            ({"name": "a", "url": "file:///etc/passwd"}, InvalidValue),
            ({"name": "a", "url": "https://"}, InvalidValue),
            ({"name": "a", "url": "https://a.example:99999/"}, InvalidValue),
            ({"name": "a", "url": "https://a.example/\r\nX: y"}, InvalidValue),
            ({"name": "a", "url": "https://a.example", "kinds": ["nothing"]}, InvalidValue),
            ({"name": "a", "url": "https://a.example", "agent_group": "nobody"}, NotFound),
        ):
            with pytest.raises(kind):
                await host.do("hook.add", **wrong)
        with pytest.raises(Conflict, match="start the host"):
            await host.do("hook.test", name="ops")
        told = str(await host.do("hook.list")) + str(await host.do("audit.list"))
        assert "whsec_" not in told
        assert "canary" not in told
