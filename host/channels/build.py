"""From `[channels.<name>]` to a channel, or to a sentence on why there is none. Nothing here stops the host."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import host.channels
from host.channels.health import Health
from host.channels.protocol import Channel, Context
from host.channels.registry import ChannelSettings, ChannelType, channel_type
from host.sessions.attachments import FileLimits
from host.validation import misfit_of
from shared_schema.clock import Clock
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.provisions import how_to_install_extra

log = logging.getLogger(__name__)


class ExtraMissing(DumbwaiterError):
    """What a type of channel needs is not installed."""


class CannotBuild(DumbwaiterError):
    """A channel cannot be made of its settings."""


@dataclass(frozen=True, slots=True)
class Built:
    """A channel and the secrets it was made with."""

    channel: Channel
    secrets: tuple[str, ...]


FindType = Callable[[str], ChannelType]
"""The type of a name. Raises as `channel_type`."""


def build(table: Mapping[str, Any], context: Context, find: FindType = channel_type) -> Built:
    """Make a channel. Imports its package, and by that the SDK of its platform.

    Raises `InvalidValue` for a setting or a type that cannot be, `ExtraMissing`, and `CannotBuild`.
    """
    kind = find(type_of(context.name, table))
    settings = settings_of(kind, context.name, table)
    try:
        channel = kind.make(settings, context)
    except ImportError as error:
        raise _missing(kind, error) from error
    except DumbwaiterError:
        raise
    except Exception as error:  # the boundary to an installed package
        log.exception("a channel cannot be built", extra={"channel": context.name})
        raise CannotBuild(
            f"the channel cannot be built: {type(error).__name__}", hint="the host's log says more"
        ) from error
    return Built(channel, tuple(settings.secrets()))


def require_libraries(kind: ChannelType) -> None:
    """Import what a type of channel of this program needs; nothing is known of others'. Raises `ExtraMissing`."""
    package = f"{host.channels.__name__}.{kind.name}"
    if kind.make.__module__ != package:
        return
    try:
        import_module(f"{package}.channel")
    except ImportError as error:
        raise _missing(kind, error) from error


def trouble_of(name: str, table: Mapping[str, Any], clock: Clock) -> DumbwaiterError | None:
    """Why a channel cannot be made of its settings; None when it can. No platform is asked."""
    limits = FileLimits(0, 0, 0)
    try:
        build(table, Context(name, clock, _Nothing(), Health(clock), Path("downloads"), limits))
    except DumbwaiterError as error:
        return error
    return None


class _Nothing:
    """The `ChannelState` of a channel that is made to see whether it can be made."""

    async def get(self, key: str) -> str | None:
        return None

    async def set(self, key: str, value: str) -> None:
        """Nothing is kept."""


def type_of(name: str, table: Mapping[str, Any]) -> str:
    """The name of a channel's type: its own name where none is given."""
    return str(table.get("type") or name)


def settings_of(kind: ChannelType, name: str, table: Mapping[str, Any]) -> ChannelSettings:
    """The checked settings of a channel. Raises `InvalidValue`, which names the setting and no value."""
    given = {key: _parsed(kind, key, value) for key, value in table.items()} | {"type": kind.name}
    try:
        return kind.settings(**given)
    except ValidationError as error:
        raise _misfit(name, error) from None  # its own text would have the values
    except Exception as error:  # a validator of an installed package
        raise InvalidValue(f"the settings of the channel cannot be checked: {type(error).__name__}") from None


def variable(name: str, setting: str) -> str:
    """The environment variable of a setting of a channel."""
    return f"DUMBWAITER_CHANNELS__{name.upper().replace('-', '_')}__{setting.upper()}"


def _parsed(kind: ChannelType, key: str, value: Any) -> Any:
    """A list or table that comes from the environment is a text in JSON there."""
    field = kind.settings.model_fields.get(key)
    if field is None or not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    if not any(word in str(field.annotation) for word in ("list", "tuple", "dict", "set", "Mapping")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _misfit(name: str, error: ValidationError) -> InvalidValue:
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    said = misfit_of(first)
    mend = f"mend [channels.{name}] in dumbwaiter.toml, then type `dumbwaiter channel check {name}`"
    setting = ".".join(str(part) for part in first["loc"])
    if not setting:
        return InvalidValue(f"the settings of '{name}' do not fit together: {said}", hint=mend)
    if first["type"] == "missing":
        hint = (
            f"set it as {variable(name, setting)}, or in dumbwaiter.toml: `dumbwaiter channel add {name}` asks for it"
        )
        return InvalidValue(f"the setting '{setting}' is missing", hint=hint)
    what = "is unknown" if first["type"] == "extra_forbidden" else f"is not valid: {said}"
    return InvalidValue(f"the setting '{setting}' {what}", hint=mend)


def _missing(kind: ChannelType, error: ImportError) -> ExtraMissing:
    what = f"what the type of channel '{kind.name}' needs is not installed"
    if kind.extra is None:
        return ExtraMissing(f"{what}: {error}", hint="install it, then restart the host")
    return ExtraMissing(what, hint=f"`{how_to_install_extra(kind.extra)}`, then restart the host")
