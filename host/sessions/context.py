"""What an agent is told before it wakes: the rows of `session_context` and the context block. Pure.

The block names the chat, the ways to write and, where only one takes part, the person; in a shared conversation it
names nobody: who speaks stands with each message. It has no time in it, and changes only when somebody changes a chat,
a wiring or a setting, so that a provider's prompt cache holds from turn to turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from host.central.agent_groups import AgentGroup
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.sessions.house import House
from host.sessions.inbox import Push
from host.sessions.memory import may_save
from shared_schema.migrate import CONTRACT_VERSION
from shared_schema.rows import Address, ContextKey, Destination

MAX_CHATS = 50
"""How many connected chats are named."""


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Limits of a turn that the agent keeps by itself."""

    max_batch: int
    turn_seconds: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that the context of a session is made from.

    `shared` says that several people may speak in it; else `person` is the name of the one, as far as it is known.
    `connected` are the chats its agent group is wired to (one more than are named, where there are more), `homes` those
    it is at home in, `withdrawn` the ids of turns that were taken back.
    """

    session: Session
    agent_group: AgentGroup
    messaging_group: MessagingGroup | None
    destinations: tuple[Destination, ...]
    shared: bool
    routing: Address | None
    person: str | None = None
    connected: tuple[MessagingGroup, ...] = ()
    homes: tuple[MessagingGroup, ...] = ()
    withdrawn: tuple[str, ...] = ()


def push_of(surroundings: Surroundings, limits: TurnLimits, house: House) -> Push:
    """What is written into `inbound.db` before a wake."""
    session, group = surroundings.session, surroundings.agent_group
    routing = surroundings.routing
    platform = house.platform(surroundings.messaging_group.channel_type if surroundings.messaging_group else "")
    return Push(
        routing=None if routing is None else house.redaction.address(routing),
        destinations=[house.redaction.destination(destination) for destination in surroundings.destinations],
        context={
            ContextKey.CONTRACT_VERSION: str(CONTRACT_VERSION),
            ContextKey.GENERATION: str(session.generation),
            ContextKey.AGENT_GROUP: group.name,
            ContextKey.PROVIDER: group.provider,
            ContextKey.MODEL: group.model or "",
            ContextKey.CONTEXT: context_block(surroundings, house),
            ContextKey.RESET_NOTE: session.reset_note or "",
            ContextKey.RESUME: _pointer(session, group.provider, house.runtime),
            ContextKey.MAX_BATCH: str(limits.max_batch),
            ContextKey.TURN_SECONDS: f"{limits.turn_seconds:g}",
            ContextKey.WITHDRAWN: json.dumps(surroundings.withdrawn),
            ContextKey.SHARED: "1" if surroundings.shared else "",
            ContextKey.KIND: session.kind,
            ContextKey.MAX_TEXT: str(house.max_text),
            ContextKey.MAX_FILES: str(house.max_files if platform.takes_files else 0),
            ContextKey.MAX_FILE_BYTES: str(house.max_file_bytes),
            ContextKey.SAVE_MEMORY: "1" if may_save(group, setting=house.save_memory) else "",
            ContextKey.TIME_ZONE: _time_zone(surroundings, house),
            ContextKey.TOOL_SERVERS: group.tool_servers or "",
        },
    )


def context_block(surroundings: Surroundings, house: House) -> str:
    """The text for the prompt: where the conversation takes place, with whom, and whom the agent can write to."""
    here = surroundings.messaging_group
    others = [chat for chat in surroundings.connected if here is None or chat.id != here.id]
    lines = [f"You are {surroundings.agent_group.name}.", *_source(surroundings, house)]
    lines += _people(surroundings, house)
    lines += _delivery(surroundings, house)
    lines.append(f"The time zone of this conversation is {_time_zone(surroundings, house)}.")
    lines += _listed("You also serve these chats:", [described(chat, house) for chat in others])
    lines += _listed(
        "You can also send messages to these destinations:",
        [_destination(house.redaction.destination(destination)) for destination in surroundings.destinations],
    )
    lines += _other_platforms(surroundings, house)
    lines += _listed("You are at home in these chats:", [described(chat, house) for chat in surroundings.homes])
    return "\n".join(lines)


def _time_zone(surroundings: Surroundings, house: House) -> str:
    """The zone of the chat, or the host's."""
    here = surroundings.messaging_group
    return (here.timezone if here else None) or house.timezone


def _source(surroundings: Surroundings, house: House) -> list[str]:
    group = surroundings.messaging_group
    if group is None:
        return ["This conversation belongs to no single chat."]
    kind = "a group" if group.is_group else "a direct chat"
    name = house.redaction.name(group.channel_type, group.name)
    named = f" named {_quoted(name)}" if name else ""
    lines = [f"This conversation takes place on {group.channel_type}, in {kind}{named}."]
    if surroundings.session.thread_id is not None:
        lines.append("It is one thread of that chat.")
    return lines


def _people(surroundings: Surroundings, house: House) -> list[str]:
    if surroundings.shared:
        return ["Several people may take part; each message carries its sender's name."]
    group, person = surroundings.messaging_group, surroundings.person
    name = house.redaction.name(group.channel_type if group is not None else "", person)
    return [f"You talk with one person, {_quoted(name)}."] if name else ["You talk with one person."]


def _delivery(surroundings: Surroundings, house: House) -> list[str]:
    """What a message can have, by the settings and by what the platform says of itself."""
    group = surroundings.messaging_group
    platform = house.platform(group.channel_type if group is not None else "")
    most = min(house.max_text, platform.max_text or house.max_text)
    files = ""
    if platform.takes_files and house.max_files:
        files = f", and {house.max_files} files of {house.max_file_bytes / 1024**2:g} MiB each"
    lines = [f"A message of yours can have {most:,} characters{files}."]
    if not platform.takes_files:
        lines.append("This platform takes no files.")
    return lines


def _other_platforms(surroundings: Surroundings, house: House) -> list[str]:
    """What the platforms of other chats take, where that is not what this one takes."""
    here = surroundings.messaging_group
    types = {chat.channel_type for chat in (*surroundings.connected, *surroundings.homes)}
    types |= {each.channel_type for each in surroundings.destinations if each.channel_type is not None}
    own = _limits(here.channel_type if here is not None else "", house)
    return [
        f"On {name} a message can have {_limits(name, house)}."
        for name in sorted(types)
        if (here is None or name != here.channel_type) and _limits(name, house) != own
    ]


def _limits(channel_type: str, house: House) -> str:
    platform = house.platform(channel_type)
    most = min(house.max_text, platform.max_text or house.max_text)
    return f"{most:,} characters and {'files' if platform.takes_files and house.max_files else 'no files'}"


def described(chat: MessagingGroup, house: House) -> str:
    """A chat on one line: its platform, whether it is a group, its name."""
    kind = "a group" if chat.is_group else "a direct chat"
    name = house.redaction.name(chat.channel_type, chat.name)
    known = f"named {_quoted(name)}" if name else f"with the id {_quoted(_id(chat, house))}"
    return f"{chat.channel_type}, {kind} {known}"


def _id(chat: MessagingGroup, house: House) -> str:
    return house.redaction.chat(chat.channel_type, chat.platform_id)


def _destination(destination: Destination) -> str:
    return destination.name + (f" ({_quoted(destination.display_name)})" if destination.display_name else "")


def _listed(heading: str, items: Sequence[str]) -> list[str]:
    """A heading with its items, the first of very many."""
    if not items:
        return []
    rest = ["- and more"] if len(items) > MAX_CHATS else []
    return [heading, *(f"- {item}" for item in items[:MAX_CHATS]), *rest]


def _pointer(session: Session, provider: str, runtime: str) -> str:
    """The resume pointer, which means something only to the provider that gave it, in the runtime it was given in."""
    same = (session.pointer_provider, session.pointer_runtime) == (provider, runtime)
    return (session.provider_session_id or "") if same else ""


def _quoted(text: str) -> str:
    """A name from outside on one line, so that it cannot look like a line of ours."""
    return '"' + " ".join(text.split())[:100].replace('"', "'") + '"'
