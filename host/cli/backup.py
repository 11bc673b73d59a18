"""`dumbwaiter backup` and `restore`: an install in one file, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields


@click.command("backup", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--with-secrets", is_flag=True, help="Keys and tokens of the settings, too; keep the file to yourself.")
@json_option
@click.pass_obj
def backup(invocation: Invocation, file: Path, with_secrets: bool, as_json: bool) -> None:
    """Write everything of the data folder to FILE, while the host runs or not; then read it again and compare.

    FILE is a gzipped tar file, for its owner alone (mode 0600). One that is there already is never overwritten.
    """
    from host.backup.write import write_backup

    os.umask(0o077)
    present(write_backup(invocation.layout, file, with_secrets=with_secrets), as_json, _show_backup)


@click.command("restore", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def restore(invocation: Invocation, file: Path, as_json: bool) -> None:
    """Make a data folder (--data) of the backup FILE. A folder that has something in it is refused.

    With a central.db that was kept in backups/ before an upgrade, the registry is put back to it; no host may run.
    The one that was there is kept beside it.
    """
    from host.backup.restore import restore as restore_backup

    os.umask(0o077)
    settings = invocation.settings()
    present(restore_backup(file.absolute(), settings.layout, settings.agent_uid), as_json, _show_restored)


def _show_backup(done: dict[str, Any]) -> None:
    print_fields(done, ("file", "bytes", "sessions", "files", "secrets", "left_out"))
    click.echo("It was read again: every file is as it was written.", err=True)
    if not done["secrets"]:
        click.echo("Keys and tokens are not in it; --with-secrets takes them along.", err=True)


def _show_restored(done: dict[str, Any]) -> None:
    print_fields(done, [name for name in ("data", "sessions", "files", "made_at", "set_aside") if name in done])
    if len(done["next"]) == 1:
        click.echo(f"Next: {done['next'][0]}", err=True)
        return
    moved, copy = done["next"]
    click.echo(f"Next, if the original is gone:        {moved}", err=True)
    click.echo(f"Next, if the original is still used:  {copy}", err=True)
    if not done["secrets"]:
        click.echo(
            "Keys and tokens are not in the backup: write them into upstreams.toml and dumbwaiter.toml there first.",
            err=True,
        )
