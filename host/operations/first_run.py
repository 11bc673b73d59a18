"""What a new data folder gets: a first agent, and the terminal wired to it."""

from __future__ import annotations

import logging
from typing import Any

from host.central import agent_groups, messaging_groups
from host.central.database import Transaction
from host.central.messaging_groups import Engage, MessagingGroup, SessionMode, Wiring
from host.channels.cli import CHANNEL_TYPE, PLATFORM_ID
from host.services import Services
from shared_schema.clock import to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.providers import PROVIDERS

log = logging.getLogger(__name__)

FIRST_AGENT_GROUP = "assistant"
TERMINAL = f"{CHANNEL_TYPE}:{PLATFORM_ID}"


async def set_up(services: Services) -> dict[str, Any]:
    """Set up a data folder that has neither agents nor chats; of any other nothing is changed. `{made}`: whether.

    It is one transaction: a host that dies in between leaves no agent without a chat, which would never get one.
    """
    now = to_text(services.clock.now())

    def store(tx: Transaction) -> bool:
        if agent_groups.all_groups(tx) or messaging_groups.all_groups(tx):
            return False
        group = agent_groups.new_agent_group(FIRST_AGENT_GROUP, created_at=now, provider=PROVIDERS[0])
        chat = MessagingGroup(new_id(Prefix.MESSAGING_GROUP), CHANNEL_TYPE, PLATFORM_ID, "Terminal", 0, now)
        wiring = Wiring(new_id(Prefix.WIRING), chat.id, group.id, SessionMode.SHARED, 0, Engage.ALL, None, now)
        agent_groups.insert(tx, group)
        messaging_groups.insert(tx, chat)
        messaging_groups.wire(tx, wiring)
        return True

    made = await services.central.write(store)
    if made:
        log.info("made the first agent group and wired the terminal to it", extra={"agent_group": FIRST_AGENT_GROUP})
    return {"made": made}
