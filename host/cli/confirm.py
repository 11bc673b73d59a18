"""Asking before what cannot be undone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(function: F) -> F:
    """`--yes`, as the parameter `yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def confirm(loss: str, yes: bool) -> None:
    """Ask a person whether to go on; `loss` is a sentence that says what is lost.

    Raises `click.Abort` when the answer is no, and `click.UsageError` without a terminal to ask at.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"Nothing was done: there is no terminal to ask at. {loss} This cannot be undone: add --yes to do it"
        )
    click.confirm(f"{loss} This cannot be undone. Go on?", abort=True, err=True)
