"""The SDKs of others wait for the test that uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.sdks import Later

ROOT = Path(__file__).resolve().parents[2]
_COLLECTED = """
import sys, pytest
status = pytest.main(["--quiet", "-p", "no:cacheprovider", *sys.argv[1:]])
print(int(status), "wave" in sys.modules)
"""
_TESTS = """
from tests.support.sdks import Later

wave = Later("wave")


def test_it():
    assert wave.open
"""


def _after(folder: Path, *options: str) -> str:
    """The exit status of pytest, and whether the module was loaded in its process."""
    (folder / "test_wave.py").write_text(_TESTS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _COLLECTED, *options, "test_wave.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_to_collect_tests_loads_none_of_them_and_to_run_them_does(tmp_path: Path) -> None:
    assert _after(tmp_path, "--collect-only") == "0 False"
    assert _after(tmp_path) == "0 True"


def test_what_it_has_is_what_the_module_has() -> None:
    assert Later("textwrap").dedent("  a") == "a"
