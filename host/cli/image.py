"""`dumbwaiter image`: the images that agents run in."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present


@click.group("image", cls=Group)
def image() -> None:
    """The images of agents, for runtime = docker."""


@image.command("build")
@click.argument("variant", type=click.Choice(["plain", "model", "claude"]), default="plain")
@click.option("--base-image", metavar="IMAGE", help="What to build on; without it the setting base_image.")
@json_option
@click.pass_obj
def build(invocation: Invocation, variant: str, base_image: str | None, as_json: bool) -> None:
    """Build the image of agents, or a VARIANT of it with what a provider needs.

    In a checkout `make image` does the same. It takes a minute or two; only the
    container engine is asked, a host need not run.
    """
    import asyncio

    from host.operations.images import build

    settings = invocation.settings(base_image=base_image) if base_image else invocation.settings()
    click.echo(f"Building the variant {variant} on {settings.base_image} …", err=True)
    present(asyncio.run(build(settings, variant)), as_json, _show)


def _show(built: dict[str, Any]) -> None:
    click.echo(
        f"Built {built['image']} in {built['seconds']:.0f} s. New agents use it; a host that runs need not be told."
    )
