"""What tests of access have in common: chats whose rules differ, and who writes there."""

from __future__ import annotations

from typing import Any

from host.channels.protocol import Outgoing
from host.routing.event import Clicked, Event, Receipt
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address
from tests.support.host import AGENT, Host
from tests.support.wait import until

OWNER = "memory:olga"
OWNERS_CHAT = "direct-olga"
"""Where the owner is reached: the direct chat that the channel opens."""


async def chat(
    host: Host, name: str, *, is_group: bool = False, agents: tuple[str, ...] = (AGENT,), **rule: Any
) -> None:
    """A chat `memory:<name>`, wired to agents; by default with the rule that such a chat gets."""
    await host.do("messaging_group.add", address=f"memory:{name}", is_group=is_group, **rule)
    for agent in agents:
        await host.do("wiring.add", messaging_group=f"memory:{name}", agent_group=agent)


async def owner(host: Host) -> None:
    """Olga is the owner."""
    await host.do("role.grant", user=OWNER, role="owner")


async def write(host: Host, text: str, *, where: str, sender: str = "sam", **more: Any) -> Receipt:
    """Somebody writes somewhere, as the platform tells it."""
    values: dict[str, Any] = {"platform_message_id": new_id(Prefix.MESSAGE), "sender_name": sender.title()} | more
    thread = values.pop("thread", None)
    return await host.channel.receive(
        Event(address=Address("memory", where, thread), text=text, sender_id=sender, **values)
    )


async def click(host: Host, card: Outgoing, label: str, *, sender: str, click_id: str = "c1") -> Receipt:
    """Somebody presses a button."""
    value = next(button.value for button in card.buttons if button.label == label)
    return await host.channel.receive(Clicked(card.address, "mem", value, click_id, sender, sender.title()))


async def said_in(host: Host, where: str, count: int = 1) -> list[Outgoing]:
    """What was said in a chat, once there is so much of it."""

    def found() -> list[Outgoing] | None:
        said = [message for message in host.channel.sent if message.address.platform_id == where]
        return said if len(said) >= count else None

    return await until(
        found, f"{count} messages in {where}, of {[(m.address.platform_id, m.text) for m in host.channel.sent]}"
    )


async def counted(host: Host, *tables: str) -> dict[str, int]:
    """How many rows some tables have."""
    return {table: (await host.central(f"SELECT count(*) AS n FROM {table}"))[0]["n"] for table in tables}
