"""What is printed for people fits their terminal; what is to be copied is in one piece."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from host.cli.output import field_lines, wrapped
from host.cli.terminal_words import own_help


@given(st.text("ab 日本🙂é", max_size=300), st.integers(40, 120))
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrapped(click.style(text, bold=True), width, "    ", "  > ").splitlines()
    assert all(cell_len(click.unstyle(line)) <= width for line in lines)
    assert "".join(click.unstyle("".join(lines)).removeprefix("  > ").split()) == "".join(text.split())


@pytest.mark.parametrize("width", [80, 40])
def test_a_path_that_does_not_fit_beside_its_name_has_a_line_of_its_own(width: int) -> None:
    path = "/home/ann/dumbwaiter/data/sessions/agr_0123456789abcdef/ses_0123456789abcdef"
    assert field_lines([["id", "ses_1"], ["path  of it", path]], width) == ["id           ses_1", "path  of it", path]
    assert field_lines([["path", "/short"]], width) == ["path  /short"]
    assert field_lines([["path", path]], None) == [f"path  {path}"]


def test_the_help_of_the_prompt_names_its_own_words() -> None:
    assert "/agent NAME" in own_help(" /HELP ")
    assert "/exit" in own_help("/help")
    assert own_help("/helpful") == own_help("help") == ""
