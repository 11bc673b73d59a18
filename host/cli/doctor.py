"""`dumbwaiter doctor`: what is in order, what is not, and what to do."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from host.api.client import HostClient, NoHost, PathTooLong
from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import on_terminal, print_json, width, with_local_times
from host.cli.plain import one_line
from host.cli.root import DONE, FAILED
from shared_schema.errors import DumbwaiterError

_SECONDS = 60.0
"""The host asks the engine, which may take long to say that it does not answer."""

_MARK = {True: ("ok", "green"), None: ("look", "yellow"), False: ("FAILED", "red")}


@click.command("doctor", cls=Command)
@json_option
@click.pass_obj
def doctor(invocation: Invocation, as_json: bool) -> int:
    """Check that all is in order; say what to do.

    A running host is asked, and answers with its own settings, keys and runtime;
    without one, this command looks itself. The exit status is 1 when a check
    failed; a warning is no failure.
    """
    checks = _checks(invocation)
    if as_json:
        print_json(checks)
    else:
        for check in checks:
            _print(check, max(len(each["name"]) for each in checks))
    return FAILED if any(check["ok"] is False for check in checks) else DONE


def _checks(invocation: Invocation) -> list[dict[str, Any]]:
    """What the running host finds, or what is found from here: `{name, ok, what, hint}` each."""
    try:
        asked: list[dict[str, Any]] = HostClient(invocation.layout.socket, seconds=_SECONDS).call("doctor.examine", {})
    except (PathTooLong, NoHost):
        return _looked_at(invocation, None)
    except DumbwaiterError as error:
        return _looked_at(invocation, error)
    return asked


def _looked_at(invocation: Invocation, trouble: DumbwaiterError | None) -> list[dict[str, Any]]:
    """The checks made by this process; `trouble` is why a host that listens does not answer."""
    import asyncio
    from dataclasses import asdict

    from host.operations.doctor import examine
    from host.settings import BadSetting, Settings, load

    def ask_host() -> None:
        if trouble is not None:
            raise trouble

    settings: Settings | BadSetting
    try:
        settings = load({"data": invocation.data}, only_look=True)
    except BadSetting as error:
        settings = error
    return [asdict(check) for check in asyncio.run(examine(invocation.data, settings, ask_host))]


def _print(check: dict[str, Any], name_width: int) -> None:
    mark, colour = _MARK[check["ok"]]
    indent = f"{'':6}  {'':{name_width}}  "
    said = [check["what"], *([f"→ {check['hint']}"] if check["hint"] else [])]
    text = [with_local_times(one_line(each)) for each in said]
    lines = [line for part in text for line in (_wrapped(part, len(indent)) if on_terminal() else [part])]
    click.echo(f"{click.style(f'{mark:6}', fg=colour)}  {check['name']:{name_width}}  {lines[0]}")
    for line in lines[1:]:
        click.echo(f"{indent}{line}")


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, max(20, width() - indent), break_long_words=False, break_on_hyphens=False) or [""]
