"""A test that hangs ends its process, which says where; the others are run. So does what hangs behind a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

CONFTEST = """
import os, threading
import pytest
from tests.watch import Watch

class Hanging:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        yield
        if item.name == "test_after":  # it is over, and no other begins
            threading.Event().wait()
        return True

def pytest_configure(config):
    config.pluginmanager.register(Watch(os.dup(2)))
    config.pluginmanager.register(Hanging())
"""
TESTS = """
import re, threading
import pytest

def test_before():
    pass

def test_that_holds_the_interpreter():
    re.match("(a+)+$", "a" * 60 + "b")

@pytest.fixture
def thing():
    yield
    threading.Event().wait()

def test_that_fails_and_hangs_over_its_end(thing):
    assert thing, "it failed"

def test_after():
    pass
"""


def test_a_test_that_hangs_is_named_and_the_others_are_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_hanging.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-n", "1", "--dist", "worksteal", "."]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"TEST_SECONDS": "3", "PYTHONPATH": str(ROOT)}

    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )

    said = result.stdout + result.stderr
    assert "4 failed, 2 passed" in said, said
    for name in ("test_that_holds_the_interpreter", "test_that_fails_and_hangs_over_its_end", "test_after"):
        assert f"crashed while running 'test_hanging.py::{name}'" in said
    assert "in match\n" in said, "where it hung"
    assert "in thing\n" in said
