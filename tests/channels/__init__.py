"""Channels, each over the real library of its platform, against a fake of that platform or a real server."""
