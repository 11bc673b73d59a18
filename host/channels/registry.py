"""The types of channels that are installed: the packages below `host/channels/`, and the entry points of others.

A type of Dumbwaiter's own is a package `host/channels/<type>/` whose attribute `TYPE` is its `ChannelType`. Any other
package adds a type by an entry point of the group `dumbwaiter.channels` whose value is a `ChannelType`. Its module is
imported when a channel of that type is configured, and imports the SDK of its platform in `make`, no earlier.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SecretStr

import host.channels
from host.channels.protocol import Channel, Context
from host.similar import did_you_mean
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, InvalidValue

GROUP = "dumbwaiter.channels"
ATTRIBUTE = "TYPE"
"""What the package of a built-in type calls its `ChannelType`."""


class ChannelSettings(BaseModel):
    """The settings of one channel, `[channels.<name>]` in dumbwaiter.toml. Types inherit from it.

    Secrets are `SecretStr`. `type` is the channel's name where it is left out. The description of a field is its
    documentation, and what a person is asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: str

    offered: ClassVar[tuple[str, ...]] = ()
    """Settings that a person is asked for though a channel can do without them."""
    exclusive: ClassVar[tuple[str, ...]] = ()
    """Settings that no two channels of the type may have in common: the platform would give what comes to either."""

    @classmethod
    def secret_fields(cls) -> list[str]:
        """The names of the settings that are secrets, in the order in which a person is asked for them."""
        return [name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation)]

    def secrets(self) -> list[str]:
        """The secrets that are set, for hiding them in what is logged."""
        return list(_secrets(self))


@dataclass(frozen=True, slots=True)
class ChannelType:
    """One kind of channel. `extra` is what `pip install dumbwaiter[…]` calls what it needs; None: nothing.

    `make` builds a channel from its settings and context; it raises `ImportError` where the extra is not installed.
    `has_direct_chats`: a person can write to the bot alone, so that the owner's code may be said there.
    """

    name: str
    settings: type[ChannelSettings]
    make: Callable[[Any, Context], Channel]
    extra: str | None = None
    has_direct_chats: bool = True


def installed() -> list[str]:
    """The names of all types, sorted. Nothing is imported for that."""
    return sorted({*_built_in(), *_of_others()})


def channel_type(name: str) -> ChannelType:
    """The type of that name. Raises `InvalidValue` where it is not installed, `DumbwaiterError` where it is broken."""
    if name not in _built_in() and name not in _of_others():
        known = installed()
        raise InvalidValue(
            f"there is no type of channel '{name}'{did_you_mean(name, known)}",
            hint=f"the types are {', '.join(known)}; of a channel with another name it is its setting `type`",
        )
    try:
        if name in _built_in():
            found: object = getattr(importlib.import_module(f"{host.channels.__name__}.{name}"), ATTRIBUTE)
        else:
            found = _of_others()[name].load()
    except Exception as error:  # the boundary to an installed package
        what = f"the type of channel '{name}' cannot be loaded: {type(error).__name__}: {error}"
        raise DumbwaiterError(what, hint="install its package again") from error
    if not isinstance(found, ChannelType):
        raise DumbwaiterError(f"the entry point '{name}' is not a ChannelType", hint="install its package again")
    return found


def _secrets(value: object) -> Iterator[str]:
    """The secrets in a value, at any depth."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from _secrets(list(value.__dict__.values()))
    elif isinstance(value, Mapping):
        yield from _secrets(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _secrets(each)


@cache
def _built_in() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(host.channels.__path__) if module.ispkg)


@cache
def _of_others() -> Mapping[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)}
