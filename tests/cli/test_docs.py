"""The documentation says what the program does: every command, option, setting and query is checked against it."""

from __future__ import annotations

import ast
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import chdir, closing
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from host.central.agent_links import AGENT_CHANNEL
from host.central.database import CENTRAL
from host.channels.cli import CHANNEL_TYPE
from host.channels.registry import installed as channel_types
from host.cli.root import root
from host.gateway.upstreams import UpstreamKind
from host.kubernetes_settings import KubernetesSetting
from host.sessions.inspection import ask
from host.settings import Settings
from host.telemetry_settings import TelemetrySetting
from host.web_settings import OidcSetting, WebSetting
from shared_schema.layout import SessionLayout
from shared_schema.migrate import INBOUND, OUTBOUND, Schema, migrate

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands(group: click.Group, path: str = "dumbwaiter") -> Iterator[tuple[str, click.Command]]:
    """All commands below a group, with what a person types to reach them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


COMMANDS = dict(commands(root))
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]


def above(path: str) -> click.Context:
    """The context of the group that a command stands in."""
    names = path.split()[:-1]
    context = click.Context(root, info_name=names[0])
    for at, name in enumerate(names[1:], 2):
        context = click.Context(COMMANDS[" ".join(names[:at])], info_name=name, parent=context)
    return context


def test_the_help_names_each_command_once_and_cuts_no_sentence() -> None:
    for path, command in COMMANDS.items():
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=path.split()[-1], parent=above(path), terminal_width=60)
            text = command.get_help(context).partition("--help  ")[2]
            listed = re.findall(r"^  ([a-z][a-z-]*)  ", text, re.MULTILINE)
            assert sorted(listed) == sorted(command.list_commands(context)), path
            assert "..." not in text, path


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_its_section_with_all_its_options(path: str) -> None:
    found = re.search(rf"^###? `{path}`\n(.*?)(?=^##|\Z)", page("docs/cli.md"), re.MULTILINE | re.DOTALL)

    assert found, f"docs/cli.md has no section `{path}`"
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and parameter.name not in ("data", "as_json"):
            for option in [*parameter.opts, *parameter.secondary_opts]:
                assert f"`{option}" in found[1], f"`{path}` does not mention {option}"
        if isinstance(parameter, click.Argument):
            assert str(parameter.name).upper() in found[1]


@pytest.mark.parametrize("path", ["dumbwaiter agent-group add", "dumbwaiter agent-group set"])
def test_the_providers_that_an_agent_can_have_are_named(path: str) -> None:
    (said,) = [
        each.help for each in COMMANDS[path].params if isinstance(each, click.Option) and each.name == "provider"
    ]
    section = page("docs/cli.md").partition(f"### `{path}`\n")[2].partition("\n### ")[0]

    assert said is not None
    assert f"| `--provider TEXT` | {said}" in section


def test_a_chat_in_an_example_is_on_a_platform_that_is_there() -> None:
    examples = re.findall(r"^ *dumbwaiter .*$", page("README.md") + page("docs/cli.md"), re.MULTILINE)

    chats = [word for line in examples for word in line.split() if re.fullmatch(r"[a-z]+:-?\w+", word)]

    assert {chat.partition(":")[0] for chat in chats} - set(UpstreamKind) <= {
        CHANNEL_TYPE,
        AGENT_CHANNEL,
        *channel_types(),
    }


@pytest.mark.parametrize("path", LEAVES)
def test_every_help_ends_with_lines_that_can_be_typed_and_the_page_has_them(path: str, tmp_path: Path) -> None:
    for name in ("key.txt", "report.pdf", "session.jsonl"):
        (tmp_path / name).touch()
    section = page("docs/cli.md").partition(f"# `{path}`\n")[2].partition("\n## ")[0].partition("\n### ")[0]

    help_text = COMMANDS[path].get_help(click.Context(COMMANDS[path], info_name=path.split()[-1], parent=above(path)))
    examples = help_text.partition("\nExamples:\n")[2].splitlines()

    assert examples, f"host/cli/examples.py has no line for `{path}`: add one there, and the same line to docs/cli.md"
    for line in examples:
        assert re.search(rf"^ *{re.escape(line.strip())}( |$)", section, re.MULTILINE), (
            f"docs/cli.md: {path} lacks{line}"
        )
        typed = re.search(rf"{path}(.*?)(?: [<>] |\)\"|$)", line)
        assert typed, line
        with chdir(tmp_path), COMMANDS[path].make_context(path, shlex.split(typed[1])):
            pass


def test_no_section_is_about_a_command_that_is_not_there() -> None:
    sections = set(re.findall(r"^###? `(dumbwaiter [^`]+)`$", page("docs/cli.md"), re.MULTILINE))

    assert sections - set(COMMANDS) == set()


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_takes_the_data_folder_and_explains_itself(path: str) -> None:
    command = COMMANDS[path]

    assert "data" in {parameter.name for parameter in command.params}
    assert command.help
    assert path in ("dumbwaiter run", "dumbwaiter acp") or "as_json" in {parameter.name for parameter in command.params}


def type_of(annotation: Any) -> str:
    """The type of a setting as docs/settings.md writes it."""
    if get_origin(annotation) is dict or annotation in (WebSetting, KubernetesSetting, TelemetrySetting):
        return "table"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    kinds = [each for each in get_args(annotation) or (annotation,) if each is not type(None)]
    if kinds[0] is OidcSetting:
        return "table"
    return {
        SecretStr: "text",
        bool: "`true`, `false`",
        int: "whole number",
        float: "number",
        str: "text",
        Path: "path",
    }[kinds[0]]


def value_of(default: Any) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default in (WebSetting(), KubernetesSetting(), TelemetrySetting()):
        return "`{}`"
    if default is PydanticUndefined:
        return ""
    if isinstance(default, tuple) and default:
        return ", ".join(f"`{each}`" for each in default)
    return "none" if default is None or default == () else f"`{default}`"


@pytest.mark.parametrize("name", TelemetrySetting.model_fields)
def test_every_setting_of_traces_has_its_row(name: str) -> None:
    field = TelemetrySetting.model_fields[name]

    row = f"| `{name}` | {type_of(field.annotation)} | {value_of(field.default)} | {field.description} |"

    assert row in page("docs/traces.md").splitlines(), f"docs/traces.md needs the row\n{row}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_row(name: str) -> None:
    field = Settings.model_fields[name]

    row = f"| `{name}` | {type_of(field.annotation)} | {value_of(field.default)} | {field.description} |"

    assert row in page("docs/settings.md").splitlines(), f"docs/settings.md needs the row\n{row}"


@pytest.mark.parametrize("name", KubernetesSetting.model_fields)
def test_every_setting_of_the_cluster_has_its_row(name: str) -> None:
    field = KubernetesSetting.model_fields[name]

    row = f"| `{name}` | {type_of(field.annotation)} | {value_of(field.default)} | {field.description} |"

    assert row in page("docs/cluster.md").splitlines(), f"docs/cluster.md needs the row\n{row}"


@pytest.mark.parametrize("name", WebSetting.model_fields)
def test_every_setting_of_the_page_has_its_row(name: str) -> None:
    field = WebSetting.model_fields[name]

    row = f"| `{name}` | {type_of(field.annotation)} | {value_of(field.default)} | {field.description} |"

    assert row in page("docs/web.md").splitlines(), f"docs/web.md needs the row\n{row}"


@pytest.mark.parametrize("name", OidcSetting.model_fields)
def test_every_setting_of_the_sign_in_provider_has_its_row(name: str) -> None:
    field = OidcSetting.model_fields[name]

    row = f"| `{name}` | {type_of(field.annotation)} | {value_of(field.default)} | {field.description} |"

    assert row.replace("|  |", "| |") in page("docs/web.md").splitlines(), f"docs/web.md needs the row\n{row}"


def test_no_row_is_about_a_setting_that_is_not_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", page("docs/settings.md"), re.MULTILINE)

    assert sorted(rows) == sorted(Settings.model_fields)


def test_the_readme_says_how_to_start_and_how_to_test() -> None:
    readme = page("README.md")

    for command in ("make run", '.venv/bin/dumbwaiter chat -m "hello"', "make test"):
        assert f"    {command}\n" in readme


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).exists(), f"{path.name} links to {target}"


NAMED = re.compile(r"\[`([\w.]+)`\]\((?:\.\./)*((?:host|container_agent|shared_schema|tests)/[\w/]+\.py)\)")
"""A function, class or method, with the file it stands in."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_function_that_a_page_links_to_is_there(path: Path) -> None:
    for name, file in NAMED.findall(path.read_text(encoding="utf-8")):
        assert name.endswith(".py") or name in names_in(ROOT / file), f"{path.name}: {file} has no {name}"


@cache
def names_in(file: Path) -> frozenset[str]:
    """What is defined in a module: functions, classes, `Class.method`, and constants."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef(name=name, body=body):
                found |= {name, *(f"{name}.{each.name}" for each in body if isinstance(each, _FUNCTIONS))}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("name", ["architecture", "how-to-add"])
def test_a_file_that_a_page_about_the_code_names_is_there(name: str) -> None:
    named = re.findall(r"`((?:host|container_agent|shared_schema|tests|docs)/[\w/.-]+)`", page(f"docs/{name}.md"))

    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []


NAMED_BEHIND = re.compile(r"`([\w/]+\.py): (\w+)`")
"""`file.py: name`; the file may be named without its folders."""


@pytest.mark.parametrize("name", ["architecture", "how-to-add"])
def test_a_name_that_stands_behind_a_file_is_in_it(name: str) -> None:
    for file, said in NAMED_BEHIND.findall(page(f"docs/{name}.md")):
        found = [
            path for folder in ("host", "container_agent", "shared_schema") for path in (ROOT / folder).rglob("*.py")
        ]
        meant = [path for path in found if path.as_posix().endswith(f"/{file}")]
        assert any(re.search(rf"\b{said}\b", path.read_text(encoding="utf-8")) for path in meant), f"{file}: {said}"


def test_the_picture_of_the_house_has_every_package_of_the_host() -> None:
    picture = page("docs/house.svg")
    rooms = {path.parent.name for path in (ROOT / "host").glob("*/__init__.py")}

    assert {room for room in rooms if f">{room}<" not in picture} == set()


@pytest.mark.parametrize("name", ["README.md", "docs/cli.md", "docs/settings.md", "docs/inspecting.md"])
def test_every_command_in_an_example_is_there(name: str) -> None:
    known = {tuple(path.split()[1:]) for path in COMMANDS}
    for line in re.findall(r"^ *(?:\.venv/bin/)?dumbwaiter ([a-z].*)$", page(name), re.MULTILINE):
        words = re.split(r"\s+", line)
        assert tuple(words[:1]) in known
        assert words[0] not in ("session", "agent-group", "messaging-group", "destination") or tuple(words[:2]) in known


def _said(path: Path) -> Iterator[str]:
    """What is to be typed after `dumbwaiter`, as a page, a template or a sentence of the host's has it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                parts = [str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values]
                yield from _IN_TICKS.findall("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from _IN_TICKS.findall(node.value)
        return
    yield from _IN_TICKS.findall(text)
    yield from (_ON_A_LINE if path.suffix == ".md" else _IN_CODE).findall(text)


_IN_TICKS = re.compile(r"`(?:\.venv/bin/)?dumbwaiter ([^`\n]+)`")
_ON_A_LINE = re.compile(r"^(?:    | *\$ )(?:\.venv/bin/)?dumbwaiter (.+)$", re.MULTILINE)
_IN_CODE = re.compile(r"<code[^>]*>dumbwaiter ([^<\n]+)")


def _what_is_wrong(line: str) -> str | None:
    """Why what is typed after `dumbwaiter` is no command, or has an option that it does not take."""
    words = shlex.split(re.sub(r"\{\{.*?\}\}", "X", re.split(r" [<>|#] |  |…", line)[0]))
    command: click.Command = root
    context = click.Context(root, info_name="dumbwaiter")
    while isinstance(command, click.Group):
        words = words[2:] if words[:1] == ["--data"] else words
        if not words or not re.fullmatch(r"[a-z][a-z-]+", words[0]):
            return None
        below = command.get_command(context, words[0])
        if below is None:
            return f"there is no command {words[0]}"
        command, context, words = below, click.Context(below, info_name=words[0], parent=context), words[1:]
    if any(word.startswith("[") for word in words):  # how a command is called, as its section begins
        return None
    try:
        _, left, _ = command.make_parser(context).parse_args(words)
    except click.NoSuchOption as error:
        return error.format_message()
    except click.UsageError:
        return None
    return f"{left} is too much" if left else None


def test_every_line_that_a_page_or_a_sentence_gives_to_type_can_be_typed() -> None:
    files = list(PAGES)
    for folder in ("host", "container_agent", "shared_schema"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".html")]
    lines = [(path, line) for path in files for line in _said(path)]

    wrong = [
        f"{path.relative_to(ROOT)}: dumbwaiter {line}: {why}" for path, line in lines if (why := _what_is_wrong(line))
    ]

    assert len(lines) > 600
    assert wrong == []


# The queries of docs/inspecting.md, on files with the schema of the migrations and a row in every table.

QUERIES = re.findall(r'^ {4}dumbwaiter session sql S "(.+)"$', page("docs/inspecting.md"), re.MULTILINE)
OF_CENTRAL = re.findall(r"^ {4}sqlite3 -safe -readonly central.db (.+)$", page("docs/inspecting.md"), re.MULTILINE)
SCHEMAS: dict[str, Schema] = {"inbound.db": INBOUND, "out/outbound.db": OUTBOUND, "central.db": CENTRAL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("inspecting")
    for name in ("out", ".reading"):
        (folder / name).mkdir()
    for name, schema in SCHEMAS.items():
        with closing(sqlite3.connect(folder / name, isolation_level=None)) as connection:
            migrate(connection, schema)
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for table in tables(connection):
                fill(connection, table)
    return folder


def tables(connection: sqlite3.Connection) -> list[str]:
    """The tables of a schema, without SQLite's own."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in names]


def fill(connection: sqlite3.Connection, table: str) -> None:
    """One row whose every column has a value that a query of the page may look for."""
    known = {"content": '{"text": "hello"}', "status": "failed" if table == "ingest" else "pending"}
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    row = [1 if kind == "INTEGER" else known.get(name, "x") for _, name, kind, *_ in columns]
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)


def test_there_are_ten_queries() -> None:
    assert (len(QUERIES), len(OF_CENTRAL)) == (8, 2)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_runs_on_the_real_schema_and_finds_what_is_there(query: str, folder: Path) -> None:
    answer = ask(SessionLayout(folder), query)

    assert not answer.notes
    assert len(answer.rows) == 1, f"the query found {answer.rows}"


@pytest.mark.parametrize("query", OF_CENTRAL)
def test_every_query_of_the_host_s_own_file_finds_what_is_there(query: str, folder: Path) -> None:
    with closing(sqlite3.connect(f"file:{folder}/central.db?mode=ro", uri=True)) as connection:
        rows = connection.execute(*shlex.split(query)).fetchall()

    assert len(rows) == 1, f"the query found {rows}"
