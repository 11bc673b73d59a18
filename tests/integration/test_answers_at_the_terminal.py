"""What `dumbwaiter chat -m` prints and how it exits: answers in parts, answers that could not be sent, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A host that takes short messages and small files only, with an agent of the provider `scripted`."""
    running = Daemon(tmp_path / "data", MAX_TEXT="400", MAX_FILE_BYTES="1000")
    running.start()
    try:
        running.call("agent_group.set", name="assistant", provider="scripted")
        yield running
    finally:
        running.close()


def test_what_a_person_gets_and_the_exit_status(daemon: Daemon) -> None:
    """In one go, because a host takes seconds to start."""
    # What is said fits, and with what the agent puts before it the answer does not.
    long = daemon.run("chat", "-m", ("long answer. " * 31)[:398], "--json")
    assert long.returncode == 0, long.stderr
    said = [reply["text"] for reply in json.loads(long.stdout)["replies"]]
    assert len(said) == 2
    assert " ".join(said).count("long answer.") == 30

    unsent = daemon.run("chat", "-m", "attach note.txt 3000")
    assert unsent.returncode == 1
    assert "an answer could not be sent" in unsent.stderr

    failed = daemon.run("chat", "-m", "fail no luck today")
    assert failed.returncode == 1
    assert "no luck today" in failed.stderr
    assert "session logs" not in failed.stderr  # which says no more

    broken = daemon.run("chat", "-m", "raise oh")
    assert broken.returncode == 1
    assert "session logs" in broken.stderr

    (session,) = daemon.call("session.list", kind="chat")
    daemon.call("session.archive", session=session["id"])
    archived = daemon.run("chat", "-m", "anybody?")
    opens = f"`dumbwaiter session resume {session['id']}` opens it again"
    assert (archived.returncode, archived.stderr.partition(", `")[0]) == (
        1,
        f"Error: the conversation is archived: {opens}",
    )
