"""Ids as Discord has them. Agents and people name them and they stand in the paths of calls: each is checked. Pure."""

from __future__ import annotations

from host.channels.discord.directory import snowflake
from host.channels.protocol import DeliveryRefused
from shared_schema.rows import Address


def channel_of(address: Address) -> str:
    """The channel or thread of an address. Raises `DeliveryRefused`."""
    return require_id(address.thread_id or address.platform_id)


def require_id(value: str) -> str:
    """An id. Raises `DeliveryRefused` for what is none."""
    if not snowflake(value):
        raise DeliveryRefused(f"'{value[:40]}' is no id of Discord")
    return value


def require_token(value: str) -> str:
    """The token of an interaction. Raises `DeliveryRefused` for what is none."""
    if not value.isascii() or not all(character.isalnum() or character in "-_." for character in value):
        raise DeliveryRefused("the interaction has no usable token")
    return value
