"""An agent in a container and nothing else: the two files are the whole contract.

docker-compose starts one agent on a bare folder. This test plays the host with plain `sqlite3` and the schema files;
it imports nothing of ours, so it fails when the contract is in any code rather than in the files.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pytest_docker.plugin import Services

from tests.conftest import ROOT, AgentImage

pytestmark = [pytest.mark.docker, pytest.mark.alone]  # one after the other: they are one conversation

UID = 10001
SECONDS = 30.0
SCHEMA_VERSIONS = {"inbound": 1, "outbound": 1}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A session folder and, beside it, a workspace, made as DESIGN section 3 says."""
    folder = tmp_path_factory.mktemp("two-files") / "session"
    workspace = folder.with_name("workspace")
    for each, mode in ((folder, 0o755), (folder / "inbox", 0o755), (folder / "out", 0o777), (workspace, 0o777)):
        each.mkdir()
        each.chmod(mode)
    make_database("inbound", folder / "inbound.db", 0o644)
    make_database("outbound", folder / "out" / "outbound.db", 0o666)
    yield folder
    shutil.rmtree(folder.parent)


def make_database(kind: str, path: Path, mode: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for script in sorted((ROOT / "shared_schema" / kind).glob("*.sql"))[: SCHEMA_VERSIONS[kind]]:
            connection.executescript(script.read_text())
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSIONS[kind]}")
    path.chmod(mode)


@pytest.fixture(scope="session")
def docker_compose_command(agent_image: AgentImage, folder: Path) -> str:
    """The plugin or the command of its own, with the values the file asks for."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    values = {"TEST_IMAGE": agent_image.name, "TEST_SESSION": folder, "TEST_WORKSPACE": folder.with_name("workspace")}
    settings = " ".join(f"{name}={value}" for name, value in values.items())
    return f"env {settings} {'docker compose' if plugin else 'docker-compose'}"


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(Path(__file__).with_name("docker-compose.yml"))


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return f"dumbwaiter-test-{os.getpid()}"


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up -d"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down -v -t 5"]


def insert_message(folder: Path, message_id: str, text: str) -> None:
    with closing(sqlite3.connect(folder / "inbound.db")) as connection, connection:
        connection.execute(
            "INSERT INTO messages_in (id, kind, timestamp, generation, trigger, channel_type, platform_id, content)"
            " VALUES (?, 'chat', '2026-02-28T12:00:00.000Z', 1, 1, 'cli', 'local', ?)",
            (message_id, json.dumps({"text": text})),
        )


def read(folder: Path, statement: str, *parameters: Any) -> list[Any]:
    path = folder / "out" / "outbound.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, parameters).fetchall()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, `SECONDS` at most; the pause belongs to the waiting, not to the test."""
    pause = threading.Event()
    for _ in range(int(SECONDS / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise TimeoutError(f"nothing after {SECONDS:g} seconds")


def ack(folder: Path, message_id: str) -> str | None:
    rows = read(folder, "SELECT status FROM processing_ack WHERE message_id = ?", message_id)
    return rows[0][0] if rows else None


def test_a_message_in_one_file_is_answered_in_the_other(docker_services: Services, folder: Path) -> None:
    insert_message(folder, "msg_0000000000000001", "is anybody there?")
    wait_until(lambda: ack(folder, "msg_0000000000000001") == "completed")

    [(content, generation, turn_id)] = read(
        folder,
        "SELECT content, generation, turn_id FROM messages_out WHERE in_reply_to = ?",
        "msg_0000000000000001",
    )
    assert "is anybody there?" in json.loads(content)["text"]
    assert generation == 1
    assert read(folder, "SELECT status FROM turns WHERE id = ?", turn_id) == [("completed",)]


def test_the_next_messages_are_answered_in_their_order(docker_services: Services, folder: Path) -> None:
    ids = [f"msg_00000000000001{number:02d}" for number in range(5)]
    for message_id in ids:
        insert_message(folder, message_id, f"this is {message_id}")
    wait_until(lambda: all(ack(folder, message_id) == "completed" for message_id in ids))
    answered = [row[0] for row in read(folder, "SELECT in_reply_to FROM messages_out ORDER BY seq")]
    assert [message_id for message_id in answered if message_id in ids] == ids


def test_the_agent_shows_that_it_lives_and_as_whom(docker_services: Services, folder: Path) -> None:
    wait_until((folder / "out" / ".heartbeat").exists)
    assert (folder / "out" / ".heartbeat").stat().st_uid == UID
    wait_until(lambda: read(folder, "SELECT state FROM agent_state") == [("idle",)])
    assert sorted(path.name for path in folder.iterdir()) == ["inbound.db", "inbox", "out"]
