"""The root of the command line, and the one place where an error becomes a sentence and an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from host.cli.command import Group
from host.cli.plain import one_line
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.system_errors import words_of

DONE, FAILED, WRONG_USAGE = 0, 1, 2
_ALIKE = 0.65
"""How like what was typed a name must be to be offered in its place: 1 is the same."""

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "To begin": {
        "init": "host.cli.init:init",
        "run": "host.cli.run:run",
        "status": "host.cli.status:status",
        "doctor": "host.cli.doctor:doctor",
        "chat": "host.cli.chat:chat",
        "web": "host.cli.web:web",
    },
    "Agents and their chats": {
        "agent-group": "host.cli.agent_group:agent_group",
        "channel": "host.cli.channel:channel",
        "messaging-group": "host.cli.messaging_group:messaging_group",
        "wire": "host.cli.wiring:wire",
        "unwire": "host.cli.wiring:unwire",
        "wirings": "host.cli.wiring:wirings",
        "wiring": "host.cli.wiring:wiring",
        "destination": "host.cli.destination:destination",
        "home": "host.cli.home:home",
    },
    "Conversations": {
        "session": "host.cli.session:session",
        "history": "host.cli.history:history",
        "question": "host.cli.question:question",
        "inject": "host.cli.inject:inject",
        "dropped": "host.cli.audit:dropped",
        "events": "host.cli.events:events",
        "usage": "host.cli.usage:usage",
    },
    "Work by itself": {
        "schedule": "host.cli.schedule:schedule",
        "quiet-hours": "host.cli.quiet_hours:quiet_hours",
        "pause": "host.cli.schedule:pause_all",
        "resume": "host.cli.schedule:resume_all",
    },
    "People": {
        "user": "host.cli.user:user",
        "role": "host.cli.user:role",
        "member": "host.cli.user:member",
        "approval": "host.cli.approval:approval",
        "audit": "host.cli.audit:audit",
    },
    "Programs": {
        "token": "host.cli.token:token",
        "hook": "host.cli.hook:hook",
        "acp": "host.cli.acp:acp",
    },
    "The host and its machines": {
        "service": "host.cli.service:service",
        "logs": "host.cli.logs:logs",
        "backup": "host.cli.backup:backup",
        "restore": "host.cli.backup:restore",
        "image": "host.cli.image:image",
        "node": "host.cli.node:node",
        "mount": "host.cli.mount:mount",
    },
}
"""The commands as `dumbwaiter --help` has them: the name of each, and the module that is imported when it is used."""
COMMANDS = {name: place for commands in SECTIONS.values() for name, place in commands.items()}


class _ReaderHasLeft(Exception):
    """The reader of what is printed has left. No `OSError`: click takes a broken pipe for a failure, and exits."""


class Root(Group):
    """The group of all commands. Called as a program it reports every foreseeable error in one sentence."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends the process, unless `standalone_mode` is off: then errors are raised."""

        def run() -> Any:
            return super(Root, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return run()
        _end(run)

    def sections(self, ctx: click.Context) -> Mapping[str, Sequence[str]]:
        """The commands, of which there are many, by what they are about."""
        return {title: [*commands] for title, commands in SECTIONS.items()}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Reads the line, and prints the help."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError as error:
            raise _ReaderHasLeft from error

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderHasLeft from error


def _end(run: Callable[[], Any]) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to fail
    try:
        status = run()
        sys.stdout.flush()
    except (BrokenPipeError, _ReaderHasLeft):
        _leave_quietly()
    except (click.ClickException, click.Abort, DumbwaiterError, OSError) as error:
        try:
            sys.exit(report(error))
        except BrokenPipeError:
            _leave_quietly(WRONG_USAGE if is_usage(error) else FAILED)
    sys.exit(status if isinstance(status, int) else DONE)


def _leave_quietly(status: int = DONE) -> NoReturn:
    """The reader has seen enough: `dumbwaiter session list | head -1` is no failure."""
    for descriptor in (1, 2):  # what is still buffered goes nowhere, without another complaint at the end
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    sys.exit(status)


def report(error: Exception) -> int:
    """Print an error as one sentence on standard error; its exit status."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return WRONG_USAGE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "dumbwaiter"
            say_error(f"{_of_usage(error, path)}: see `{path} --help`")
            return error.exit_code
        case click.ClickException():
            say_error(error.format_message())
            return error.exit_code
        case click.Abort():
            say_error("interrupted")
            return FAILED
        case OSError():
            where = "" if error.filename is None else f" ({error.filename})"
            say_error(f"the system refuses: {words_of(error)}{where}")
            return FAILED
        case _:
            say_error(str(error))
            return WRONG_USAGE if is_usage(error) else FAILED


def _of_usage(error: click.UsageError, path: str) -> str:
    """What is wrong with the line, without a full stop; with what is likely to be meant."""
    match error:
        case click.NoSuchCommand(command_name=typed, possibilities=[*known]):
            pass
        case click.NoSuchOption(option_name=typed, possibilities=[*known]):
            pass
        case _:
            return error.format_message().rstrip(".")
    # Click compares options with their dashes, and finds that any two short ones are alike.
    alike = {name.lstrip("-"): name for name in known}
    meant = [
        f", did you mean `{path} {alike[name]}`" for name in get_close_matches(typed.lstrip("-"), alike, 1, _ALIKE)
    ]
    if not meant and isinstance(error, click.NoSuchCommand) and error.ctx is not None:
        elsewhere = _called(error.ctx.find_root(), typed)
        meant = [f", did you mean `{elsewhere[0]}`"] if len(elsewhere) == 1 else []
    return error.message.rstrip(".") + "".join(meant)


def _called(context: click.Context, name: str) -> list[str]:
    """Where else there are commands of that name, as they are typed."""
    assert isinstance(context.command, click.Group)
    found = []
    for each in context.command.list_commands(context):
        command = context.command.get_command(context, each)
        if each == name:
            found.append(f"{context.command_path} {each}")
        if isinstance(command, click.Group):
            found += _called(click.Context(command, info_name=each, parent=context), name)
    return found


def say_error(sentence: str) -> None:
    """`Error: …` on standard error, on one line, red on a terminal."""
    click.secho(f"Error: {one_line(sentence)}", err=True, fg="red")


def is_usage(error: Exception) -> bool:
    """Whether an error is the user's: a value or a setting that cannot be right."""
    from host.settings import BadSetting

    return isinstance(error, InvalidValue | BadSetting)


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    click.echo(f"dumbwaiter {version('dumbwaiter')}")
    context.exit()


root = Root(
    "dumbwaiter",
    lazy=COMMANDS,
    of_root=True,
    help="Passes messages between chats and AI agents in containers, through two SQLite files.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Print the version and leave.",
        )
    ],
)
