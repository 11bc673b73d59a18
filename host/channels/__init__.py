"""Channels: the adapters for platforms, found by name and imported when used."""
