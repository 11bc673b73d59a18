"""`dumbwaiter session search`, `transcript`, `export`, `import`: what was said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from host.cli.command import Command, json_option
from host.cli.invocation import Invocation
from host.cli.output import moment, on_terminal, present, print_fields, print_json, print_wrapped
from host.cli.plain import as_json as to_json
from host.cli.plain import one_line, plain
from host.cli.transcript import print_entry

ROLES = ("user", "assistant", "tool", "system")


@click.command("search", cls=Command)
@click.argument("query")
@click.option("--agent-group", metavar="NAME", help="Only of this agent group.")
@click.option("--session", metavar="SESSION", help="Only of this session.")
@click.option("--channel", metavar="CHANNEL", help="Only of this channel type, or of this messaging group.")
@click.option("--sender", metavar="WHO", help="Only from this sender: an id or a name.")
@click.option("--role", type=click.Choice(ROLES), help="Only what people, the agent or a tool said.")
@click.option("--since", metavar="TIME", help="Not before this time.")
@click.option("--until", metavar="TIME", help="Not after this time.")
@click.option("--limit", type=click.IntRange(1, 200), help="At most so many; 20 without it.")
@json_option
@click.pass_obj
def search(invocation: Invocation, /, query: str, as_json: bool, **filters: Any) -> None:
    """Find what was said and done, the newest first.

    QUERY has words, "phrases", AND, OR, NOT and beginnings*; anything else is taken as it is written.
    """
    results = invocation.call("session.search", query=query, **filters)
    if not results["complete"]:
        click.echo("There may be more: the search took too long and was cut short.", err=True)
    if as_json:
        print_json(results["hits"])
        return
    if not results["hits"]:
        click.echo("Nothing was found.", err=True)
    for hit in results["hits"]:
        _print_hit(hit)


@click.command("transcript", cls=Command)
@click.argument("session")
@click.option("--limit", type=click.IntRange(min=1), help="Only the last so many messages.")
@click.option("--steps", is_flag=True, help="Also what the agent did: calls of tools and their results.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
@click.pass_obj
def transcript(
    invocation: Invocation, session: str, limit: int | None, steps: bool, markdown: bool, as_json: bool
) -> None:
    """What was said, the oldest first."""
    if markdown and as_json:
        raise click.UsageError("Choose one of --json and --markdown")
    entries = invocation.call("session.transcript", session=session, limit=limit, steps=steps or None)
    present(entries, as_json, _print_markdown if markdown else _print_entries)


@click.command("export", cls=Command)
@click.argument("session", required=False)
@click.option("--all", "everything", is_flag=True, help="All sessions.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write to a file; mode 0600."
)
@json_option
@click.pass_obj
def export(invocation: Invocation, session: str | None, everything: bool, output: Path | None, as_json: bool) -> None:
    """Write a session, or all, as lines of JSON that `session import` reads.

    With --output, --json is about what is printed: how many sessions are in the file.
    Files that came or went with messages are named in it, not carried.
    """
    if everything == (session is not None):
        raise click.UsageError("Name a session, or all of them with --all")
    lines = invocation.stream_to_its_end("session.export", session=session)
    if output is None:  # that is JSON in any case
        for line in lines:
            click.echo(to_json(line, indent=None))
        return
    output.touch(mode=0o600)
    with output.open("w", encoding="utf-8") as file:
        count = 0
        for line in lines:
            file.write(to_json(line, indent=None) + "\n")
            count += line["type"] == "session"
    present({"sessions": count, "file": str(output)}, as_json, lambda done: print_fields(done, ("sessions", "file")))


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent-group", metavar="NAME", help="Put all of them into this agent group.")
@json_option
@click.pass_obj
def import_file(invocation: Invocation, file: Path, agent_group: str | None, as_json: bool) -> None:
    """Make exported sessions again, ended, with their folders.

    FILE is what `session export` has written, or an export of ChatGPT or Claude: its zip file, or the
    conversations.json in it. The agent groups must exist. What is here already is left as it is.
    """
    done = invocation.call("session.import", path=str(file.absolute()), agent_group=agent_group)
    present(done, as_json, lambda value: print_fields(value, ("imported", "present")))


def _print_hit(hit: dict[str, Any]) -> None:
    who = one_line(hit["sender"] or hit["role"])
    place = " ".join(one_line(part) for part in (hit["agent_group"], hit["messaging_group"], hit["title"]) if part)
    heading = f"{moment(hit['time'] or '-')}  {who}  {one_line(hit['session_id'])}  {place}"
    print_wrapped(click.style(heading, fg="cyan"), "  " if on_terminal() else "", "")
    for side, sign in (("before", "  "), (None, "> "), ("after", "  ")):
        if side is None:
            print_wrapped(" ".join(_marked(hit["snippet"], hit["marks"]).split()), "    ", f"  {sign}")
        elif hit[side] is not None:
            neighbour = hit[side]
            text = one_line(neighbour["text"])[:120]
            who = one_line(neighbour["sender"] or neighbour["role"])
            print_wrapped(click.style(f"{who}: {text}", dim=True), "    ")


def _marked(text: str, marks: list[list[int]]) -> str:
    """The snippet with what was found in it: bold on a terminal, in square brackets elsewhere."""
    parts, at = [], 0
    for begin, end in marks:
        found = plain(text[begin:end])
        parts += [plain(text[at:begin]), click.style(found, bold=True) if on_terminal() else f"[{found}]"]
        at = end
    return "".join([*parts, plain(text[at:])])


def _print_entries(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        print_entry(_as_message(entry))


def _as_message(entry: dict[str, Any]) -> dict[str, Any]:
    """A step with what it calls as its text."""
    if entry["direction"] != "step":
        return entry
    parts = (entry["reasoning"], entry["tool_calls"], entry["text"])
    sender = " ".join(part for part in (entry["role"], entry["tool_name"]) if part)
    return entry | {"sender": sender, "text": "\n".join(part for part in parts if part), "kind": None}


def _print_markdown(entries: list[dict[str, Any]]) -> None:
    for entry in map(_as_message, entries):
        click.echo(f"**{_escaped(entry['sender'] or 'a person')}** · {one_line(moment(entry['time'] or '-'))}\n")
        text = plain(entry["text"] or "")
        click.echo(_fenced(text) if entry["direction"] == "step" else f"{text}\n")
        for file in entry["files"]:
            click.echo(f"- file: `{one_line(file)}`\n")


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\`*_[]<>#" else character for character in one_line(text))


def _fenced(text: str) -> str:
    """A block of code whose fence is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}\n"
