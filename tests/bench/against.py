"""The same figures for an older revision, in turns with this one, so that the noise of a machine hits both alike.

The older revision lies in a git worktree with its own product and its own measuring code; a module of figures that it
does not have yet is copied there. Each block is a process of its own, so neither warms anything up for the other.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.report import number
from tests.conftest import ROOT

BLOCKS = 3
FILE = Path("build") / "bench-against.json"
_LIMIT_SECONDS = 1800
_SCRIPT = """
import importlib, json, sys
from tests.bench import workbench
name, attribute = sys.argv[1].split(":")
module = importlib.import_module(name)
if not getattr(module, "NEEDS_ENGINE", True):
    workbench.missing_engine = lambda: "these figures need none"
with workbench.workbench() as bench:
    figures = [figure.to_row() for figure in getattr(module, attribute)(bench)]
print(json.dumps(figures))
"""


def compare(revision: str, names: Sequence[tuple[str, str]]) -> None:
    """Measure figures, each named by module and function, here and at the revision, and print them side by side.

    Raises `CalledProcessError` when there is no such revision, or a measurement breaks.
    """
    values: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    units: dict[str, str] = {}
    with _worktree(revision) as older:
        for module, _ in names:
            _have(older, module)
        for block in range(BLOCKS):
            for measured in names:
                sides = ((0, older), (1, ROOT)) if block % 2 == 0 else ((1, ROOT), (0, older))
                for side, folder in sides:
                    print(f"block {block + 1} of {BLOCKS}: {measured[0]} {('then', 'now')[side]} …", file=sys.stderr)
                    for row in _measured(folder, *measured):
                        values[row["name"]][side].append(row["value"])
                        units[row["name"]] = row["unit"]
    found = [
        {"name": name, "unit": units[name], "then": statistics.median(then), "now": statistics.median(now)}
        for name, (then, now) in values.items()
        if then and now
    ]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({"revision": revision, "figures": found}, indent=2) + "\n", encoding="utf-8")
    _show(revision, found)


def _measured(folder: Path, module: str, attribute: str) -> list[dict[str, float | str]]:
    command = [sys.executable, "-c", _SCRIPT, f"{module}:{attribute}"]
    done = subprocess.run(
        command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True, timeout=_LIMIT_SECONDS
    ).stdout
    rows: list[dict[str, float | str]] = json.loads(done.splitlines()[-1])
    return rows


@contextmanager
def _worktree(revision: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dumbwaiter-against-") as name:
        folder = Path(name) / "tree"
        # Agents run their code from here as another user.
        Path(name).chmod(0o755)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=False)


def _have(folder: Path, module: str) -> None:
    path = Path(*module.split(".")).with_suffix(".py")
    if not (folder / path).exists():
        shutil.copy(ROOT / path, folder / path)


def _show(revision: str, found: Sequence[dict[str, object]]) -> None:
    console = Console()
    table = Table("figure", f"at {revision}", "now", "now by then")
    for row in found:
        then, now = float(str(row["then"])), float(str(row["now"]))
        ratio = f"{now / then:.2f}" if then else "-"
        unit = f" {row['unit']}" if row["unit"] else ""
        table.add_row(str(row["name"]), f"{number(then)}{unit}", f"{number(now)}{unit}", ratio)
    (console if console.is_terminal else Console(width=140)).print(table)
