"""Our commands, offered by Discord while people type. Discord allows few changes a day: only when something is new."""

from __future__ import annotations

import hashlib
import json
import logging

from host.channels.discord.client import DiscordClient, asked
from host.channels.discord.ids import require_id
from host.channels.protocol import ChannelState, DeliveryRefused
from host.routing.commands import COMMANDS

log = logging.getLogger(__name__)

_COMMANDS = "commands"


async def offer_commands(client: DiscordClient, state: ChannelState, application_id: str) -> None:
    """Tell Discord of the commands, where those that it knows are others. Raises `ChannelUnavailable`."""
    commands = [
        {
            "name": entry.word,
            "type": 1,
            "description": f"{entry.help[0].upper()}{entry.help[1:]}",
            "options": [{"type": 3, "name": "text", "description": "what belongs to it", "required": False}],
        }
        for entry in COMMANDS.values()
    ]
    mark = f"{application_id}/{hashlib.sha256(json.dumps(commands).encode()).hexdigest()}"
    if await state.get(_COMMANDS) == mark:
        return
    try:
        await asked(client.calls.bulk_upsert_global_commands(require_id(application_id), commands))
    except DeliveryRefused as error:
        log.warning("the commands could not be offered on Discord", extra={"error": str(error)})
        return
    await state.set(_COMMANDS, mark)
