from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.cli.plain import as_json, one_line, plain


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1bcreset", "reset"),
        ("over\rwritten", "overwritten"),
        ("back\b\b\b", "back"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud83d", "half "),
        ("a\r\nb\tc\n", "a\nb\tc\n"),
        ("Zoë 🙂 日本", "Zoë 🙂 日本"),
    ],
)
def test_text_loses_what_a_terminal_would_obey(dirty: str, clean: str) -> None:
    assert plain(dirty) == clean


@given(st.text(st.characters(codec=None)))
def test_no_control_character_passes(text: str) -> None:
    assert not [each for each in plain(text) if each not in "\n\t" and (ord(each) < 32 or 0x7F <= ord(each) < 0xA0)]
    assert "\n" not in one_line(text)


@given(st.text(st.characters(codec=None)))
def test_json_prints_safely_and_loses_nothing(text: str) -> None:
    printed = as_json({"text": text})

    assert json.loads(printed) == {"text": text}
    assert plain(printed) == printed
    printed.encode()
