"""What a person can do about channels: set one up, see how each of them is, ask its platform, take one away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from host.central import audit
from host.channels.build import build, settings_of, trouble_of, type_of, variable
from host.channels.health import ChannelStatus, Health
from host.channels.protocol import Channel, ChannelUnavailable, Identity
from host.channels.registry import ChannelSettings, ChannelType, channel_type
from host.secrets import hidden
from host.services import Services
from host.settings import CHANNEL_NAME, RESERVED, load
from host.settings_file import put_table, remove_table
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue

_CHECK_SECONDS = 30.0
_CLOSE_SECONDS = 5.0


async def list_all(services: Services) -> list[dict[str, Any]]:
    """How each channel is: name, type, state, since, reason, hint, last_heard, reconnects.

    Without a running host a channel that could be connected is `stopped`.
    """
    found = services.running.states()
    return found if services.started_at is not None else await asyncio.to_thread(_at_rest, services, found)


async def check(services: Services, *, name: str) -> dict[str, Any]:
    """Ask the platform who a channel is there, and what is missing: `{name, type, id, account, missing}`.

    Raises `NotFound`, and what the channel raises: what is wrong, and where to mend it.
    """
    channel = await services.running.built_apart(name)
    is_own = channel is not services.channels.get(name)
    identity = await _ask(channel, services.running.hide, close=is_own)
    services.running.try_again(name)  # the settings that just worked may have mended it
    return _shown(name, channel.type, identity)


async def add(
    services: Services, *, name: str, type: str | None = None, settings: dict[str, Any], check: bool = True
) -> dict[str, Any]:
    """Set up a channel in dumbwaiter.toml; a running host connects it at once. `check`: the platform is asked first.

    Raises `Conflict` where there is one of that name, `InvalidValue`, and as `check`.
    """
    if not CHANNEL_NAME.fullmatch(name) or name in RESERVED:
        raise InvalidValue(
            f"'{name}' cannot be the name of a channel",
            hint="use small letters, digits, hyphens and underscores, 32 at most, a letter first",
        )
    if name in services.running.names():
        hint = f"`dumbwaiter channel remove {name}` takes it away, or choose another name and its --type"
        raise Conflict(f"there is a channel '{name}' already", hint=hint)
    if rival := [each for each in services.running.names() if each.replace("-", "_") == name.replace("-", "_")]:
        raise Conflict(
            f"'{name}' and the channel '{rival[0]}' would have the same variables: {variable(name, 'TOKEN')}",
            hint="choose a name that differs in more than a hyphen",
        )
    table = ({} if type is None else {"type": type}) | settings
    kind = channel_type(type_of(name, table))
    given = settings_of(kind, name, table)
    if (rival_name := _with_the_same(services, kind, given)) is not None:
        raise Conflict(
            f"the channel '{rival_name}' is this bot already",
            hint=f"give '{name}' a bot of its own, or `dumbwaiter channel remove {rival_name}` first",
        )
    identity = None
    if check:
        made = await asyncio.to_thread(build, table, services.running.context(name, Health(services.clock)))
        identity = await _ask(made.channel, lambda text: hidden(text, given.secrets()), close=True)
    path = services.settings.layout.settings
    await asyncio.to_thread(put_table, path, "channels", name, table)
    await _audit(services, "channel.add", name, {"type": kind.name, "settings": sorted(settings)})
    await services.running.put(name, load({"data": services.settings.data}).channels[name])
    state = next(each for each in await list_all(services) if each["name"] == name)
    about = {} if identity is None else _shown(name, kind.name, identity)
    return {"account": None, "missing": [], **about, **state, "file": str(path)}


async def remove(services: Services, *, name: str) -> dict[str, Any]:
    """Take a channel out of dumbwaiter.toml; a running host closes it at once. Raises `NotFound`, `Conflict`.

    Its chats and their conversations stay, and what waits to be sent there waits for a channel of that name.
    """
    services.running.require(name)
    if not await asyncio.to_thread(remove_table, services.settings.layout.settings, "channels", name):
        raise Conflict(
            f"the channel '{name}' is not set up in dumbwaiter.toml",
            hint=f"unset the variables DUMBWAITER_CHANNELS__{name.upper().replace('-', '_')}__…, then restart the host",
        )
    await _audit(services, "channel.remove", name, None)
    await services.running.remove(name)
    return {"removed": name}


async def _audit(services: Services, action: str, name: str, after: dict[str, Any] | None) -> None:
    """Of settings only their names: among the values are tokens."""
    await services.central.write(audit.record, action, name, after=after)


def _with_the_same(services: Services, kind: ChannelType, given: ChannelSettings) -> str | None:
    """The channel that shares with these settings what no two of its type may share."""
    for name in services.running.names():
        table = services.running.table(name)
        if table is None or type_of(name, table) != kind.name:
            continue
        with suppress(InvalidValue):  # one that cannot be made has no bot
            other = settings_of(kind, name, table)
            pairs = [(getattr(given, each), getattr(other, each)) for each in kind.settings.exclusive]
            if any(mine is not None and mine == theirs for mine, theirs in pairs):
                return name
    return None


async def _ask(channel: Channel, hide: Any, *, close: bool) -> Identity:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await channel.check()
    except TimeoutError:
        raise ChannelUnavailable(f"the platform did not answer within {_CHECK_SECONDS:g} seconds") from None
    except DumbwaiterError as error:
        hint = None if error.hint is None else hide(error.hint)
        raise type(error)(hide(error.what), hint=hint) from None  # its cause may show a secret
    finally:
        if close:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await channel.close()
            except Exception as error:  # what was asked is answered
                del error


def _shown(name: str, type: str, identity: Identity) -> dict[str, Any]:
    return {
        "name": name,
        "type": type,
        "id": identity.id,
        "account": identity.name,
        "missing": list(identity.missing),
    }


def _at_rest(services: Services, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known of channels that no host runs. Blocks: their packages are imported."""
    for state in states:
        table = services.running.table(state["name"])
        trouble = None if table is None else trouble_of(state["name"], table, services.clock)
        state["state"] = str(ChannelStatus.STOPPED if trouble is None else ChannelStatus.REFUSED)
        if trouble is not None:
            state["reason"], state["hint"] = trouble.what, trouble.hint
    return states
