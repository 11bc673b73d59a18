"""`dumbwaiter run`: the host in the foreground."""

from __future__ import annotations

import click

from host.api.client import socket_path
from host.cli.command import Command
from host.cli.invocation import Invocation


@click.command("run", cls=Command)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "docker", "process", "nodes", "swarm", "kubernetes"]),
    help="What runs agents.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much is logged.")
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), help="In which form it is logged.")
@click.option("--standby", is_flag=True, default=None, help="Wait while another host serves it, then take over.")
@click.option("--moved", "answer", flag_value="moved", help="The folder was moved here, or its original is gone.")
@click.option("--copy", "answer", flag_value="copy", help="The folder is a copy; make it an install of its own.")
@click.pass_obj
def run(
    invocation: Invocation,
    runtime: str | None,
    log_level: str | None,
    log_format: str | None,
    standby: bool | None,
    answer: str | None,
) -> int:
    """Start the host in the foreground; Ctrl-C stops it.

    Its options, and every other setting, can also be given by the environment or in dumbwaiter.toml in the data folder.
    """
    settings = invocation.settings(runtime=runtime, log_level=log_level, log_format=log_format, standby=standby)
    socket_path(settings.layout.socket)
    from host.daemon import run as run_host
    from host.install import Answer

    return run_host(settings, None if answer is None else Answer(answer))
