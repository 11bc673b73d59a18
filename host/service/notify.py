"""Telling systemd how far the host is (`man sd_notify`); nothing where it was not started by systemd."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(address: str | None, state: str) -> None:
    """Send one state to the socket that systemd named (`settings.notify_socket`); None where it did not start the host.

    Never raises: a failure is logged, and the host goes on.
    """
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else str(Path(address))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(target)
            sender.sendall(state.encode("ascii"))
    except OSError as error:
        log.warning("systemd cannot be told", extra={"state": state, "error": str(error)})
