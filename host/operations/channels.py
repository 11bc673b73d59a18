"""What a person can do about channels: set one up, change it, see how each is, ask its platform, take one away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from host.central import audit
from host.channels.build import build, settings_of, trouble_of, type_of, variable
from host.channels.health import ChannelStatus, Health
from host.channels.next_line import hint_with_line
from host.channels.protocol import Channel, ChannelUnavailable, Identity
from host.channels.registry import ChannelSettings, ChannelType, channel_type
from host.secrets import hidden
from host.services import Services
from host.settings import CHANNEL_NAME, RESERVED, in_environment, load
from host.settings_file import put_table, remove_table, table_of
from shared_schema.errors import Conflict, DumbwaiterError, InvalidValue, NotFound

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

    What a person has written into dumbwaiter.toml since the host was started is read for it, and holds from then on.
    Raises `NotFound`, and what the channel raises: what is wrong, and where to mend it.
    """
    changed = await asyncio.to_thread(_changed_table, services, name)
    channel = await services.running.built_apart(name, changed)
    is_own = channel is not services.channels.get(name)
    secrets = [] if changed is None else settings_of(channel_type(channel.type), name, changed).secrets()

    def hide(text: str) -> str:
        return hidden(services.running.hide(text), secrets)

    identity = await _ask(channel, hide, name, is_kept=True, close=is_own)
    if changed is not None:
        await services.running.put(name, changed)
    else:
        services.running.try_again(name)  # what was mended on the platform may have mended it
    return _shown(name, channel.type, identity)


async def add(
    services: Services, *, name: str, type: str | None = None, settings: dict[str, Any], check: bool = True
) -> dict[str, Any]:
    """Set up a channel in dumbwaiter.toml; a running host connects it at once. `check`: the platform is asked first.

    Returns its state as `list_all` does, with `account`, `missing`, `file` and `has_direct_chats`. Raises `Conflict`
    where there is one of that name, `InvalidValue`, and as `check`.
    """
    if not CHANNEL_NAME.fullmatch(name) or name in RESERVED:
        raise InvalidValue(
            f"'{name}' cannot be the name of a channel",
            hint="use small letters, digits, hyphens and underscores, 32 at most, a letter first",
        )
    if name in services.running.names():
        hint = (
            f"`dumbwaiter channel set {name}` changes it, `dumbwaiter channel remove {name}` takes it away; or choose "
            "another name and its --type"
        )
        raise Conflict(f"there is a channel '{name}' already", hint=hint)
    if rival := [each for each in services.running.names() if each.replace("-", "_") == name.replace("-", "_")]:
        raise Conflict(
            f"'{name}' and the channel '{rival[0]}' would have the same variables: {variable(name, 'TOKEN')}",
            hint="choose a name that differs in more than a hyphen",
        )
    table = ({} if type is None else {"type": type}) | settings
    kind, identity = await _checked(services, name, table, check=check, is_kept=False)
    return await _keep(services, "channel.add", name, table, kind, identity, settings)


async def change(
    services: Services, *, name: str, settings: dict[str, Any], unset: list[str] | None = None, check: bool = True
) -> dict[str, Any]:
    """Change settings of a channel in dumbwaiter.toml; a running host connects it anew. `unset` are taken away.

    `check`: the platform is asked first, and nothing is changed where it refuses. Returns and raises as `add`;
    `NotFound` where there is no channel of that name, `Conflict` for what the environment sets.
    """
    services.running.require(name)
    file = services.settings.layout.settings
    kept = await asyncio.to_thread(table_of, file, "channels", name)
    if kept is None:
        raise Conflict(
            f"the channel '{name}' is not set up in dumbwaiter.toml",
            hint=f"change the variables {variable(name, '…')}, then restart the host",
        )
    unset = unset or []
    for each in (*settings, *unset):
        if each == "type":
            raise InvalidValue("a channel keeps its type", hint="`dumbwaiter channel add` makes another channel")
        if in_environment(variable(name, each)):
            raise Conflict(
                f"'{each}' of the channel '{name}' is set by the host's environment, which goes before the file",
                hint=f"change or unset {variable(name, each)}, then restart the host",
            )
    if unknown := [each for each in unset if each not in kept]:
        raise NotFound(f"'{unknown[0]}' of the channel '{name}' is not set in dumbwaiter.toml")
    table = {key: value for key, value in (kept | settings).items() if key not in unset}
    given_elsewhere = {key: value for key, value in (services.running.table(name) or {}).items() if key not in kept}
    kind, identity = await _checked(services, name, given_elsewhere | table, check=check, is_kept=True)
    return await _keep(services, "channel.set", name, table, kind, identity, [*settings, *unset])


async def _checked(
    services: Services, name: str, table: dict[str, Any], *, check: bool, is_kept: bool
) -> tuple[ChannelType, Identity | None]:
    """The type of a channel with these settings, and who it is there. Raises as `add`."""
    kind = channel_type(type_of(name, table))
    try:
        given = settings_of(kind, name, table)
    except InvalidValue as error:  # they stand in no file yet, where its own hint sends a person
        verb = "set" if is_kept else "add"
        raise InvalidValue(error.what, hint=f"type `dumbwaiter channel {verb} {name}` again") from None
    if (rival_name := _with_the_same(services, kind, given, name)) is not None:
        raise Conflict(
            f"the channel '{rival_name}' is this bot already",
            hint=f"give '{name}' a bot of its own, or `dumbwaiter channel remove {rival_name}` first",
        )
    if not check:
        return kind, None
    made = await asyncio.to_thread(build, table, services.running.context(name, Health(services.clock)))
    return kind, await _ask(made.channel, lambda text: hidden(text, given.secrets()), name, is_kept=is_kept, close=True)


async def _keep(
    services: Services,
    action: str,
    name: str,
    table: dict[str, Any],
    kind: ChannelType,
    identity: Identity | None,
    changed: Iterable[str],
) -> dict[str, Any]:
    """Write the table of a channel, and run it with that."""
    path = services.settings.layout.settings
    await asyncio.to_thread(put_table, path, "channels", name, table)
    await _audit(services, action, name, {"type": kind.name, "settings": sorted(changed)})
    await services.running.put(name, load({"data": services.settings.data}).channels[name])
    state = next(each for each in await list_all(services) if each["name"] == name)
    about = {} if identity is None else _shown(name, kind.name, identity)
    return {
        "account": None, "missing": [], **about, **state, "file": str(path), "has_direct_chats": kind.has_direct_chats,
    }  # fmt: skip


def _changed_table(services: Services, name: str) -> dict[str, Any] | None:
    """The settings of a channel as they stand now; None: those it runs with. Blocks. Raises `BadSetting`."""
    table = services.running.table(name)
    found = load({"data": services.settings.data}, only_look=True).channels.get(name)
    return None if table is None or found is None or found == dict(table) else dict(found)


async def remove(services: Services, *, name: str) -> dict[str, Any]:
    """Take a channel out of dumbwaiter.toml; a running host closes it at once. Raises `NotFound`, `Conflict`.

    Its chats and their conversations stay, and what waits to be sent there waits for a channel of that name.
    """
    services.running.require(name)
    if not await asyncio.to_thread(remove_table, services.settings.layout.settings, "channels", name):
        raise Conflict(
            f"the channel '{name}' is not set up in dumbwaiter.toml",
            hint=f"unset the variables {variable(name, '…')}, then restart the host",
        )
    await _audit(services, "channel.remove", name, None)
    await services.running.remove(name)
    return {"removed": name}


async def _audit(services: Services, action: str, name: str, after: dict[str, Any] | None) -> None:
    """Of settings only their names: among the values are tokens."""
    await services.central.write(audit.record, action, name, after=after)


def _with_the_same(services: Services, kind: ChannelType, given: ChannelSettings, name: str) -> str | None:
    """Another channel that shares with these settings what no two of its type may share."""
    for each in services.running.names():
        table = services.running.table(each)
        if each == name or table is None or type_of(each, table) != kind.name:
            continue
        with suppress(InvalidValue):  # one that cannot be made has no bot
            other = settings_of(kind, each, table)
            pairs = [(getattr(given, setting), getattr(other, setting)) for setting in kind.settings.exclusive]
            if any(mine is not None and mine == theirs for mine, theirs in pairs):
                return each
    return None


async def _ask(channel: Channel, hide: Callable[[str], str], name: str, *, is_kept: bool, close: bool) -> Identity:
    """Ask the platform; an error says the line to type next, and shows no secret."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await channel.check()
    except TimeoutError:
        late = ChannelUnavailable(f"the platform did not answer within {_CHECK_SECONDS:g} seconds")
        raise ChannelUnavailable(late.what, hint=hint_with_line(late, name, is_kept=is_kept)) from None
    except DumbwaiterError as error:
        hint = hide(hint_with_line(error, name, is_kept=is_kept))
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
