"""Which runtime is taken, and what is said about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from host.runtime.choose import Choice, choose
from host.runtime.docker import DockerRuntime
from host.runtime.image_names import image_for
from host.runtime.images import make_ready
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from host.runtime.sources import digest
from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, new_id
from tests.conftest import ROOT, AgentImage, docker_url
from tests.runtime.agents import eventually, session_folder, specification
from tests.runtime.test_docker import engine_that_fails, hanging_engine

INSTALL = new_id(Prefix.INSTALL)


async def chosen(
    setting: str,
    folder: Path,
    docker_host: str | None,
    *,
    image: str = "dumbwaiter-agent:never",
    base_image: str = "dumbwaiter-no-base:never",
    context: Path | None = None,
) -> Choice:
    choice = await choose(
        setting,
        install_id=INSTALL,
        image=image,
        base_image=base_image,
        run_folder=folder / "run",
        docker_host=docker_host,
        context=context or folder,
    )
    await choice.runtime.close()
    return choice


async def test_without_an_engine_auto_takes_processes_and_warns(tmp_path: Path) -> None:
    choice = await chosen("auto", tmp_path, f"unix://{tmp_path}/nothing.sock")
    assert choice.runtime.name == "process"
    assert choice.reason.startswith("process: no engine answers")
    assert "NO ISOLATION" in (choice.warning or "")


async def test_with_a_hanging_engine_auto_takes_processes_soon(tmp_path: Path) -> None:
    with hanging_engine(tmp_path / "engine.sock") as url:
        begun = time.monotonic()
        choice = await chosen("auto", tmp_path, url)
        assert time.monotonic() - begun < 3
    assert choice.runtime.name == "process"


async def test_docker_that_is_demanded_and_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"runtime = docker.*no engine") as refused:
        await chosen("docker", tmp_path, f"unix://{tmp_path}/nothing.sock")
    assert re.search(r"type `dumbwaiter run --data \S+ --runtime process`", str(refused.value.hint))


async def test_processes_that_are_demanded_come_with_the_warning_too(tmp_path: Path) -> None:
    choice = await chosen("process", tmp_path, None)
    assert choice.runtime.name == "process"
    assert choice.warning is not None


async def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue):
        await chosen("podman", tmp_path, None)


@pytest.mark.docker
async def test_docker_is_taken_quickly_where_the_engine_answers_and_the_image_is_there(
    agent_image: AgentImage, tmp_path: Path
) -> None:
    begun = time.monotonic()
    choice = await chosen("auto", tmp_path, docker_url(), image=agent_image.name)
    assert time.monotonic() - begun < 0.5
    assert choice.runtime.name == "docker"
    assert choice.reason.endswith(f"the image {agent_image.name} is there")
    assert choice.warning is None


@pytest.mark.docker
async def test_the_runtime_that_is_chosen_gives_agents_a_name(tmp_path: Path, script_image: str) -> None:
    choice = await choose(
        "docker",
        install_id=new_id(Prefix.INSTALL),
        image=script_image,
        base_image=script_image,
        run_folder=tmp_path / "run",
        docker_host=docker_url(),
        context=tmp_path,
    )
    runtime = choice.runtime
    layout = session_folder(tmp_path, "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)")
    handle = await runtime.start(specification(layout, INSTALL, image=script_image, uid=4242))

    async def said() -> bool:
        return await runtime.logs(handle) == b"agent-4242\n"

    try:
        await eventually(said)
    finally:
        await runtime.remove(handle)
        await runtime.close()


@pytest.mark.docker
async def test_a_missing_image_that_cannot_be_built_is_a_reason_for_processes(tmp_path: Path) -> None:
    choice = await chosen("auto", tmp_path, docker_url())
    assert choice.reason == "process: the image dumbwaiter-agent:never is missing"
    assert "run `dumbwaiter image build`" in (choice.warning or "")


@pytest.mark.docker
async def test_a_build_that_fails_is_an_error_where_docker_is_demanded(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.agent").write_text("FROM scratch\nCOPY missing /\n")
    with pytest.raises(StartFailed, match="cannot be built"):
        await chosen("docker", tmp_path, docker_url())


@pytest.mark.docker
async def test_an_image_of_ours_is_built_anew_when_its_sources_have_changed(
    tmp_path: Path, agent_image: AgentImage
) -> None:
    checkout, image = tmp_path / "checkout", f"dumbwaiter-agent:test-{os.getpid()}"
    for name in ("container_agent", "shared_schema"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Dockerfile.agent", checkout)

    async def stands() -> str:
        choice = await choose(
            "docker",
            install_id="ins_0000000000000000",
            image=image,
            base_image=agent_image.base,
            run_folder=tmp_path,
            docker_host=docker_url(),
            context=checkout,
        )
        await choice.runtime.close()
        return choice.reason

    try:
        assert (await stands()).endswith("was built just now")
        assert (await stands()).endswith("is there")
        (checkout / "container_agent" / "batch.py").write_text('"""Changed."""\n')
        assert (await stands()).endswith("was built anew, because its sources have changed")
        assert (await stands()).endswith("is there")
    finally:
        subprocess.run(["docker", "image", "rm", "-f", image], check=True, capture_output=True)


@pytest.mark.docker
async def test_a_variant_that_is_there_is_built_anew_as_that_variant(tmp_path: Path, agent_image: AgentImage) -> None:
    image = f"dumbwaiter-agent:test-{os.getpid()}"
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    recipe = """
        ARG BASE_IMAGE
        FROM $BASE_IMAGE
        ARG VARIANT
        ARG SOURCES
        ARG BASE_IMAGE
        LABEL dumbwaiter.variant=$VARIANT dumbwaiter.sources=$SOURCES dumbwaiter.base=$BASE_IMAGE
        """
    (checkout / "Dockerfile.agent").write_text(recipe)
    runtime = DockerRuntime(INSTALL, docker_url())
    try:
        await runtime.build_image(f"{image}-model", agent_image.base, "model", checkout)
        await make_ready(runtime, image, agent_image.base, ("echo", "model", "claude"), checkout)
        (checkout / "Dockerfile.agent").write_text(f"{recipe}LABEL changed=1\n")
        providers = ("echo", "claude")
        assert (await make_ready(runtime, image, agent_image.base, providers, checkout)).startswith("was built anew")
        assert "changed" not in (await runtime.image_labels(f"{image}-model") or {})  # nobody needs it
        await make_ready(runtime, image, agent_image.base, ("model",), checkout)
        for name, variant in ((image, "plain"), (f"{image}-model", "model")):
            labels = await runtime.image_labels(name) or {}
            assert (labels["dumbwaiter.variant"], labels["changed"]) == (variant, "1")
        assert await runtime.image_labels(f"{image}-claude") is None  # what nobody has asked for is not built
    finally:
        await runtime.close()
        subprocess.run(["docker", "image", "rm", "-f", image, f"{image}-model"], check=True, capture_output=True)


def test_the_variant_of_an_image_is_named_once() -> None:
    assert image_for("echo", "dumbwaiter-agent:1") == "dumbwaiter-agent:1"
    assert image_for("model", "dumbwaiter-agent:1") == "dumbwaiter-agent:1-model"
    assert image_for("model", "dumbwaiter-agent:1-model") == "dumbwaiter-agent:1-model"


def test_the_digest_of_the_sources_changes_with_each_of_them(tmp_path: Path) -> None:
    for name in ("container_agent", "shared_schema"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Dockerfile.agent", tmp_path)
    assert digest(tmp_path) == digest(ROOT)
    seen = {digest(tmp_path)}
    changes = (
        "container_agent/batch.py",
        "container_agent/prompt/templates/chat.md",
        "shared_schema/inbound/0001_first.sql",
        "Dockerfile.agent",
    )
    for changed in changes:
        path = tmp_path / changed
        path.write_text(path.read_text() + "\n")
        seen.add(digest(tmp_path))
    assert len(seen) == 5


async def test_an_engine_that_fails_when_it_is_asked_is_said_with_its_reason(tmp_path: Path) -> None:
    """It answers a ping, and then with an error."""
    with engine_that_fails(tmp_path / "engine.sock") as url:
        with pytest.raises(RuntimeUnavailable, match=r"runtime = docker, but the engine fails: out of order"):
            await chosen("docker", tmp_path, url)
        choice = await chosen("auto", tmp_path, url)
    assert choice.runtime.name == "process"
    assert "the engine fails: out of order" in str(choice.warning)
