"""The tools that write to people: to the chat of the turn, or to a named destination.

A message is called `in-<seq>` when it came in and `out-<seq>` when it went out. What is sent is in `outbound.db` when
the call returns; whether the platform took it is known later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from container_agent.providers.protocol import OutgoingFile, ProviderError, Reply
from container_agent.tools.schema import form, text
from container_agent.tools.tool import Arguments, Tool, ToolRefused
from container_agent.tools.tool_context import ToolContext
from shared_schema.rows import DestinationType, MessageOutKind

_MAX_TEXT = 100_000
_MAX_NAME = 200
_MAX_FIELDS = 25
_NAME = re.compile(r"(in|out)-([1-9]\d{0,17})", re.ASCII)
_EDITABLE = frozenset({MessageOutKind.CHAT, MessageOutKind.CARD})
_SEEN = frozenset({*_EDITABLE, MessageOutKind.QUESTION})
_DESTINATION = text("A name from `list_destinations`. Without it the message goes to the chat of this turn.", _MAX_NAME)
_FILE_SECONDS = 120.0


def tools(tool_context: ToolContext) -> list[Tool]:
    """The tools of one turn."""
    sending = _Sending(tool_context)
    return [
        Tool(
            "send_message",
            "Send a message at once, while you go on working. Your final answer is sent anyway, without this.",
            form({"text": text("The text.", _MAX_TEXT)}, {"destination": _DESTINATION}),
            sending.message,
        ),
        Tool(
            "send_file",
            "Send a file of the workspace or the session folder.",
            form(
                {"path": text("Path of the file, relative to the workspace.", 1_000)},
                {
                    "text": text("What to say with it.", _MAX_TEXT, least=0, default=""),
                    "name": text("The name it gets there; its own without it.", _MAX_NAME),
                    "destination": _DESTINATION,
                },
            ),
            sending.file,
            seconds=_FILE_SECONDS,
        ),
        Tool(
            "edit_message",
            "Replace the text of a message that you have sent.",
            form({"message": text("Its name, as `out-12`.", 30), "text": text("The new text.", _MAX_TEXT)}),
            sending.edit,
        ),
        Tool(
            "add_reaction",
            "Put an emoji under a message.",
            form({"message": text("Its name, as `in-12` or `out-12`.", 30), "emoji": text("One emoji.", 40)}),
            sending.reaction,
        ),
        Tool(
            "send_card",
            "Send a card: a title, text, and pairs of name and value, for results that are looked at rather than read.",
            form(
                {"title": text("The title.", _MAX_NAME)},
                {
                    "text": text("Text under the title.", 4_000, least=0, default=""),
                    "fields": {
                        "type": "array",
                        "description": "Pairs of name and value.",
                        "maxItems": _MAX_FIELDS,
                        "default": [],
                        "items": form({"name": text("Name.", _MAX_NAME), "value": text("Value.", 1_000, least=0)}),
                    },
                    "destination": _DESTINATION,
                },
            ),
            sending.card,
        ),
        Tool(
            "list_destinations",
            "List the destinations that you may send to, besides the chat of this turn.",
            form(),
            sending.destinations,
        ),
    ]


class _Sending:
    def __init__(self, tool_context: ToolContext) -> None:
        self._tool_context = tool_context

    async def message(self, arguments: Arguments) -> str:
        return await self._send(arguments, arguments["text"])

    async def file(self, arguments: Arguments) -> str:
        path = self._tool_context.bounds.readable(arguments["path"])
        if not path.is_file():
            raise ToolRefused(f"there is no file '{arguments['path'][:200]}'")
        context, size = self._tool_context.request.context, path.stat().st_size
        if not context.max_files and arguments.get("destination") is None:
            raise ToolRefused("this chat takes no files", hint="say what is in it, or send it to a destination")
        if size > context.max_file_bytes:
            raise ToolRefused(f"the file has {size:,} bytes, and {context.max_file_bytes:,} are allowed")
        attachment = OutgoingFile(arguments.get("name") or path.name, path)
        return await self._send(arguments, arguments["text"], files=(attachment,))

    async def card(self, arguments: Arguments) -> str:
        fields = arguments["fields"]
        lines = [arguments["title"], arguments["text"], *(f"{field['name']}: {field['value']}" for field in fields)]
        details = {"card": {"title": arguments["title"], "text": arguments["text"], "fields": fields}}
        return await self._send(arguments, "\n".join(filter(None, lines)), kind=MessageOutKind.CARD, details=details)

    async def edit(self, arguments: Arguments) -> str:
        direction, seq = _parsed(arguments["message"])
        row = self._tool_context.turn_inbox.outgoing(seq) if direction == "out" else None
        if row is None:
            raise ToolRefused(f"there is no message '{arguments['message']}' of yours")
        if row["kind"] not in _EDITABLE:
            raise ToolRefused(f"'{arguments['message']}' is not a message with a text that could be edited")
        self._require_arrival(arguments["message"], row["id"])
        self._require_length(arguments["text"])
        if row["destination"] is not None:
            self._require_destination(row["destination"])
        edited = Reply(
            arguments["text"],
            in_reply_to=row["in_reply_to"],
            destination=row["destination"],
            kind=MessageOutKind.EDIT,
            details={"edit": row["id"]},
        )
        await self._tool_context.out.send(edited)
        return f"{arguments['message']} is edited"

    async def reaction(self, arguments: Arguments) -> str:
        name, emoji = arguments["message"], arguments["emoji"]
        direction, seq = _parsed(name)
        destination = None
        if direction == "in":
            in_reply_to = target = self._tool_context.turn_inbox.id_of_incoming(seq)
        else:
            row = self._tool_context.turn_inbox.outgoing(seq)
            row = None if row is None or row["kind"] not in _SEEN else row
            target = None if row is None else row["id"]
            in_reply_to, destination = (None, None) if row is None else (row["in_reply_to"], row["destination"])
        if target is None:
            raise ToolRefused(f"there is no message '{name}'")
        if direction == "out":
            self._require_arrival(name, target)
        if destination is not None:
            self._require_destination(destination)
        await self._tool_context.out.send(
            Reply(
                emoji,
                in_reply_to=in_reply_to,
                destination=destination,
                kind=MessageOutKind.REACTION,
                details={"react_to": target, "emoji": emoji},
            )
        )
        return f"{emoji} is put under {name}"

    async def destinations(self, arguments: Arguments) -> str:
        known = self._tool_context.turn_inbox.destinations()
        if not known:
            return "There are no destinations besides the chat of this turn."
        lines = []
        for name, destination in sorted(known.items()):
            kind = "agent" if destination.type == DestinationType.AGENT_GROUP else destination.channel_type or "chat"
            lines.append(f"{name} ({kind}{', ' + destination.display_name if destination.display_name else ''})")
        return "\n".join(lines)

    async def _send(
        self,
        arguments: Arguments,
        said: str,
        *,
        kind: MessageOutKind = MessageOutKind.CHAT,
        files: tuple[OutgoingFile, ...] = (),
        details: Mapping[str, Any] | None = None,
    ) -> str:
        destination = arguments.get("destination")
        if destination is not None:
            self._require_destination(destination)
        self._require_length(said)
        reply = Reply(
            said,
            in_reply_to=self._tool_context.answered.id,
            destination=destination,
            files=files,
            kind=kind,
            details=details or {},
        )
        try:
            message_id = await self._tool_context.out.send(reply)
        except ProviderError as error:
            raise ToolRefused(error.what) from error
        return f"sent as {self._tool_context.turn_inbox.name_of(message_id)}" + (
            f" to {destination}" if destination else ""
        )

    def _require_destination(self, name: str) -> None:
        """Raises `ToolRefused` for a destination that the host would refuse; they may have changed in this turn."""
        known = self._tool_context.turn_inbox.destinations()
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ToolRefused(f"'{name}' is not one of your destinations: {names}")

    def _require_length(self, text: str) -> None:
        """Raises `ToolRefused` for a text that the host would refuse."""
        most = self._tool_context.request.context.max_text
        if len(text) > most:
            raise ToolRefused(f"the text has {len(text):,} characters, and {most:,} are allowed", hint="send a file")

    def _require_arrival(self, name: str, message_id: str) -> None:
        """Raises `ToolRefused` for a message of ours that never reached its chat."""
        if (why := self._tool_context.turn_inbox.refusal(message_id)) is not None:
            raise ToolRefused(f"'{name}' never arrived: {why}")


def _parsed(name: str) -> tuple[str, int]:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ToolRefused(f"'{name}' is not the name of a message", hint="write in-12 or out-12")
    return found[1], int(found[2])
