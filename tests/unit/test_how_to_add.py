"""docs/how-to-add.md, carried out: a chat command and a noun are added in the places that it names, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from host.cli.command import Group, json_option
from host.cli.invocation import Invocation
from host.cli.output import present, print_fields
from host.cli.root import COMMANDS as NOUNS
from host.cli.root import Root
from host.cli.terminal_words import KnownWords, completions
from host.operations.command_order import Order
from host.operations.command_steps import STEPS
from host.operations.registry import OPERATIONS
from host.routing.commands import COMMANDS, CommandEntry
from host.services import Services
from tests.support.host import running

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to-add.md"


@contextmanager
def entered(table: Any, name: str, entry: object) -> Iterator[None]:
    """A table of the product with one more line, as if it stood in the source."""
    assert name not in table, f"the product has '{name}' by now: let this test add another word"
    table[name] = entry
    try:
        yield
    finally:
        del table[name]


async def test_a_chat_command_is_an_entry_and_a_function(tmp_path: Path) -> None:
    async def gong(order: Order) -> None:
        await order.write(lambda tx: order.finish(tx, f"gong {order.command.argument}"))

    entry = CommandEntry("gong", "say gong", "[TEXT]")
    with entered(COMMANDS, "gong", entry), entered(STEPS, "gong", gong):
        async with running(tmp_path) as host:
            answers = [await host.ask("/gong twice"), await host.ask("/help"), await host.ask("/gongs")]
        completed = [each.text for each in completions("/go", KnownWords())]

    assert answers[0] == "gong twice"
    assert "/gong [TEXT]: say gong" in answers[1]
    assert answers[2] == "scripted: /gongs"
    assert completed == ["/gong"]


async def light(services: Services, *, name: str, watts: int = 40) -> dict[str, Any]:
    """The operation of a noun `lamp`."""
    return {"name": name, "watts": watts, "version": services.central.install_id[:3]}


@click.group("lamp", cls=Group)
def lamp() -> None:
    """The command group of a noun `lamp`."""


@lamp.command("light")
@click.argument("name")
@click.option("--watts", type=int)
@json_option
@click.pass_obj
def light_command(invocation: Invocation, name: str, watts: int | None, as_json: bool) -> None:
    """Light a lamp."""
    lit = invocation.call("lamp.light", name=name, watts=watts)
    present(lit, as_json, lambda lamp: print_fields(lamp, ("name", "watts")))


def test_a_noun_is_an_operation_and_a_command_with_a_line_for_each(tmp_path: Path) -> None:
    """Without a host; a running one is asked through the same table."""
    root = Root("dumbwaiter", lazy={**NOUNS, "lamp": f"{__name__}:lamp"}, of_root=True)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(root, ["--data", str(tmp_path / "data"), *arguments], obj=Invocation())
        assert result.exception is None, result.output
        return result.output

    with entered(OPERATIONS, "lamp.light", light):
        assert run("lamp", "light", "hall").split("\n")[:2] == ["name   hall", "watts  40"]
        assert '"watts": 60' in run("lamp", "light", "hall", "--watts", "60", "--json")
        assert "Light a lamp." in run("lamp", "--help")


SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
TABLE = re.findall(r"^\| \[([^]]+)\]\(#[^)]+\) \| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_a_section_for_each_line_of_its_table() -> None:
    assert [name.lower() for name in SECTIONS] == [name.lower() for name, _ in TABLE]


@pytest.mark.parametrize(("name", "files"), TABLE)
def test_a_section_names_as_many_files_as_the_table_promises(name: str, files: str) -> None:
    section = next(text for title, text in SECTIONS.items() if title.lower() == name.lower())

    steps = re.findall(r"^\d+\. .*?`([\w/<>.…]+\.(?:py|sql|toml|html))`", section, re.MULTILINE)

    assert len(set(steps)) == int(files)
    for step in steps:
        assert "<" in step or "…" in step or (PAGE.parents[1] / step).is_file(), f"there is no {step}"


@pytest.mark.parametrize("title", SECTIONS)
def test_what_a_section_names_stands_in_a_file_that_it_names(title: str) -> None:
    section, root = SECTIONS[title], PAGE.parents[1]
    files = [root / path for path in re.findall(r"`([\w/.-]+/[\w.-]+\.\w+)`", section) if (root / path).is_file()]
    source = " ".join(path.read_text(encoding="utf-8") for path in files)
    names = [name for name in re.findall(r"`((?:\w+\.)*\w+)(?:\([^`]*\))?`", section) if re.search("[A-Z_]", name)]

    lost = [name for name in names if not re.search(rf"\b{name.rpartition('.')[2]}\b", source)]

    assert [name for name in lost if not name.endswith((".py", ".toml"))] == [], (
        f"the files that docs/how-to-add.md names under '{title}' have these no more"
    )
