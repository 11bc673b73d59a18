"""What a new data folder gets: a first agent, and the terminal wired to it."""

from __future__ import annotations

import logging
from typing import Any

from host.central import agent_groups, messaging_groups
from host.channels.cli import CHANNEL_TYPE, PLATFORM_ID
from host.operations import agent_groups as agent_group_operations
from host.operations import messaging_groups as messaging_group_operations
from host.operations import wirings
from host.services import Services

log = logging.getLogger(__name__)

FIRST_AGENT_GROUP = "assistant"
TERMINAL = f"{CHANNEL_TYPE}:{PLATFORM_ID}"


async def set_up(services: Services) -> dict[str, Any]:
    """Set up a data folder that has neither agents nor chats; of any other nothing is changed. `{made}`: whether."""
    is_new = await services.central.read(
        lambda c: not agent_groups.all_groups(c) and not messaging_groups.all_groups(c)
    )
    if not is_new:
        return {"made": False}
    await agent_group_operations.add(services, name=FIRST_AGENT_GROUP)
    await messaging_group_operations.add(services, address=TERMINAL, name="Terminal")
    await wirings.add(services, messaging_group=TERMINAL, agent_group=FIRST_AGENT_GROUP)
    log.info("made the first agent group and wired the terminal to it", extra={"agent_group": FIRST_AGENT_GROUP})
    return {"made": True}
