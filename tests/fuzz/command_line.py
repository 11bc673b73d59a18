"""Argument vectors, in a data folder without a host: done, failed or wrong usage, and never more than a sentence.

Left out is what does not come back by itself (`run`) and what asks the engine (`doctor`); of those, only `--help`.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from hypothesis import strategies as st

from host.cli.root import COMMANDS, root
from host.local import call_once
from host.settings import load
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import PLAIN_TEXT

_NEVER = frozenset({"run", "doctor"})
_GROUPS = {
    "agent-group": ("add", "list", "show", "set", "remove"),
    "messaging-group": ("add", "list", "show", "set", "remove"),
    "destination": ("add", "list", "remove"),
    "session": (
        "list", "show", "path", "transcript", "tail", "new", "stop", "delete", "logs", "search", "export", "import",
    ),
    "history": ("rebuild",),
}  # fmt: skip
_COMMANDS = [[name] for name in COMMANDS if name not in _NEVER and name not in _GROUPS]
_COMMANDS += [[group, name] for group, names in _GROUPS.items() for name in names]
_OPTIONS = (
    "--json", "--help", "--version", "-m", "--session", "--timeout", "--provider", "--model", "--image", "--memory",
    "--cpus", "--pids", "--mount", "--unmount", "--unset", "--name", "--group", "--dm", "--session-mode", "--per-user",
    "--engage", "--pattern", "--sender", "--sender-name", "--thread", "--mention", "--file", "--id", "--status",
    "--limit", "-n", "--messaging-group", "--agent-group", "--with-sessions", "--max-bytes", "--", "-", "--no-such",
)  # fmt: skip
_WORDS = (
    "assistant", "cli:terminal", "cli:two", "echo", "scripted", "shared", "per-thread", "all", "pattern", "mention",
    "(a?){300}", "[", "512m", "1" * 19, "9" * 400, "0", "1", "-1", "1.5", "nan", "inf", "1e400", "ses_", "model",
    "/usr:x", "/:y:rw", "a:b:rw", "active", "hello", "/dev/null", "/dev/zero", "settings.toml", ".", "",
)  # fmt: skip
# What a shell can hand over: no NUL, and bytes that are no UTF-8 as lone surrogates.
_ARGUMENTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.just("\udcff")))
WORDS = st.one_of(st.sampled_from(_OPTIONS), st.sampled_from(_WORDS), st.sampled_from(_WORDS), _ARGUMENTS)
VECTORS = st.tuples(
    st.one_of(st.sampled_from(_COMMANDS), st.sampled_from(_COMMANDS), st.lists(WORDS, max_size=2)),
    st.lists(WORDS, max_size=5),
    PLAIN_TEXT,
).map(lambda parts: ([*parts[0], *parts[1]], parts[2]))


@contextmanager
def _command_line(folder: Path) -> Iterator[Drive]:
    data, fresh, umask = folder / "data", folder / "fresh", os.umask(0o077)
    before, environment = Path.cwd(), dict(os.environ)
    for name in [name for name in environment if name.startswith("DUMBWAITER_")]:
        del os.environ[name]
    call_once(load({"data": fresh}), "agent_group.add", {"name": "assistant"})
    call_once(load({"data": fresh}), "messaging_group.add", {"address": "cli:terminal"})
    call_once(load({"data": fresh}), "wiring.add", {"messaging_group": "cli:terminal", "agent_group": "assistant"})
    call_once(load({"data": fresh}), "message.inject", {"messaging_group": "cli:terminal", "text": "hello"})
    os.environ["DUMBWAITER_DATA"] = str(data)
    os.chdir(folder)

    def drive(value: tuple[list[str], str]) -> None:
        arguments, typed = value
        if any(word.startswith("--data") for word in arguments) or _NEVER & set(arguments):
            return
        if not data.exists():
            shutil.copytree(fresh, data, symlinks=True)
        status, out, err = _run(arguments, typed)
        if any(data.glob("central.db-*")) or (data / "central.db").stat().st_mtime_ns != _stamp(fresh):
            shutil.rmtree(data)
        assert status in (0, 1, 2, 3), f"exit status {status}"  # 3: no host runs
        assert "Traceback" not in err
        if status:
            assert err.strip() or out.strip()

    try:
        yield drive
    finally:
        os.chdir(before)
        os.umask(umask)
        os.environ.clear()
        os.environ.update(environment)


def _stamp(folder: Path) -> int:
    return (folder / "central.db").stat().st_mtime_ns


def _run(arguments: list[str], typed: str) -> tuple[object, str, str]:
    """The program in this process: exit status and what it printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    standard_input = sys.stdin
    sys.stdin = io.StringIO(typed)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            root.main(arguments, prog_name="dumbwaiter")
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdin = standard_input
    texts = []
    for stream in (out, err):
        stream.flush()
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        texts.append(buffer.getvalue().decode("utf-8", "replace"))
    return status, *texts  # type: ignore[return-value]


COMMAND_LINE = (Target("command-line", _command_line, VECTORS, ()),)
