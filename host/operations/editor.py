"""What an editor asks of an agent, through `dumbwaiter acp`: the same as a program with a token does, as the owner.

Editors have one chat, `api:editor`; each of their conversations is a thread of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from host.central import agent_groups, asked
from host.central.database import Queryable
from host.central.tokens import EDITOR, Rights, Token
from host.operations import asking
from host.services import Services
from host.sessions.attachments import Attachment
from shared_schema.clock import to_text
from shared_schema.errors import Conflict
from shared_schema.rows import decode

_MOST_REMEMBERED = 100


async def ask(
    services: Services,
    *,
    thread: str,
    text: str,
    key: str,
    agent_group: str | None = None,
    files: list[str] | None = None,
) -> dict[str, Any]:
    """Hand in what a person wrote in an editor: `{message_id, session_id}`. Without a name, to the only agent there is.

    Raises `Conflict` when there are several, and as `asking.hand_in`.
    """
    name = agent_group if agent_group is not None else await services.central.read(_only_one)
    attachments = [Attachment(Path(file).name, Path(file)) for file in files or ()]
    done = await asking.hand_in(
        services, _owner(services), agent_group=name, thread=thread, text=text, key=key, files=attachments
    )
    return {"message_id": done.message_id, "session_id": done.session_id}


async def follow(services: Services, *, message: str) -> AsyncIterator[dict[str, Any]]:
    """What answers a message of an editor, until it is over, as `asking.follow` has it."""
    async for each in asking.follow(services, _owner(services), message):
        yield each


async def stop(services: Services, *, message: str) -> dict[str, Any]:
    """End what the agent does for a message of an editor. Raises `NotFound`."""
    return await asking.stop(services, _owner(services), message)


async def transcript(services: Services, *, thread: str) -> list[dict[str, Any]]:
    """A conversation of an editor, oldest first: `asked` and `text`, what was answered."""

    def load(connection: Queryable) -> list[dict[str, Any]]:
        found = asked.newest(connection, platform_id=EDITOR, agent_group_id=None, limit=_MOST_REMEMBERED * 10)
        own = [each for each in found if each.thread_id == thread][:_MOST_REMEMBERED]
        return [
            {
                "asked": str(decode(each.content).get("text", "")),
                "text": asking.shown_of(each, asked.said(connection, each))["text"],
            }
            for each in reversed(own)
        ]

    return await services.central.read(load)


def _only_one(connection: Queryable) -> str:
    names = [each.name for each in agent_groups.all_groups(connection)]
    if len(names) != 1:
        hint = "name one: `dumbwaiter acp NAME`" if names else "add one: `dumbwaiter agent-group add NAME`"
        raise Conflict(f"there are {len(names)} agents", hint=hint)
    return names[0]


def _owner(services: Services) -> Token:
    """What an editor may do: all that its owner may, who started it at the terminal."""
    now = to_text(services.clock.now())
    return Token("", EDITOR, Rights.ADMIN, None, None, None, None, "month", now, None, None)
