"""A port for a server that has to be told which one before it starts."""

from __future__ import annotations

import random
import socket

_OWN = range(20_000, 32_000)
"""Below the ports that the system gives to connections and to servers that ask for any: none of them takes it first."""


def free_port() -> int:
    """A port of this machine at which nothing listens."""
    chosen = random.SystemRandom()
    while True:
        port = chosen.choice(_OWN)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
