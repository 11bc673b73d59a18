"""Rules about the source that no other tool checks: one place for each dangerous thing."""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("host", "container_agent", "shared_schema")
MODULES = sorted(path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
OF_LOG_RECORDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(module)))


@cache
def imported(module: str) -> frozenset[str]:
    """Full names of what a module imports: `a.b` and, for `from a.b import c`, also `a.b.c`."""
    return frozenset(_imported(module))


def _imported(module: str) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(module: str, owner: str, names: set[str]) -> bool:
    """Whether a module uses one of `owner`'s names, as an attribute or imported."""
    attributes = any(
        isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in nodes(module)
    )
    return attributes or any(f"{owner}.{name}" in imported(module) for name in names)


def calls(module: str, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in nodes(module)
    )


def where(predicate: object) -> set[str]:
    return {module for module in MODULES if predicate(module)}  # type: ignore[operator]


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 80
    assert {module.split("/")[0] for module in MODULES} == set(PACKAGES)


def test_one_module_opens_sqlite() -> None:
    assert where(lambda m: uses(m, "sqlite3", {"connect", "Connection"}) and _opens(m)) == {
        "shared_schema/database.py",
        "host/operations/mount_observer.py",  # a script that runs by itself on another machine
    }


def _opens(module: str) -> bool:
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) in ("sqlite3.connect", "connect", "sqlite3.Connection")
        for node in nodes(module)
    )


def test_each_side_reads_the_environment_in_one_place() -> None:
    reading = where(lambda m: uses(m, "os", {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}))
    assert reading == {
        "host/settings.py",
        "container_agent/__main__.py",
        "container_agent/relay.py",  # a program of its own, in a container of its own
    }


def test_only_what_talks_to_a_person_prints() -> None:
    printing = {module for module in where(lambda m: calls(m, "print")) if not module.startswith("host/cli/")}
    assert printing == {"host/daemon.py"}


def test_nothing_shipped_imports_from_the_tests() -> None:
    assert where(lambda m: any(name.split(".")[0] in ("tests", "pytest", "unittest") for name in imported(m))) == set()


def test_the_contract_needs_the_standard_library_alone() -> None:
    others = {
        name.split(".")[0]
        for module in MODULES
        if module.startswith("shared_schema/")
        for name in imported(module)
        if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert others == {"shared_schema"}


def test_the_wall_clock_is_read_in_one_place() -> None:
    asking = where(lambda m: uses(m, "datetime", {"now", "utcnow", "today"}) or uses(m, "time", {"time", "time_ns"}))
    assert asking == {"shared_schema/clock.py"}


def test_a_time_limit_forgets_no_cancellation() -> None:
    """On Python 3.11 `wait_for` swallows one that comes as its result does; `asyncio.timeout` does not."""
    assert where(lambda m: uses(m, "asyncio", {"wait_for"})) == set()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree(module))


def test_no_log_line_has_a_field_that_logging_keeps_for_itself() -> None:
    clashes = [
        f"{module}:{node.lineno} {key.value}"
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.keyword) and node.arg == "extra"
        for part in ast.walk(node.value)
        if isinstance(part, ast.Dict)
        for key in part.keys
        if isinstance(key, ast.Constant) and key.value in OF_LOG_RECORDS | {"time", "level", "event", "logger"}
    ]
    assert clashes == []


def test_no_module_prints_reads_or_writes_while_it_is_imported() -> None:
    acting = [
        f"{module}:{node.lineno}"
        for module in MODULES
        if not module.endswith("__main__.py")
        for node in tree(module).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert acting == []


def importing(*names: str) -> set[str]:
    """The modules of the host that import one of these."""
    return where(lambda m: m.startswith("host/") and any(name in imported(m) for name in names))


def test_the_host_changes_an_agents_file_in_one_place_and_only_supervision_which_knows_that_it_is_dead_asks() -> None:
    """One writer per file: `open_writer` elsewhere is for files of the host's own, and for drafts of fresh ones."""
    assert importing("shared_schema.database.mend") == {"host/sessions/recovery.py"}
    assert importing("host.sessions.recovery") == {"host/supervision/sync.py", "host/supervision/runs.py"}
    assert importing("shared_schema.database.open_writer", "shared_schema.database.writer") == {
        "host/backup/restore.py",
        "host/central/database.py",
        "host/history/rebuild.py",
        "host/history/record.py",
        "host/history/rebuild_worker.py",
        "host/operations/mount_measure.py",
        "host/sessions/folder.py",
        "host/sessions/inbox.py",
        "host/sessions/restore.py",
    }


def test_no_class_name_stands_twice() -> None:
    found: dict[str, list[str]] = {}
    for module in MODULES:
        for node in nodes(module):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """What is imported for types alone counts; what a function imports when it is called does not."""
    graph = {_name(module): set(_imported_at_once(module)) for module in MODULES}
    rest = {name: {other for other in others if other in graph} - {name} for name, others in graph.items()}
    while free := {name for name, others in rest.items() if not others & rest.keys()}:
        rest = {name: others for name, others in rest.items() if name not in free}
    assert rest == {}


def _name(module: str) -> str:
    return module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported_at_once(module: str) -> Iterator[str]:
    known = {_name(each) for each in MODULES}
    for statement in tree(module).body:
        for node in ast.walk(statement) if isinstance(statement, ast.If | ast.Try) else (statement,):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in known else str(node.module) for name in full)


def test_what_catches_everything_says_why_or_raises_it_again() -> None:
    silent = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises(node)
        if "  # " not in _lines(module)[node.lineno - 1]
    ]
    assert silent == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")


def _raises(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@cache
def _lines(module: str) -> list[str]:
    return (ROOT / module).read_text(encoding="utf-8").split("\n")


GONE = frozenset(
    {
        "Conductor", "conductor", "Turnstile", "turnstile", "attend_within", "errand", "errands", "Glimpse", "glimpse",
        "last_words", "LastWords", "bury", "bury_agent", "settle_lost", "strangers", "Obstacles", "obstacles", "Places",
        "surroundings", "Surroundings", "House", "Both", "Post", "Workshop", "Outward",
        "Repeats", "Wire", "Turnover", "turn_over", "Either", "Without", "DEAF", "BLOCKS", "hurry", "poke",
    }
)  # fmt: skip
"""Names for which the field has others (docs/architecture.md, "The words")."""


DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/**/*.md", "container_agent/prompt/**/*.md")
    for path in ROOT.glob(pattern)
)
RIDDLES = re.compile(r"\b(somebody|nobody|whatever|whoever|anybody)\b", re.IGNORECASE)
"""Words that hide who does what. A sentence names the person, the host, the agent or the file that it is about."""


def test_a_sentence_says_who_does_what() -> None:
    found = [
        f"{name}:{at}: {line.strip()}"
        for name in (*MODULES, *DOCUMENTS)
        for at, line in enumerate(_lines(name), 1)
        if RIDDLES.search(line)
    ]
    assert found == []


def test_one_idea_has_one_name() -> None:
    names = {
        f"{module}: {name}" for module in MODULES for node in nodes(module) for name in _names_of(node) if name in GONE
    }
    assert names == set()


def _names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.arg):
        yield node.arg
