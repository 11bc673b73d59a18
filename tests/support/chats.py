"""More chats for a running host, and looking at one agent of it."""

from __future__ import annotations

import os
import signal
from typing import Any

from host.channels.protocol import Outgoing
from shared_schema.layout import SessionLayout
from tests.support.host import AGENT, Host, rows
from tests.support.wait import until


async def add_chats(host: Host, *names: str, agent_group: str = AGENT, **wiring: Any) -> None:
    """Chats of the memory platform, wired to an agent group."""
    for name in names:
        await host.do("messaging_group.add", address=f"memory:{name}", is_group=True, unknown_sender="public")
        await host.do("wiring.add", messaging_group=f"memory:{name}", agent_group=agent_group, **wiring)


def sent_to(host: Host, chat: str) -> list[Outgoing]:
    """What a chat has been sent so far, in order."""
    return [message for message in host.channel.sent if message.address.platform_id == chat]


def texts_to(host: Host, chat: str) -> list[str]:
    """The texts of that."""
    return [message.text for message in sent_to(host, chat)]


def said(host: Host) -> list[str]:
    """The texts of agents, in order; without the notices of the host's own."""
    return [message.text for message in host.channel.sent if not message.from_host]


async def hears(host: Host, text: str) -> list[str]:
    """Wait until an agent's message has arrived; the texts of agents by then."""
    await until(lambda: text in said(host), f"'{text}' arrived")
    return said(host)


async def answers(host: Host, chat: str, count: int = 1, limit: float = 60.0) -> list[str]:
    """The texts a chat was sent, once there are that many."""
    await until(lambda: len(sent_to(host, chat)) >= count, f"{count} messages in {chat}", limit)
    return texts_to(host, chat)


async def ask_in(host: Host, chat: str, text: str, limit: float = 60.0) -> str:
    """Somebody writes in a chat, and the text of the next thing that chat is sent."""
    count = len(sent_to(host, chat))
    await host.say(text, chat=chat)
    return (await answers(host, chat, count + 1, limit))[count]


async def session_of(host: Host, chat: str) -> str:
    """The id of the one active session of a chat."""
    (found,) = await host.do("session.list", messaging_group=f"memory:{chat}", status="active")
    return str(found["id"])


async def folder_of(host: Host, chat: str) -> SessionLayout:
    """The folder of that session."""
    return await host.session(await session_of(host, chat))


def agent_pid(host: Host, session_id: str) -> int:
    """The process of a session's agent."""
    return int(host.services.supervisor.agents[session_id].handle.reference)


def kill_agent(host: Host, session_id: str) -> None:
    """SIGKILL for a session's agent."""
    os.kill(agent_pid(host, session_id), signal.SIGKILL)


async def is_working_on(layout: SessionLayout, message_id: str) -> None:
    """Wait until the agent has taken a message into a turn."""
    query = "SELECT 1 FROM processing_ack WHERE message_id = ? AND status = 'processing'"
    await until(
        lambda: layout.outbound.exists() and rows(layout.outbound, query, message_id), f"{message_id} is in a turn"
    )


async def refusals(host: Host, session_id: str) -> dict[str, str]:
    """What was refused of a session's agent: what → the newest reason."""
    shown = await host.do("session.show", session=session_id)
    return {row["what"]: row["reason"] for row in reversed(shown["refusals"])}
