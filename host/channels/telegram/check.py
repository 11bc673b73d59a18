"""Who the bot is on Telegram, and what a person still has to set up there."""

from __future__ import annotations

from telegram import User

from host.channels.protocol import Identity
from host.channels.telegram.client import Client
from host.channels.telegram.polling import second_poller
from host.channels.telegram.settings import TelegramSettings


async def check(client: Client, settings: TelegramSettings) -> Identity:
    """Ask Telegram. Raises the errors of the protocol."""
    me = await client.ask(client.bot.get_me)
    missing = _missing_rights(me)
    hook = await client.ask(client.bot.get_webhook_info)
    if settings.mode == "polling":
        if hook.url and not settings.remove_webhook:
            missing.append(
                f"a webhook is set for this bot, at {host_of(hook.url)}, so that nothing comes by polling: set "
                "`remove_webhook = true`, or use a bot of its own"
            )
        elif (said := await second_poller(client)) is not None:
            missing.append(said)
    elif not settings.webhook_url:
        missing.append("`webhook_url` is not set: it is the https address under which Telegram reaches the host")
    elif hook.last_error_message and hook.url == settings.webhook_url:
        missing.append(f"Telegram could not reach {hook.url}: {hook.last_error_message[:200]}")
    return Identity(str(me.id), f"@{me.username}", tuple(missing))


def host_of(url: str) -> str:
    """The server of an address: its path may be a secret of the operator."""
    return "/".join(url.split("/")[:3])[:200]


def _missing_rights(me: User) -> list[str]:
    missing = []
    if me.can_join_groups is False:
        missing.append("the bot may not be added to groups: @BotFather, /setjoingroups, Enable")
    if me.can_read_all_group_messages is False:
        missing.append(
            "privacy mode is on: in groups the bot hears only commands, replies to it and messages that name it, and "
            "some mentions not at all: @BotFather, /setprivacy, Disable; then remove it from the group and add it again"
        )
    return missing
