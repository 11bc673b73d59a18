"""Completion of this command by the shell: a script of click's, where the shell looks for such scripts."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from shared_schema.errors import DumbwaiterError
from shared_schema.system_errors import words_of

_NAMES = ("dumbwaiter", "dw")
_SHELLS = ("bash", "zsh", "fish")


def shell_of_user() -> str | None:
    """The person's shell, if it is one that can be helped."""
    from host.settings import login_shell

    name = Path(login_shell()).name
    return name if name in _SHELLS else None


def file_of(shell: str, name: str = _NAMES[0]) -> Path:
    """Where the script belongs."""
    from host.settings import configuration_folder, shared_data_folder

    data = shared_data_folder()
    match shell:
        case "fish":
            return configuration_folder() / "fish/completions" / f"{name}.fish"
        case "zsh":
            return data / "zsh/site-functions" / f"_{name}"
        case _:
            return data / "bash-completion/completions" / name


def install(shell: str) -> str:
    """Write the scripts for both names; a sentence that says what was done and what to do. Raises `DumbwaiterError`."""
    from host.cli.root import root

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    for name in _NAMES:
        variable = f"_{name.upper()}_COMPLETE"
        path = file_of(shell, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_source(kind(root, {}, name, variable)), encoding="utf-8")
        except OSError as error:
            raise DumbwaiterError(f"the script cannot be written: {words_of(error)}", where=path) from error
    first = file_of(shell)
    if shell == "zsh":
        return (
            f"Wrote {first}. Put this into ~/.zshrc, above compinit: fpath=({first.parent} $fpath) "
            "and open a new terminal."
        )
    if shell == "bash":
        return f"Wrote {first}. It works in a new terminal with bash-completion, or now: source {first}"
    return f"Wrote {first}. It works in a new terminal."


def _source(completion: click.shell_completion.ShellComplete) -> str:
    return completion.source_template % completion.source_vars()
