"""Whether ssh gets to an engine: docker's client starts ssh itself, and loses what it says. Blocks."""

from __future__ import annotations

import shutil
import subprocess
from urllib.parse import urlsplit

from host.runtime.engine_refusals import refusal_of_ssh
from host.runtime.protocol import RuntimeUnavailable


def require_ssh(url: str, where: str, seconds: float) -> None:
    """Return once ssh has run the engine's command at an address `ssh://user@host:port`. It asks for nothing: a key
    that is not known, and one that needs a passphrase, are refusals.

    Raises `RuntimeUnavailable`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    destination = host if parts.username is None else f"{parts.username}@{host}"
    # As docker's client calls it, so that the same settings of ssh apply; `version` ends by itself.
    if shutil.which("ssh") is None:
        hint = "install it (on Debian and Ubuntu: `sudo apt install openssh-client`)"
        raise RuntimeUnavailable("there is no command `ssh` here", where=where, hint=hint)
    command = ["env", "LC_ALL=C", "ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(seconds))}"]
    command += [] if parts.username is None else ["-l", parts.username]
    command += [] if parts.port is None else ["-p", str(parts.port)]
    command += ["--", host, "docker version --format '{{.Server.Version}}'"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=4 * seconds,
        )
    except subprocess.TimeoutExpired as error:
        what = f"ssh does not get to {destination} within {4 * seconds:g} seconds"
        raise RuntimeUnavailable(what, where=where, hint=f"`ssh {destination} docker version` shows it") from error
    if done.returncode != 0:
        refusal = refusal_of_ssh(done.stderr, destination)
        raise RuntimeUnavailable(refusal.what, where=where, hint=refusal.hint)
