"""`dumbwaiter mount`: the folder that several machines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields
from host.cli.root import DONE
from host.operations.mount_verdict import MountVerdict

FAILED = 1
_TIMES = ("open", "rename", "listing", "stat", "new", "unlink", "descriptor")
_WHAT = {
    "open": "a file that is opened afresh",
    "rename": "a file that was renamed over another",
    "listing": "a new name in a listing",
    "stat": "the size of a file that grew",
    "new": "a file that was looked for before",
    "unlink": "that a file is gone",
    "descriptor": "a change, at a descriptor kept open",
    "locks": "locks",
    "rows": "a database that one side writes",
    "links": "hard links",
    "sockets": "sockets",
}


@click.group("mount", cls=Group)
def mount() -> None:
    """The folder that several machines share."""


@mount.command("check")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--with", "nodes", metavar="NODE", multiple=True, help="Measure together with this node; repeatable.")
@click.option("--beside", type=click.Path(path_type=Path), help="Another mount of the same folder on this machine.")
@json_option
@click.pass_obj
def check(invocation: Invocation, path: Path, nodes: tuple[str, ...], beside: Path | None, as_json: bool) -> int:
    """Measure what a mount does between machines, and say what follows.

    PATH is the folder that is shared. It takes about half a minute for each node,
    writes in a folder of its own there, and removes it again. The exit status is
    1 when the mount loses data.
    """
    found = invocation.call(
        "mount.check",
        path=str(path.absolute()),
        nodes=list(nodes) or None,
        other=None if beside is None else str(beside.absolute()),
    )
    present(found, as_json, _show)
    return FAILED if any(each["verdict"] == MountVerdict.LOSES for each in found) else DONE


def _show(found: list[dict[str, Any]]) -> None:
    for each in found:
        click.echo(f"With {each['with']}: {each['verdict']}")
        rows = {_WHAT[name]: _seconds(each[name]) for name in _TIMES}
        rows[_WHAT["locks"]] = "hold between both" if each["locks"] else "end at the machine"
        good = each["complete"] and not (each["back"] or each["holes"] or each["malformed"])
        rows[_WHAT["rows"]] = "is read right" if good else "is NOT read right"
        rows[_WHAT["links"]] = "yes" if each["links"] else "no"
        rows[_WHAT["sockets"]] = "yes" if each["sockets"] else "no"
        print_fields(rows, tuple(rows))
        for sentence in each["sentences"]:
            click.echo(f"- {sentence}")


def _seconds(value: float | None) -> str:
    return "not seen within 20 s" if value is None else f"seen after {value:.2f} s"
