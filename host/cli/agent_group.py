"""`dumbwaiter agent-group`: the agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import click

from host.cli.command import Group, json_option
from host.cli.confirm import confirm, yes_option
from host.cli.invocation import Invocation
from host.cli.names import agent_groups
from host.cli.node import labels_of
from host.cli.output import present, print_fields, print_table
from host.cli.plain import one_line
from host.cli.size import Size
from host.cli.table import Column
from shared_schema.foreign_text import decoded
from shared_schema.providers import PROVIDERS

LIST_COLUMNS = (
    Column("name"),
    Column("provider"),
    Column("model", cut=True),
    Column("sessions"),
    Column("workspace", cut=True, spare=1),
)
FIELDS = (
    "name", "id", "provider", "model", "fallbacks", "image", "memory_bytes", "cpus", "pids", "gpus", "budget_usd",
    "budget_tokens", "budget_period", "budget_used", "allow", "tool_servers", "save_memory", "schedules", "policies",
    "ask_before", "mounts", "node_labels", "workspace", "sessions", "created_at",
)  # fmt: skip
UNSET = {
    "model": "model",
    "fallback": "fallbacks",
    "image": "image",
    "memory": "memory_bytes",
    "cpus": "cpus",
    "pids": "pids",
    "gpus": "gpus",
    "budget-usd": "budget_usd",
    "budget-tokens": "budget_tokens",
    "tool-servers": "tool_servers",
    "save-memory": "save_memory",
    "node-labels": "node_labels",
}
PERIODS = ("day", "month", "total")

fallback_option = click.option(
    "--fallback",
    metavar="MODEL",
    multiple=True,
    help="A model that answers when the service of the one before refuses. Repeatable: they are asked in that order.",
)
_PROVIDER = f"What produces the replies: {', '.join(PROVIDERS)}."


@click.group("agent-group", cls=Group, lazy={"file": "host.cli.agent_file:file", "image": "host.cli.agent_image:image"})
def agent_group() -> None:
    """Agents: their provider, model, limits and budgets."""


@agent_group.command("add")
@click.argument("name")
@click.option("--provider", help=f"{_PROVIDER} Without it: {PROVIDERS[0]}.")
@click.option("--model", help="The provider's model.")
@fallback_option
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    name: str,
    provider: str | None,
    model: str | None,
    fallback: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add an agent group, with a workspace folder of that name."""
    more = {"fallbacks": list(fallback)} if fallback else {}
    group = invocation.call("agent_group.add", name=name, provider=provider, model=model, **more)
    present(group, as_json, _show)
    click.echo(
        f"Next: it answers in no chat yet; `dumbwaiter wire cli:terminal {one_line(name)} --engage mention` lets it at "
        f"the terminal (`dumbwaiter chat {one_line(name)}`). Any other chat: `dumbwaiter messaging-group list`.",
        err=True,
    )


@agent_group.command("list")
@json_option
@click.pass_obj
def list_all(invocation: Invocation, as_json: bool) -> None:
    """All agent groups, by name."""
    present(
        invocation.call("agent_group.list"),
        as_json,
        lambda groups: print_table(
            groups, LIST_COLUMNS, none="There are no agent groups: `dumbwaiter agent-group add NAME` makes one."
        ),
    )


@agent_group.command("show")
@click.argument("name", shell_complete=agent_groups)
@json_option
@click.pass_obj
def show(invocation: Invocation, name: str, as_json: bool) -> None:
    """One agent group; '-' means that the setting applies."""
    present(invocation.call("agent_group.show", name=name), as_json, _show)


@agent_group.command("set")
@click.argument("name", shell_complete=agent_groups)
@click.option("--provider", help=_PROVIDER)
@click.option("--model", help="The provider's model.")
@fallback_option
@click.option("--image", help="The image of its containers.")
@click.option("--memory", type=Size(), metavar="SIZE", help="Memory of one agent: bytes, or such as 512m or 2g.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="CPUs of one agent; 1.5 is one and a half.")
@click.option("--pids", type=click.IntRange(min=1), help="Processes of one agent.")
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of one agent, where its engine has them.")
@click.option(
    "--budget-usd",
    type=click.FloatRange(min=0, min_open=True),
    help="US dollars it may use in a period; then it answers no more.",
)
@click.option("--budget-tokens", type=click.IntRange(min=1), help="The same in tokens.")
@click.option(
    "--budget-period", type=click.Choice(PERIODS), help="The period of its budgets, in UTC; without this: month."
)
@click.option(
    "--allow", metavar="HOST", multiple=True, help="Let it reach a host: a name, *.domain, an address. Repeatable."
)
@click.option("--disallow", metavar="HOST", multiple=True, help="Take a host off that list. Repeatable.")
@click.option(
    "--tool-servers",
    type=click.File("rb"),
    metavar="FILE",
    help="Its MCP servers: a JSON file as for Claude, Cursor or VS Code; no secrets, it can read them.",
)
@click.option(
    "--schedules",
    type=click.Choice(["allow", "ask", "deny"]),
    help="Whether it may make schedules by itself: allow, ask (its admins decide) or deny.",
)
@click.option(
    "--save-memory/--no-save-memory",
    default=None,
    help="Save to memory what is worth it before a conversation is over; without it, as the setting says.",
)
@click.option(
    "--mount", "mount", metavar="PATH:NAME[:rw]", help="Show it a folder as /mnt/NAME, read-only without ':rw'."
)
@click.option(
    "--policy",
    "policies",
    metavar="ACT=POLICY",
    multiple=True,
    help="What it may ask for: hosts, tool-servers, agents, packages or mounts; allow, ask or deny it. Without it: ask."
    " Repeatable.",
)
@click.option(
    "--ask-before",
    metavar="RULE",
    multiple=True,
    help="Let calls of a tool wait for a yes: TOOL or TOOL:PATTERN, such as 'bash:git push *'. Repeatable.",
)
@click.option("--no-ask-before", metavar="RULE", multiple=True, help="Take such a rule away. Repeatable.")
@click.option("--unmount", metavar="NAME", help="Take the folder /mnt/NAME away.")
@click.option(
    "--node-label",
    "node_labels",
    metavar="NAME=VALUE",
    multiple=True,
    help="Let its agents run only on nodes that have this label. Repeatable: these replace those from before.",
)
@click.option(
    "--unset",
    type=click.Choice(list(UNSET)),
    multiple=True,
    help="Put a value back to the setting; without a budget there is no limit. Repeatable.",
)
@json_option
@click.pass_obj
def set_values(
    invocation: Invocation,
    name: str,
    provider: str | None,
    model: str | None,
    fallback: tuple[str, ...],
    image: str | None,
    memory: int | None,
    cpus: float | None,
    pids: int | None,
    gpus: int | None,
    budget_usd: float | None,
    budget_tokens: int | None,
    budget_period: str | None,
    allow: tuple[str, ...],
    disallow: tuple[str, ...],
    tool_servers: BinaryIO | None,
    save_memory: bool | None,
    schedules: str | None,
    mount: str | None,
    policies: tuple[str, ...],
    ask_before: tuple[str, ...],
    no_ask_before: tuple[str, ...],
    unmount: str | None,
    node_labels: tuple[str, ...],
    unset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change an agent group. Agents that run already keep what they were started with.

    Their provider, model and budget change at once.
    """
    changes: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "fallbacks": list(fallback) or None,
        "image": image,
        "memory_bytes": memory,
        "cpus": cpus,
        "pids": pids,
        "gpus": gpus,
        "budget_usd": budget_usd,
        "budget_tokens": budget_tokens,
        "budget_period": budget_period,
        "allow": list(allow) or None,
        "disallow": list(disallow) or None,
        "tool_servers": None if tool_servers is None else _text_of(tool_servers),
        "save_memory": save_memory,
        "schedules": schedules,
        "add_mount": None if mount is None else _mount(mount),
        "remove_mount": unmount,
        "policies": list(policies) or None,
        "ask_before": list(ask_before) or None,
        "no_ask_before": list(no_ask_before) or None,
        "node_labels": labels_of(node_labels) or None,
    }
    if unset:
        changes["unset"] = [UNSET[each] for each in unset]
    if all(value is None for value in changes.values()):
        raise click.UsageError("There is nothing to change: give at least one option")
    for each in unset:
        if changes[UNSET[each]] is not None:
            raise click.UsageError(f"--{each} cannot be both given and unset")
    present(invocation.call("agent_group.set", name=name, **changes), as_json, _show)


@agent_group.command("rename")
@click.argument("name", shell_complete=agent_groups)
@click.argument("new_name")
@json_option
@click.pass_obj
def rename(invocation: Invocation, name: str, new_name: str, as_json: bool) -> None:
    """Give an agent group another name. Its workspace folder keeps the old one."""
    present(invocation.call("agent_group.rename", name=name, new_name=new_name), as_json, _show)


@agent_group.command("remove")
@click.argument("name", shell_complete=agent_groups)
@click.option("--with-sessions", is_flag=True, help="Delete its sessions too; without this, it must have none.")
@yes_option
@json_option
@click.pass_obj
def remove(invocation: Invocation, name: str, with_sessions: bool, yes: bool, as_json: bool) -> None:
    """Remove an agent group with its wirings and destinations. Its workspace folder stays.

    It asks first, unless there is --yes.
    """
    if not yes:
        group = invocation.call("agent_group.show", name=name)
        many = f" and its {group['sessions']} sessions" if with_sessions and group["sessions"] else ""
        confirm(f"The agent group {name} with its settings, wirings and destinations{many} will be removed.", yes)
    present(
        invocation.call("agent_group.remove", name=name, with_sessions=with_sessions),
        as_json,
        lambda done: print_fields(done, ("removed", "sessions")),
    )


def _text_of(file: BinaryIO) -> str:
    """Returns the text of a file, without the byte order mark of an editor. Raises `click.BadParameter`."""
    try:
        return decoded(file.read())
    except UnicodeDecodeError as error:
        raise click.BadParameter("the file is not text in UTF-8", param_hint="'--tool-servers'") from error


def _mount(text: str) -> dict[str, Any]:
    """The mount that `PATH:NAME[:rw]` asks for; a path may contain colons."""
    rest, writable = (text.removesuffix(":rw"), True) if text.endswith(":rw") else (text.removesuffix(":ro"), False)
    path, _, name = rest.rpartition(":")
    if not path or not name or "/" in name:
        raise click.BadParameter(f"'{text}' is not of the form PATH:NAME or PATH:NAME:rw", param_hint="'--mount'")
    return {"path": str(Path(path).expanduser().absolute()), "name": name, "writable": writable}


def _show(group: dict[str, Any]) -> None:
    print_fields(group, FIELDS)
    for sentence in group.get("lacking") or ():
        click.echo(f"Next: {one_line(sentence)}", err=True)
