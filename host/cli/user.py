"""`dumbwaiter user`, `role`, `member`: who people are to the host."""

from __future__ import annotations

from typing import Any

import click

from host.cli.command import Group, json_option
from host.cli.confirm import confirm, yes_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields, print_table
from host.cli.table import Column

USER_COLUMNS = (
    Column("user", cut=True),
    Column("name", cut=True),
    Column("roles", cut=True),
    Column("same_as", spare=1),
)
USER_FIELDS = ("user", "name", "roles", "same_as", "person", "direct_chat", "created_at")
ROLE_COLUMNS = (
    Column("role"),
    Column("agent_group", "agent", cut=True),
    Column("users", cut=True),
    Column("name", cut=True),
    Column("granted_at", "since", spare=1),
)

agent_group_option = click.option("--agent-group", metavar="NAME", help="Of this agent group; of all without it.")


@click.group("user", cls=Group)
def user() -> None:
    """Users, written <channel>:<handle>, such as telegram:12345. Several may be one person."""


@user.command("add")
@click.argument("user")
@click.option("--name", help="A name for people.")
@click.option("--same-as", metavar="USER", help="The same person as this user, with the same roles.")
@json_option
@click.pass_obj
def add(invocation: Invocation, user: str, name: str | None, same_as: str | None, as_json: bool) -> None:
    """Make a user known. A role lets them do something: see `dumbwaiter role` and `dumbwaiter member`."""
    present(invocation.call("user.add", user=user, name=name, same_as=same_as), as_json, _show)


@user.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All users with their roles."""
    users = invocation.call("user.list")
    present(
        users,
        as_json,
        lambda rows: print_table(
            [_worded(row) for row in rows],
            USER_COLUMNS,
            none="There are no users: who writes to the bot is asked about, or `dumbwaiter user add USER`.",
        ),
    )


@user.command("show")
@click.argument("user")
@json_option
@click.pass_obj
def show(invocation: Invocation, user: str, as_json: bool) -> None:
    """One user, their roles, and the users who are the same person."""
    present(invocation.call("user.show", user=user), as_json, _show)


@user.command("set")
@click.argument("user")
@click.option("--name", required=True, help="A name for people; '' takes it away.")
@json_option
@click.pass_obj
def set_values(invocation: Invocation, user: str, name: str, as_json: bool) -> None:
    """Give a user another name."""
    present(invocation.call("user.set", user=user, name=name), as_json, _show)


@user.command("link")
@click.argument("user")
@click.argument("same_as")
@json_option
@click.pass_obj
def link(invocation: Invocation, user: str, same_as: str, as_json: bool) -> None:
    """Say that USER is the same person as SAME_AS, who has the roles of both from then on."""
    present(invocation.call("user.link", user=user, same_as=same_as), as_json, _show)


@user.command("unlink")
@click.argument("user")
@json_option
@click.pass_obj
def unlink(invocation: Invocation, user: str, as_json: bool) -> None:
    """Make a user a person of its own again, without roles."""
    present(invocation.call("user.unlink", user=user), as_json, _show)


@user.command("remove")
@click.argument("user")
@yes_option
@json_option
@click.pass_obj
def remove(invocation: Invocation, user: str, yes: bool, as_json: bool) -> None:
    """Forget a user; with the last one of a person, their roles.

    It asks first, unless there is --yes.
    """
    if not yes:
        roles = _worded(invocation.call("user.show", user=user))["roles"]
        confirm(f"The user {user} is forgotten{f' ({roles})' if roles else ''}.", yes)
    present(invocation.call("user.remove", user=user), as_json, lambda done: print_fields(done, ("removed",)))


@user.command("claim-code")
@json_option
@click.pass_obj
def claim_code(invocation: Invocation, as_json: bool) -> None:
    """The code that makes who writes it to the bot the first owner. It holds for an hour."""
    present(invocation.call("user.claim_code"), as_json, lambda offer: click.echo(offer["sentence"]))


@click.group("role", cls=Group)
def role() -> None:
    """Roles: owner (everything), admin and member, of one agent group or of all."""


@role.command("list")
@click.option("--role", type=click.Choice(["owner", "admin", "member"]), help="Only this role.")
@agent_group_option
@json_option
@click.pass_obj
def list_roles(invocation: Invocation, role: str | None, agent_group: str | None, as_json: bool) -> None:
    """Who has which role."""
    _present_roles(invocation.call("role.list", role=role, agent_group=agent_group), as_json)


@role.command("grant")
@click.argument("user")
@click.argument("role", type=click.Choice(["owner", "admin", "member"]))
@agent_group_option
@json_option
@click.pass_obj
def grant(invocation: Invocation, user: str, role: str, agent_group: str | None, as_json: bool) -> None:
    """Give a role to the person of USER. An owner may do everything; an admin decides and changes; a member speaks."""
    present(invocation.call("role.grant", user=user, role=role, agent_group=agent_group), as_json, _show)


@role.command("revoke")
@click.argument("user")
@click.argument("role", type=click.Choice(["owner", "admin", "member"]))
@agent_group_option
@json_option
@click.pass_obj
def revoke(invocation: Invocation, user: str, role: str, agent_group: str | None, as_json: bool) -> None:
    """Take a role away."""
    present(invocation.call("role.revoke", user=user, role=role, agent_group=agent_group), as_json, _show)


@click.group("member", cls=Group)
def member() -> None:
    """Members: who may talk to an agent group where not everybody may."""


@member.command("list")
@agent_group_option
@json_option
@click.pass_obj
def list_members(invocation: Invocation, agent_group: str | None, as_json: bool) -> None:
    """All members, or those of one agent group."""
    _present_roles(invocation.call("role.list", role="member", agent_group=agent_group), as_json)


@member.command("add")
@click.argument("user")
@click.argument("agent_group", required=False)
@json_option
@click.pass_obj
def add_member(invocation: Invocation, user: str, agent_group: str | None, as_json: bool) -> None:
    """Let USER talk to AGENT_GROUP; without one, to all."""
    present(invocation.call("role.grant", user=user, role="member", agent_group=agent_group), as_json, _show)


@member.command("remove")
@click.argument("user")
@click.argument("agent_group", required=False)
@json_option
@click.pass_obj
def remove_member(invocation: Invocation, user: str, agent_group: str | None, as_json: bool) -> None:
    """Take that away again."""
    present(invocation.call("role.revoke", user=user, role="member", agent_group=agent_group), as_json, _show)


def _present_roles(rows: list[dict[str, Any]], as_json: bool) -> None:
    none = "No user has a role yet: `dumbwaiter role grant USER ROLE` gives one."
    present(rows, as_json, lambda rows: print_table(rows, ROLE_COLUMNS, none=none))


def _show(user: dict[str, Any]) -> None:
    print_fields(_worded(user), USER_FIELDS)


def _worded(user: dict[str, Any]) -> dict[str, Any]:
    roles = [
        each["role"] if each["role"] == "owner" else f"{each['role']} of {each['agent_group'] or 'all'}"
        for each in user["roles"]
    ]
    return user | {"roles": ", ".join(roles)}
