"""The types of channels that are installed, found by the entry points `dumbwaiter.channels`.

A package of anybody's adds a type by an entry point whose value is a `ChannelType`. Its module is imported when a
channel of that type is configured, and imports the SDK of its platform in `make`, no earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from host.channels.protocol import Channel, Context

GROUP = "dumbwaiter.channels"


class ChannelSettings(BaseModel):
    """The settings of one channel, `[channels.<name>]` in dumbwaiter.toml. Types inherit from it.

    Secrets are `SecretStr`. `type` is the channel's name where it is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str


@dataclass(frozen=True, slots=True)
class ChannelType:
    """One kind of channel. `extra` is what `pip install dumbwaiter[…]` calls what it needs; None: nothing.

    `make` builds a channel from its settings and context; it raises `ImportError` where the extra is not installed.
    """

    name: str
    settings: type[ChannelSettings]
    make: Callable[[Any, Context], Channel]
    extra: str | None = None
