"""What an agent is told before it wakes: the rows of `session_context` and the context block. Pure.

The block names the chat and the ways to write, and no message's sender: who speaks stands with each message. It changes
only when the wiring does, so that a provider's prompt cache holds from turn to turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.central.agent_groups import AgentGroup
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.sessions.inbox import Push
from shared_schema.migrate import CONTRACT_VERSION
from shared_schema.rows import Address, ContextKey, Destination


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a turn that the agent keeps by itself."""

    max_batch: int
    turn_seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that the context of a session is made from. `shared` says that several people may speak in it."""

    session: Session
    agent_group: AgentGroup
    messaging_group: MessagingGroup | None
    destinations: tuple[Destination, ...]
    shared: bool
    routing: Address | None


def push_of(surroundings: Surroundings, limits: Limits) -> Push:
    """What is written into `inbound.db` before a wake."""
    session, group = surroundings.session, surroundings.agent_group
    return Push(
        routing=surroundings.routing,
        destinations=surroundings.destinations,
        context={
            ContextKey.CONTRACT_VERSION: str(CONTRACT_VERSION),
            ContextKey.GENERATION: str(session.generation),
            ContextKey.AGENT_GROUP: group.name,
            ContextKey.PROVIDER: group.provider,
            ContextKey.MODEL: group.model or "",
            ContextKey.CONTEXT: context_block(surroundings),
            ContextKey.RESET_NOTE: "",
            ContextKey.RESUME: session.provider_session_id or "",
            ContextKey.MAX_BATCH: str(limits.max_batch),
            ContextKey.TURN_SECONDS: f"{limits.turn_seconds:g}",
        },
    )


def context_block(surroundings: Surroundings) -> str:
    """The text for the prompt: where the conversation takes place and whom the agent can write to."""
    group = surroundings.messaging_group
    lines = [f"You are {surroundings.agent_group.name}."]
    if group is None:
        lines.append("This conversation belongs to no chat.")
    else:
        kind = "a group" if group.is_group else "a direct chat"
        named = f" named {_quoted(group.name)}" if group.name else ""
        lines.append(f"This conversation takes place on {group.channel_type}, in {kind}{named}.")
    if surroundings.session.thread_id is not None:
        lines.append("It is one thread of that chat.")
    if surroundings.shared:
        lines.append("Several people may take part; each message carries its sender's name.")
    if surroundings.destinations:
        lines.append("You can also send messages to these destinations:")
        lines += [
            f"- {d.name}{f' ({_quoted(d.display_name)})' if d.display_name else ''}" for d in surroundings.destinations
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A name from outside on one line, so that it cannot look like a line of ours."""
    return '"' + " ".join(text.split())[:100].replace('"', "'") + '"'
