"""What a wheel installs, away from the checkout: one top-level name, and all that the host and the images need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.runtime.sources import digest
from tests.support.wait import until_sync

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; it sees the libraries of this one, and not the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("dumbwaiter-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    packages = next((folder / "venv/lib").glob("python3*")) / "site-packages"
    subprocess.run(
        [sys.executable, "-m", "pip", f"--python={folder}/venv/bin/python", "install", "-q", "--no-deps", wheel],
        check=True,
        capture_output=True,
    )
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


def run(installed: Path, *words: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "bin/dumbwaiter", *words],
        env=environment(data),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


def environment(data: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DUMBWAITER_", "PYTHON"))}
    return ours | {"DUMBWAITER_DATA": str(data), "DUMBWAITER_RUNTIME": "process"}


@pytest.mark.full
def test_it_installs_a_single_top_level_name(installed: Path) -> None:
    packages = next((installed / "lib").glob("python3*")) / "site-packages"
    (record,) = packages.glob("dumbwaiter-*.dist-info/RECORD")

    names = {line.split(",")[0].split("/")[0] for line in record.read_text().splitlines()}

    assert {name for name in names if name != ".." and not name.endswith(".dist-info")} == {"dumbwaiter"}
    alone = (
        "import importlib.util as u; print([n for n in ('host', 'container_agent', 'shared_schema') if u.find_spec(n)])"
    )
    assert subprocess.check_output([installed / "bin/python", "-c", alone], cwd="/", text=True).strip() == "[]"


def test_a_module_of_another_package_called_host_does_no_harm(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text("raise SystemExit('the wrong one')")

    done = subprocess.run(
        [installed / "bin/dumbwaiter", "--version"],
        env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.stdout.startswith("dumbwaiter "), done.stderr


def test_the_sources_of_the_image_are_in_it_unchanged(installed: Path) -> None:
    packages = next((installed / "lib").glob("python3*")) / "site-packages"

    assert digest(packages / "dumbwaiter") == digest(ROOT)
    assert (packages / "dumbwaiter/.dockerignore").read_text() == (ROOT / ".dockerignore").read_text()


def test_a_missing_image_is_built_by_a_command_that_is_there(installed: Path, tmp_path: Path) -> None:
    from host.runtime.image_names import how_to_build

    assert how_to_build("dumbwaiter-agent:1-model", ROOT) == "run `make image VARIANT=model`"
    assert how_to_build("dumbwaiter-agent:1-model", tmp_path) == "run `dumbwaiter image build model`"
    assert run(installed, "image", "build", "--help", data=tmp_path).returncode == 0


@pytest.fixture
def host(installed: Path, tmp_path: Path) -> Iterator[Path]:
    """The data folder of a host that runs from the wheel."""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [installed / "bin/dumbwaiter", "run"], env=environment(tmp_path / "data"), cwd="/", stdout=log, stderr=log
        )
    try:
        until_sync(lambda: b'"ready"' in (tmp_path / "log").read_bytes(), "the host to be ready")
        yield tmp_path / "data"
    finally:
        process.terminate()
        process.wait(30)


def test_an_installed_host_answers(installed: Path, host: Path) -> None:
    done = run(installed, "chat", "-m", "hello", "--json", data=host)

    assert done.returncode == 0, done.stderr
    assert [reply["text"].splitlines()[0] for reply in json.loads(done.stdout)["replies"]] == ["hello"]
