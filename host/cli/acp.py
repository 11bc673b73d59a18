"""`dumbwaiter acp`: an editor uses an agent, by the Agent Client Protocol over standard input and output."""

from __future__ import annotations

import click

from host.cli.command import Command
from host.cli.invocation import Invocation
from shared_schema.errors import DumbwaiterError


@click.command("acp", cls=Command)
@click.argument("agent", required=False)
@click.pass_obj
def acp(invocation: Invocation, agent: str | None) -> None:
    """Let an editor talk to an agent (Agent Client Protocol).

    An editor starts it, and speaks with it by standard input and output. AGENT is needed where there are several.
    """
    try:
        from host.cli.acp_agent import serve
    except ImportError as error:
        from shared_schema.provisions import how_to_install_extra

        raise DumbwaiterError(
            "what speaks to editors is not installed", hint=f"`{how_to_install_extra('acp')}`"
        ) from error
    serve(invocation.started_client(), agent)
