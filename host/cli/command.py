"""What all commands have in common: `--data` on every one of them, `--json`, and loading a command when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from host.cli.invocation import Invocation

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _take_data(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    """Note the data folder; the option nearest to the end of the line wins."""
    invocation = context.find_root().ensure_object(Invocation)
    if context.obj is None:
        context.obj = invocation
    if value is not None:
        invocation.given = value


def data_option(*, of_root: bool = False) -> click.Option:
    """`--data DIR`, which every command takes; the root takes it from the environment, too."""
    return click.Option(
        ["--data"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        envvar="DUMBWAITER_DATA" if of_root else None,
        expose_value=False,
        is_eager=True,
        callback=_take_data,
        help="The data folder (or DUMBWAITER_DATA; ./data otherwise).",
    )


def json_option(function: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell offers for a session, an agent group, a chat or a schedule; loaded when a shell asks."""
    from host.cli.names import NAMES

    return NAMES[str(parameter.name)](context, parameter, incomplete)


_NAMED = frozenset({"session", "schedule", "agent_group", "agent", "messaging_group", "address"})


class Command(click.Command):
    """A command with `--data`. What its function returns is the exit status; None is 0."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        attributes["params"] = [*(attributes.get("params") or ()), data_option()]
        attributes.setdefault("context_settings", CONTEXT)
        super().__init__(name, **attributes)
        for parameter in self.params:
            if parameter.name in _NAMED:
                parameter._custom_shell_complete = _complete  # what `shell_complete=` of each would set

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Ends the help with lines that can be typed."""
        super().format_epilog(ctx, formatter)
        from host.cli import examples

        above = _path(ctx.parent)
        if lines := examples.of(f"{above} {ctx.info_name}") or examples.of(f"{above} {self.name}"):
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in lines))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the sentence can name the command
            raise


def _path(ctx: click.Context | None) -> str:
    """What a person types to reach a group; the program may have been started under another name."""
    if ctx is None or ctx.parent is None:
        return "dumbwaiter"
    return f"{_path(ctx.parent)} {ctx.info_name}"


_REMOVING = ("remove", "delete", "cancel", "revoke")
ALIASES = {
    "ls": ("list",), "create": ("add",), "rename": ("title",),
    **dict.fromkeys(("rm", "remove", "delete"), _REMOVING),  # not of "cancel": nothing is deleted that is to be stopped
}  # fmt: skip
"""Other words for commands, in every group that has one of them and no command of that name; in no list of commands."""


_WHOLE = 1_000  # characters


class Group(click.Group):
    """A group whose own commands are `Command`s; `lazy` names further ones as `module:attribute`, imported when used.

    The root of the command line is one without a parent.
    """

    command_class = Command

    def __init__(
        self,
        name: str | None = None,
        *,
        lazy: Mapping[str, str] | None = None,
        of_root: bool = False,
        **attributes: Any,
    ) -> None:
        attributes["params"] = [*(attributes.get("params") or ()), data_option(of_root=of_root)]
        attributes.setdefault("context_settings", CONTEXT)
        super().__init__(name, **attributes)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(ctx)]

    def sections(self, ctx: click.Context) -> Mapping[str, Sequence[str]]:
        """Titles in the help, and the names of the commands below each."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the first sentence of each command whole, where click would cut it at the end of the line."""
        sections = self.sections(ctx)
        width = max(len(name) for names in sections.values() for name in names)
        for title, names in sections.items():
            with formatter.section(title):
                commands = [(name.ljust(width), self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name, command.get_short_help_str(_WHOLE)) for name, command in commands if command]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant. Raises `click.NoSuchCommand`, with those of a similar name, lazy ones as well."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            known = self.list_commands(ctx)
            known += [word for word, meant in ALIASES.items() if word not in known and not set(meant).isdisjoint(known)]
            raise click.NoSuchCommand(error.command_name, possibilities=known, ctx=ctx) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = self.list_commands(ctx)
        if cmd_name not in known:
            cmd_name = next((word for word in ALIASES.get(cmd_name, ()) if word in known), cmd_name)
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._lazy[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command
