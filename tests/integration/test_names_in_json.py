"""One name for one thing in all that the operations return (docs/cli.md, "Names in JSON")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.host import Host, running

ID = re.compile(r"[a-z]{2,4}_[0-9a-f]{16}")
OF_PLATFORMS = {"platform_id", "sender_id", "thread_id", "platform_message_id"}
SHORT = {"short_id", "short_session_id"}
LOOKING = (
    "session.list", "agent_group.list", "messaging_group.list", "wiring.list", "destination.list", "home.list",
    "status", "usage", "events",
)  # fmt: skip


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no object or list, under the key that names it."""
    match value:
        case dict():
            for name, entry in value.items():
                yield from leaves(entry, name)
        case list():
            for entry in value:
                yield from leaves(entry, key)
        case _:
            yield key, value


async def test_ids_are_called_ids_and_names_are_names(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        await _compare(host)


async def _compare(host: Host) -> None:
    await host.say("hello")
    await host.channel.wait_for(1)
    await host.settled()
    (session,) = await host.do("session.list")
    of_session = {"session": session["id"]}
    answers = {name: await host.do(name) for name in LOOKING}
    answers |= {f"usage {by}": await host.do("usage", by=by) for by in ("session", "turn", "agent-group")}
    for name in ("show", "transcript", "undo", "stop", "title", "branch", "resume", "archive", "delete", "restore"):
        answers[f"session.{name}"] = await host.do(f"session.{name}", **of_session)

    wrong = {
        (name, key, value)
        for name, answer in answers.items()
        for key, value in leaves(answer)
        if isinstance(value, str) and key not in OF_PLATFORMS | SHORT
        if (ID.fullmatch(value) is not None) != (key == "id" or key.endswith("_id"))
    }

    assert wrong == set()
    assert {value for answer in answers.values() for key, value in leaves(answer) if key == "agent_group"} == {
        "assistant"
    }
