"""`dumbwaiter service`: the host as a service of systemd, started at boot."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_json
from host.cli.root import DONE
from host.start_line import start_line
from shared_schema.errors import InvalidValue, NotFound

if TYPE_CHECKING:
    from host.service.systemd import UnitPlace
    from host.service.unit import Scope, Unit

NOT_RUNNING = 3
"""The exit status of `service status` when it does not run, as that of `systemctl status`."""

_scope = click.option(
    "--system/--user", "system", default=None, help="Of the machine, or your own. Without it: root's is the machine's."
)
_name = click.option("--name", default="dumbwaiter", metavar="NAME", help="The unit's name, for a second data folder.")


@click.group("service", cls=Group)
def service() -> None:
    """The host as a service: started at boot, and again when it dies."""


@service.command("install")
@_scope
@_name
@click.option("--run-as", metavar="USER", help="As whom a --system service runs. Without it: the data folder's owner.")
@click.option("--start/--no-start", default=True, help="Whether to start it now as well.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
@json_option
@click.pass_obj
def install(
    invocation: Invocation,
    system: bool | None,
    name: str,
    run_as: str | None,
    start: bool,
    only_print: bool,
    as_json: bool,
) -> None:
    """Start the host at boot, with systemd.

    A service does not see the variables of your shell: keys and settings stand
    in the data folder (dumbwaiter.toml, upstreams.toml).
    """
    from host.service import systemd
    from host.service.unit import Scope, text
    from host.settings import of_the_shell

    place = _place(system, name)
    if run_as is not None and place.scope is Scope.USER:
        raise click.UsageError("--run-as goes with --system: your own services run as you")
    unit = _unit(invocation, place.scope, run_as)
    if only_print:
        if as_json:
            print_json({"file": str(place.file), "text": text(unit)})
        else:
            click.echo(text(unit), nl=False)
        return
    invocation.settings()  # raises `BadSetting`: a service with wrong settings would only fail later, unseen
    if invocation.data.is_dir() or place.scope is Scope.USER:
        invocation.data.mkdir(mode=0o711, parents=True, exist_ok=True)
    else:
        raise NotFound(f"the data folder {invocation.data} is not there", hint="make it first: `dumbwaiter init`")
    systemd.install(place, unit, start=start)
    if place.scope is Scope.USER and not systemd.may_linger(getpass.getuser()):
        systemd.linger(getpass.getuser())
    if lost := of_the_shell():
        click.echo(f"The service does not see what is set in this shell: {', '.join(lost)}.", err=True)
        click.echo(f"Write settings to {invocation.layout.settings}, keys to {invocation.layout.upstreams}.", err=True)
    if as_json:
        print_json(systemd.status(place))
        return
    click.echo(f"Installed {place.file}" + (", and started it." if start else "; it starts at the next boot."))
    click.echo(f"Its log: {place.journal}")


@service.command("uninstall")
@_scope
@_name
@json_option
@click.pass_obj
def uninstall(invocation: Invocation, system: bool | None, name: str, as_json: bool) -> None:
    """Stop the service and remove it. The data folder stays."""
    from host.service import systemd

    place = _place(system, name)
    systemd.uninstall(place)
    if as_json:
        print_json(systemd.status(place))
        return
    click.echo(
        f"Removed {place.file}. The data folder is as it was; {start_line(invocation.data)} starts the host by hand."
    )


@service.command("status")
@_scope
@_name
@json_option
@click.pass_obj
def status(invocation: Invocation, system: bool | None, name: str, as_json: bool) -> int:
    """Whether the service is installed and runs; the exit status is 3 when it does not."""
    from host.service import systemd

    place = _place(system, name)
    found = systemd.status(place)
    present(found, as_json, lambda value: _show(value, place))
    return DONE if found["state"] == "active" else NOT_RUNNING


def _show(found: dict[str, Any], place: UnitPlace) -> None:
    print_fields(found, [key for key in found if found[key] is not None])
    if found["state"] == "not installed":
        click.echo("Install it with `dumbwaiter service install`.", err=True)
    elif found["state"] != "active":
        click.echo(f"Why: {place.journal}", err=True)


def _place(system: bool | None, name: str) -> UnitPlace:
    from host.service import systemd
    from host.service.unit import Scope
    from host.settings import configuration_folder

    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise InvalidValue(f"'{name}' is not a unit's name", hint="use letters, digits, '-' and '_'")
    if system if system is not None else os.geteuid() == 0:
        return systemd.UnitPlace(Scope.SYSTEM, systemd.SYSTEM_UNITS, name)
    return systemd.UnitPlace(Scope.USER, systemd.user_units(configuration_folder()), name)


def _unit(invocation: Invocation, scope: Scope, run_as: str | None) -> Unit:
    from host.service.unit import Scope, Unit

    command = [str(Path(sys.argv[0]).absolute())]
    if scope is Scope.USER:
        return Unit(scope, command, invocation.data)
    user = _user(invocation.data, run_as)
    docker = [group.gr_name for group in grp.getgrall() if group.gr_name == "docker"]
    return Unit(
        scope,
        command,
        invocation.data,
        user=user.pw_name,
        group=grp.getgrgid(user.pw_gid).gr_name,
        groups=docker if user.pw_uid != 0 else (),
    )


def _user(data: Path, run_as: str | None) -> pwd.struct_passwd:
    try:
        if run_as is not None:
            return pwd.getpwnam(run_as)
        return pwd.getpwuid(data.stat().st_uid if data.exists() else os.geteuid())
    except KeyError as error:
        raise NotFound(f"there is no user {error.args[0].split(': ')[-1]}", hint="name one: --run-as USER") from error
