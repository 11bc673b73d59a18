"""What an agent is told before it wakes: the rows of `session_context` and the context block. Pure.

The block names the chat, the ways to write and, where only one takes part, the person; in a shared conversation it
names no person: who speaks stands with each message. It has no time in it, and changes only with a chat, a wiring or a
setting, so that a provider's prompt cache holds from turn to turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from host.central.agent_groups import AgentGroup
from host.central.messaging_groups import MessagingGroup
from host.central.sessions import Session
from host.sessions.host_profile import HostProfile
from host.sessions.inbox import Push
from host.sessions.memory import may_save
from shared_schema.dataclass import dataclass
from shared_schema.migrate import CONTRACT_VERSION
from shared_schema.rows import Address, ContextKey, Destination, DestinationType

SESSION_WITH_AGENT = "agent"
"""The kind of a session in which one agent talks with another."""
MAX_CHATS = 50
"""How many connected chats are named."""


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Limits of a turn that the agent keeps by itself."""

    max_batch: int
    turn_seconds: float


@dataclass(frozen=True, slots=True)
class ContextInputs:
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


def push_of(inputs: ContextInputs, limits: TurnLimits, profile: HostProfile) -> Push:
    """What is written into `inbound.db` before a wake."""
    session, group = inputs.session, inputs.agent_group
    routing = inputs.routing
    platform = profile.platform(inputs.messaging_group.channel_type if inputs.messaging_group else "")
    return Push(
        routing=None if routing is None else profile.redaction.address(routing),
        destinations=[profile.redaction.destination(destination) for destination in inputs.destinations],
        context={
            ContextKey.CONTRACT_VERSION: str(CONTRACT_VERSION),
            ContextKey.GENERATION: str(session.generation),
            ContextKey.RUN: str(session.run_number),
            ContextKey.AGENT_GROUP: group.name,
            ContextKey.PROVIDER: group.provider,
            ContextKey.MODEL: group.model or "",
            ContextKey.FALLBACKS: group.fallbacks,
            ContextKey.ASK_BEFORE: group.ask_before,
            ContextKey.CONTEXT: context_block(inputs, profile),
            ContextKey.RESET_NOTE: session.reset_note or "",
            ContextKey.RESUME: _pointer(session, group.provider, profile.runtime),
            ContextKey.MAX_BATCH: str(limits.max_batch),
            ContextKey.TURN_SECONDS: f"{limits.turn_seconds:g}",
            ContextKey.WITHDRAWN: json.dumps(inputs.withdrawn),
            ContextKey.SHARED: "1" if inputs.shared else "",
            ContextKey.KIND: session.kind,
            ContextKey.MAX_TEXT: str(profile.max_text),
            ContextKey.MAX_FILES: str(profile.max_files if platform.takes_files else 0),
            ContextKey.MAX_FILE_BYTES: str(profile.max_file_bytes),
            ContextKey.SAVE_MEMORY: "1" if may_save(group, setting=profile.save_memory) else "",
            ContextKey.TIME_ZONE: _time_zone(inputs, profile),
            ContextKey.TOOL_SERVERS: group.tool_servers or "",
        },
    )


def context_block(inputs: ContextInputs, profile: HostProfile) -> str:
    """The text for the prompt: where the conversation takes place, with whom, and whom the agent can write to."""
    here = inputs.messaging_group
    others = [chat for chat in inputs.connected if here is None or chat.id != here.id]
    lines = [f"You are {inputs.agent_group.name}.", *_source(inputs, profile)]
    lines += _people(inputs, profile)
    lines += _delivery(inputs, profile)
    lines.append(f"The time zone of this conversation is {_time_zone(inputs, profile)}.")
    lines += _listed("You also serve these chats:", [described(chat, profile) for chat in others])
    lines += _listed(
        "You can also send messages to these destinations:",
        [_destination(profile.redaction.destination(destination)) for destination in inputs.destinations],
    )
    lines += _other_platforms(inputs, profile)
    lines += _listed("You are at home in these chats:", [described(chat, profile) for chat in inputs.homes])
    return "\n".join(lines)


def _time_zone(inputs: ContextInputs, profile: HostProfile) -> str:
    """The zone of the chat, or the host's."""
    here = inputs.messaging_group
    return (here.timezone if here else None) or profile.timezone


def _source(inputs: ContextInputs, profile: HostProfile) -> list[str]:
    group = inputs.messaging_group
    if inputs.session.kind == SESSION_WITH_AGENT:
        who = f" {_quoted(inputs.person)}" if inputs.person else ""
        said = "What you answer is handed to it: be complete and short."
        return [f"You talk with another agent{who}, and with no person. {said}"]
    if group is None:
        return ["This conversation belongs to no single chat."]
    kind = "a group" if group.is_group else "a direct chat"
    name = profile.redaction.name(group.channel_type, group.name)
    named = f" named {_quoted(name)}" if name else ""
    lines = [f"This conversation takes place on {group.channel_type}, in {kind}{named}."]
    if inputs.session.thread_id is not None:
        lines.append("It is one thread of that chat.")
    return lines


def _people(inputs: ContextInputs, profile: HostProfile) -> list[str]:
    if inputs.session.kind == SESSION_WITH_AGENT:
        return []
    if inputs.shared:
        return ["Several people may take part; each message carries its sender's name."]
    group, person = inputs.messaging_group, inputs.person
    name = profile.redaction.name(group.channel_type if group is not None else "", person)
    return [f"You talk with one person, {_quoted(name)}."] if name else ["You talk with one person."]


def _delivery(inputs: ContextInputs, profile: HostProfile) -> list[str]:
    """What a message can have, by the settings and by what the platform says of itself."""
    group = inputs.messaging_group
    platform = profile.platform(group.channel_type if group is not None else "")
    most = min(profile.max_text, platform.max_text or profile.max_text)
    files = ""
    if platform.takes_files and profile.max_files:
        files = f", and {profile.max_files} files of {profile.max_file_bytes / 1024**2:g} MiB each"
    lines = [f"A message of yours can have {most:,} characters{files}."]
    if not platform.takes_files:
        lines.append("This platform takes no files.")
    return lines


def _other_platforms(inputs: ContextInputs, profile: HostProfile) -> list[str]:
    """What the platforms of other chats take, where that is not what this one takes."""
    here = inputs.messaging_group
    types = {chat.channel_type for chat in (*inputs.connected, *inputs.homes)}
    types |= {each.channel_type for each in inputs.destinations if each.channel_type is not None}
    own = _limits(here.channel_type if here is not None else "", profile)
    return [
        f"On {name} a message can have {_limits(name, profile)}."
        for name in sorted(types)
        if (here is None or name != here.channel_type) and _limits(name, profile) != own
    ]


def _limits(channel_type: str, profile: HostProfile) -> str:
    platform = profile.platform(channel_type)
    most = min(profile.max_text, platform.max_text or profile.max_text)
    return f"{most:,} characters and {'files' if platform.takes_files and profile.max_files else 'no files'}"


def described(chat: MessagingGroup, profile: HostProfile) -> str:
    """A chat on one line: its platform, whether it is a group, its name."""
    kind = "a group" if chat.is_group else "a direct chat"
    name = profile.redaction.name(chat.channel_type, chat.name)
    known = f"named {_quoted(name)}" if name else f"with the id {_quoted(_id(chat, profile))}"
    return f"{chat.channel_type}, {kind} {known}"


def _id(chat: MessagingGroup, profile: HostProfile) -> str:
    return profile.redaction.chat(chat.channel_type, chat.platform_id)


def _destination(destination: Destination) -> str:
    if destination.type == DestinationType.AGENT_GROUP:
        name = _quoted(destination.display_name or destination.name)
        return f"{destination.name} (the agent {name}, whose answer comes later)"
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
