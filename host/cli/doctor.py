"""`dumbwaiter doctor`: what is in order, what is not, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.api.client import HostClient, NoHost, PathTooLong
from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import print_json
from host.cli.plain import one_line
from host.cli.root import DONE, FAILED

if TYPE_CHECKING:
    from host.operations.machine import Check

_ANSWER_SECONDS = 5.0
_MARK = {True: ("ok", "green"), None: ("look", "yellow"), False: ("FAILED", "red")}


@click.command("doctor", cls=Command)
@json_option
@click.pass_obj
def doctor(invocation: Invocation, as_json: bool) -> int:
    """Check that all is in order; say what to do.

    Settings, data folder, running host, interpreter, engine and image. The
    exit status is 1 when a check failed; a warning is no failure.
    """
    import asyncio
    from dataclasses import asdict

    from host.operations.doctor import examine
    from host.settings import BadSetting, Settings, load

    settings: Settings | BadSetting
    try:
        settings = load({"data": invocation.data}, only_look=True)
    except BadSetting as error:
        settings = error
    checks = asyncio.run(examine(invocation.data, settings, lambda: ask_host(invocation.layout.socket)))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            _print(check, max(len(each.name) for each in checks))
    return FAILED if any(check.ok is False for check in checks) else DONE


def ask_host(path: Path) -> dict[str, Any] | None:
    """What the host on that socket says of itself; None when nobody listens. Raises `DumbwaiterError`."""
    try:
        status = HostClient(path, seconds=_ANSWER_SECONDS).call("status", {})
    except PathTooLong:
        raise
    except NoHost:
        return None
    return {**status["host"], "faults": status["faults"], "repairs": status["repairs"]}


def _print(check: Check, width: int) -> None:
    mark, colour = _MARK[check.ok]
    click.echo(f"{click.style(f'{mark:6}', fg=colour)}  {check.name:{width}}  {one_line(check.what)}")
    if check.hint:
        click.echo(f"{'':6}  {'':{width}}  → {one_line(check.hint)}")
