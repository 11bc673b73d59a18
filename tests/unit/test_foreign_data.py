"""What takes long, or much, on text and files of somebody else stands in few places, each of which says how it is
bounded. A new place is added here with its reason, or goes through one of those that are here.
"""

from __future__ import annotations

import ast
import re
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from tests.unit.test_structure import MODULES, ROOT, nodes

OWN = "the host or the agent wrote it itself"
OWNER = "the owner of the data folder wrote it"

NORMALIZE = {"shared_schema/text.py": "the one place: takes at most so many characters, and few marks in a row"}
CASEFOLD = {
    "shared_schema/text.py": "the one place: takes at most so many characters",
    "container_agent/tools/question.py": "an answer to a question, in the agent's own process",
    "host/cli/terminal_words.py": OWNER,
}
JSON = {
    "container_agent/context.py": OWN,
    "container_agent/forwarder.py": "the host wrote it",
    "container_agent/inbox.py": "a list of ids that SQLite makes of the host's file",
    "container_agent/usage_accounting.py": "what a provider says of its usage, in the agent's own process",
    "container_agent/outbox.py": OWN,
    "container_agent/providers/model_abilities.py": "the agent's own note of what a model takes",
    "container_agent/providers/model_streams.py": "a model's arguments, in the agent's own process",
    "container_agent/providers/service_words.py": "an answer of a service, in the agent's own process",
    "container_agent/providers/model_history.py": "the agent's own transcript",
    "container_agent/providers/model_images.py": "the agent's own transcript",
    "container_agent/tools/schema.py": "a model's arguments, in the agent's own process",
    "host/api/client.py": "the host's answer to its owner",
    "host/backup/archive.py": OWNER,
    "host/central/agent_groups.py": OWN,
    "host/channels/build.py": OWNER,
    "host/channels/discord/client.py": "a frame of Discord's own, which its SDK has read before",
    "host/channels/telegram/client.py": "an answer of the Bot API, whose size the SDK has taken already",
    "host/central/repairs.py": OWN,
    "host/central/session_list.py": OWN,
    "host/gateway/expected.py": "one string of a request, which is bounded",
    "host/gateway/usage.py": "an answer of a service: so much is kept at most",
    "host/history/rebuild.py": "a line of this program's own process",
    "host/history/rebuild_worker.py": "a line of this program's own process",
    "host/operations/events.py": OWN,
    "host/operations/foreign_exports.py": OWNER,
    "host/operations/model_services.py": "an answer of a service that the owner has named",
    "host/place.py": OWN,
    "host/runtime/engine_address.py": OWNER,
    "host/runtime/process_record.py": OWN,
    "shared_schema/json_text.py": "the one place for what an agent wrote: levels and numbers are bounded",
}
SQLITE = {
    "shared_schema/database.py": "the one place that opens SQLite",
    "host/operations/mount_observer.py": "a file that the host has just made, read by a script on another machine",
}
FOLDERS = {
    "host/backup/contents.py": "by descriptors, and follows no link",
    "host/backup/restore.py": "what was just written, before any agent sees it",
    "host/central/upgrade.py": "copies of central.db, which the host made",
    "host/cli/terminal_words.py": OWNER,
    "host/history/feed.py": "the folders of the sessions, which the host made",
    "host/install.py": "one level, of which the kinds alone are looked at",
    "host/lease.py": OWN,
    "host/operations/agent_files.py": "one folder, by its descriptor: so many names",
    "host/operations/folder_checks.py": OWN,
    "host/operations/mount_measure.py": OWN,
    "host/operations/mount_observer.py": OWN,
    "host/runtime/process_record.py": OWN,
    "host/runtime/sources.py": "the product itself",
    "host/schedules/folder_watch.py": "one folder, by its descriptor: so many names",
    "host/sessions/cut_off.py": "one folder, by its descriptor, of which no name is kept",
    "host/sessions/folder.py": "the folders of the sessions; what lies in them is removed without following a link",
    "host/sessions/inbox_sync.py": "the spool, which is the host's own",
    "host/sessions/untrusted_files.py": "the one place: goes down by descriptors, and follows no link",
    "host/web/assets.py": "the product itself",
    "shared_schema/late_mount.py": "one folder, of which no name is kept",
    "shared_schema/migrate.py": "the product itself",
    "shared_schema/processes.py": "the system's list of processes",
}
"""A folder that an agent may write in is not gone through by paths: what was a folder may be a link a moment later."""
MAY_OPEN_WHAT_AN_AGENT_OWNS = {
    "host/sessions/untrusted_files.py": "follows no link, waits for nothing, opens only regular files of a size",
    "host/sessions/hard_link.py": "the host's own name for a file that was checked",
    "host/sessions/attachments.py": "what a channel or the owner hands over",
    "host/sessions/recovery.py": "a copy that the host made",
}
"""In the room that reads `out/`: everything else there opens files through these."""


def called(module: str, matches: Callable[[ast.Call], bool]) -> bool:
    return any(isinstance(node, ast.Call) and matches(node) for node in nodes(module))


def of(owner: str, *names: str) -> Callable[[ast.Call], bool]:
    """A call of `owner.name`."""

    def matches(node: ast.Call) -> bool:
        function = node.func
        return (
            isinstance(function, ast.Attribute)
            and function.attr in names
            and isinstance(function.value, ast.Name)
            and function.value.id == owner
        )

    return matches


def casefold(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "casefold"


def lists_a_folder(node: ast.Call) -> bool:
    return of("os", "scandir", "listdir", "walk", "fwalk")(node) or (
        isinstance(node.func, ast.Attribute) and node.func.attr in ("iterdir", "glob", "rglob", "walk")
    )


def opens(node: ast.Call) -> bool:
    if isinstance(node.func, ast.Name):
        return node.func.id == "open"
    if not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in ("read_bytes", "read_text") or (
        (node.func.attr == "open" and any(isinstance(word, ast.Constant) for word in node.args))
        or of("os", "open")(node)
    )


def is_whole(module: str) -> bool:
    """Whether a module imports the function and not what it belongs to, so that its calls would not be seen."""
    hidden = {("unicodedata", "normalize"), ("json", "loads"), ("sqlite3", "connect"), ("os", "open")}
    return not any(
        isinstance(node, ast.ImportFrom) and any((node.module, alias.name) in hidden for alias in node.names)
        for node in nodes(module)
    )


@pytest.mark.parametrize(
    ("matches", "allowed"),
    [
        (of("unicodedata", "normalize"), NORMALIZE),
        (casefold, CASEFOLD),
        (of("json", "loads", "load"), JSON),
        (of("sqlite3", "connect"), SQLITE),
    ],
    ids=["unicodedata.normalize", "casefold", "json.loads", "sqlite3.connect"],
)
def test_it_is_done_where_it_is_bounded_and_nowhere_else(
    matches: Callable[[ast.Call], bool], allowed: dict[str, str]
) -> None:
    require_only({module for module in MODULES if called(module, matches)}, allowed)


def test_folders_are_gone_through_in_few_places() -> None:
    host = [module for module in MODULES if not module.startswith("container_agent/")]
    require_only({module for module in host if called(module, lists_a_folder)}, FOLDERS)


def require_only(found: set[str], allowed: dict[str, str]) -> None:
    new = found - allowed.keys()
    assert not new, f"{sorted(new)}: go through a place that is bounded, or say here why it need not"
    assert not allowed.keys() - found, "these do it no more: take them out of the list"


def test_nobody_imports_such_a_function_under_another_name() -> None:
    assert [module for module in MODULES if not is_whole(module)] == []


def test_what_lies_in_out_is_opened_by_few() -> None:
    room = [module for module in MODULES if module.startswith(("host/sessions/", "host/delivery/", "host/history/"))]
    found = {module for module in room if called(module, opens)}
    host_s_own = {"host/history/rebuild.py"}  # the draft of history.db
    assert found <= MAY_OPEN_WHAT_AN_AGENT_OWNS.keys() | host_s_own


# Expressions that take quadratic time are found by trying: twice as much text takes twice as long, not four times.

LENGTHS = (3_000, 24_000)
GROWTH = 20  # times, where eight are linear and sixty-four quadratic
WORTH_MEASURING = 0.03  # seconds of the processor
UNITS = (
    "a", "0", "1 ", " ", "\n", "-", "/", "..", "/..", "%2e", ":", "@", "(", "[", "<a ", '"', "\\u0041", "`", "*", "{{",
    "{{include:_a", "\x1b[", "\x9d", "a.", "a b ", " href=", "http://a/", "+1 ", "/models/", '"model":"', "title: ",
    "中",
)  # fmt: skip
SHORT = {
    "host/cli/session_lifecycle.py": "an age that the owner types",
    "host/cli/size.py": "a size that the owner types",
    "host/operations/agent_groups.py": "the name of an image that the owner types",
}
"""Modules whose texts are short by what they are."""
METHODS = ("fullmatch", "match", "search", "sub", "finditer", "findall", "split")


def expressions() -> Iterator[tuple[str, str | bytes, int, tuple[str, ...]]]:
    """Every expression that stands as a literal in a module, with its flags, and how the module uses it."""
    for module in MODULES:
        if "re.compile(" not in (ROOT / module).read_text(encoding="utf-8"):
            continue  # to parse and walk all modules would take most of the time in which tests are collected
        uses: dict[str, set[str]] = {}
        for node in nodes(module):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in METHODS:
                uses.setdefault(node.value.id, set()).add(node.attr)
        for node in nodes(module):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call) or module in SHORT:
                continue
            call, target = node.value, node.targets[0]
            if of("re", "compile")(call) and isinstance(call.args[0], ast.Constant) and isinstance(target, ast.Name):
                source = "" if len(call.args) < 2 else ast.unparse(call.args[1])
                flags = sum({int(flag) for name, flag in re.RegexFlag.__members__.items() if f"re.{name}" in source})
                yield module, call.args[0].value, flags, tuple(sorted(uses.get(target.id, ())))


EXPRESSIONS = sorted(set(expressions()), key=repr)


@pytest.mark.parametrize(
    ("module", "pattern", "flags", "methods"),
    EXPRESSIONS,
    ids=[f"{each[0]}-{number}" for number, each in enumerate(EXPRESSIONS)],
)
def test_no_expression_takes_quadratic_time(
    module: str, pattern: str | bytes, flags: int, methods: tuple[str, ...]
) -> None:
    expression = re.compile(pattern, flags)

    def seconds(unit: str, length: int) -> float:
        text = "/" + unit * (length // len(unit)) + "!"
        subject = text.encode() if isinstance(pattern, bytes) else text
        began = time.thread_time()
        for method in methods:
            if method in ("fullmatch", "match", "search"):
                getattr(expression, method)(subject)
            else:
                deque(expression.finditer(subject), maxlen=0)  # type: ignore[arg-type]
        return time.thread_time() - began

    for unit in UNITS:
        large = seconds(unit, LENGTHS[1])
        if large > WORTH_MEASURING:
            # The least of three, of both: a busy processor is slow by chance, an expression each time.
            large, small = (min(seconds(unit, length) for _ in range(3)) for length in reversed(LENGTHS))
            assert large < GROWTH * small, f"{module}: {pattern!r} on {unit!r}: {small:.3f} s, then {large:.3f} s"


def test_there_are_expressions_to_try() -> None:
    assert len(EXPRESSIONS) > 30
