"""Tests that draw their inputs draw the same ones, whatever else the process has loaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hypothesis import given, settings
from hypothesis import strategies as st


def _drawn() -> list[str]:
    drawn: list[str] = []

    @settings(max_examples=500)
    @given(st.text())
    def draw(text: str) -> None:
        drawn.append(text)

    draw()
    return drawn


def test_the_constants_of_a_loaded_module_change_no_input(tmp_path: Path) -> None:
    before = _drawn()
    words = [f"word {number}" for number in range(200)]
    module = _load(tmp_path / "vocabulary.py", f"WORDS = {words!r}\n")
    try:
        assert _drawn() == before
    finally:
        del sys.modules[module.__name__]


def _load(path: Path, source: str) -> ModuleType:
    path.write_text(source)
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module
