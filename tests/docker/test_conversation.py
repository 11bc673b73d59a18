"""A conversation of more than thirty turns with each provider, in a container, through the gateway.

In one session and in one go: starting an agent takes seconds. At its end nothing is open, nothing came twice, the three
counts of what was used agree, and the key was nowhere.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from host.runtime.docker import DockerRuntime
from host.sessions.attachments import Attachment
from tests.conftest import AgentImage
from tests.docker.talk import CLAUDE, COMPLETIONS, MESSAGES, Talk, Tongue, docker, then
from tests.gateway import inside
from tests.gateway.world import CANARY
from tests.platforms.model_answer import Answer, Ending, Used
from tests.platforms.model_server import Request, model_server
from tests.support.host import AGENT, rows, running
from tests.support.wait import ENDS_WITHIN, until

pytestmark = pytest.mark.docker

LONG = Answer(text="word" * 400, pieces=400, delay=0.05)
"""Twenty seconds of talk, of which each piece is a token."""
REFUSAL = Answer(text="no", ending=Ending.REFUSED)
DOT = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC")


@pytest.mark.parametrize(
    "tongue",
    [MESSAGES, *(pytest.param(tongue, marks=pytest.mark.full) for tongue in (COMPLETIONS, CLAUDE))],
    ids=lambda tongue: tongue.name,
)
async def test_a_conversation_of_thirty_turns(
    tmp_path: Path,
    agent_image: AgentImage,
    tongue: Tongue,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    request.getfixturevalue(f"{tongue.provider}_image")
    caplog.set_level(logging.INFO)
    async with model_server(key=CANARY) as server:
        upstreams = {
            "anthropic": {"url": server.url, "key": CANARY},
            "openai": {"url": f"{server.url}/v1", "key": CANARY},
        }
        data = tmp_path / "data"
        async with running(
            data, make_runtime=DockerRuntime, image=agent_image.name, provider=tongue.provider, upstreams=upstreams
        ) as host:
            await host.do("agent_group.set", name=AGENT, model=tongue.model)
            await host.do("messaging_group.add", address="memory:two", is_group=True, unknown_sender="public")
            await host.do("destination.add", agent_group=AGENT, name="kitchen", messaging_group="memory:two")
            talk = Talk(host, server, tongue)

            await says_what_it_is_told(talk)
            await works_on_files(talk)
            await takes_and_sends_files(talk, tmp_path)
            await uses_what_the_host_offers(talk)
            await asks_questions(talk)
            await hears_what_is_said_meanwhile(talk)
            stopped = await is_stopped(talk)
            lost = await is_killed(talk)
            await fails(talk)
            await is_taken_back(talk)
            await finds_no_key_and_no_way_out(talk)

            await everything_came_once_and_in_order(talk)
            await until(lambda: len(gateway_counts(caplog)) == len(answered(talk)), "every call is counted")
            await what_was_used_agrees(talk, gateway_counts(caplog), stopped, lost)
        the_key_is_nowhere(data, caplog)


async def says_what_it_is_told(talk: Talk) -> None:
    assert await talk.ask("say good morning") == "good morning"
    assert await talk.ask("stream 8 0.01 one two three four five six") == "one two three four five six"
    assert await talk.ask("think let me see\nsay four") == "four"
    (step,) = await talk.out("SELECT reasoning FROM steps WHERE content = 'four'")
    assert step["reasoning"] == "let me see"
    assert (await talk.ask("and without being told")).endswith("and without being told")


async def works_on_files(talk: Talk) -> None:
    tongue = talk.tongue
    write = tongue.write("note.txt", "remember the milk\n")
    assert await talk.ask(then(write, "say noted")) == "noted"
    assert "remember the milk" in await talk.ask(tongue.read("note.txt"))
    edit = tongue.edit("note.txt", "milk", "tea")
    assert await talk.ask(then(edit, tongue.run("cat note.txt"))) == "The tool said: remember the tea"
    assert "note.txt" in await talk.ask(tongue.files)
    both = f"{tongue.run('echo one')}\n{tongue.run('pwd')}"
    assert await talk.ask(then(both, "say both")) == "both"
    results = await talk.out("SELECT content FROM steps WHERE role = 'tool' ORDER BY seq DESC LIMIT 2")
    assert {step["content"].strip() for step in results} == {"one", "/workspace"}
    missing = await talk.ask(tongue.read("gone.txt"))
    assert "no file" in missing or "does not exist" in missing


async def takes_and_sends_files(talk: Talk, folder: Path) -> None:
    listed, dot = folder / "list.txt", folder / "dot.png"
    listed.write_text("salt, pepper")
    dot.write_bytes(DOT)
    read = talk.tongue.run("cat /session/inbox/*/list.txt")
    assert await talk.ask(read, files=[Attachment("list.txt", listed)]) == "The tool said: salt, pepper"
    assert await talk.ask("say nice", files=[Attachment("dot.png", dot)]) == "nice"
    assert base64.b64encode(DOT).decode() in talk.told
    await talk.say(then(talk.tongue.call("send_file", path="note.txt", text="here"), "say there it is"))
    assert [await talk.hear(), await talk.hear()] == ["here", "there it is"]
    (file,) = talk.host.channel.sent[-2].files
    assert (file.name, file.read_text()) == ("note.txt", "remember the tea\n")


async def uses_what_the_host_offers(talk: Talk) -> None:
    call = talk.tongue.call
    assert "kitchen (memory)" in await talk.ask(call("list_destinations"))
    await talk.say(then(call("send_message", text="tea, please", destination="kitchen"), "say ordered"))
    assert sorted([await talk.hear(), await talk.hear()]) == ["ordered", "tea, please"]
    assert [m.text for m in talk.host.channel.sent if m.address.platform_id == "two"] == ["tea, please"]
    await talk.host.settled()
    assert "remember the milk" in await talk.ask(call("search_messages", query="milk"))
    assert "good morning" in await talk.ask(call("read_history", limit=100))


async def asks_questions(talk: Talk) -> None:
    ask = talk.tongue.call("ask_user_question", question="Tea?", options=["Yes", "No"])
    for answer, meant in (("2", "Answer: No (option 2)"), ("yes", "Answer: Yes (option 1)")):
        await talk.say(ask)
        assert await talk.hear() == "Tea?\n1. Yes\n2. No"
        assert await talk.ask(answer) == f"The tool said: {meant}"
    await talk.say(talk.tongue.call("ask_user_question", question="Which?"))
    assert await talk.hear() == "Which?"
    assert (await talk.ask("the green one")).endswith("the green one")


async def hears_what_is_said_meanwhile(talk: Talk) -> None:
    """What is said while a tool runs is heard in the same turn."""
    turns = len(await talk.out("SELECT 1 FROM turns"))
    await talk.say(then(talk.tongue.run("until [ -e go ]; do sleep 0.02; done"), "say never"))
    await talk.uses_tool()
    said = await talk.say("say I have heard you")
    inbound = (await talk.host.session()).inbound
    await until(lambda: rows(inbound, "SELECT 1 FROM messages_in WHERE id = ?", said), "it has come in")
    (workspace(talk) / "go").touch()
    assert await talk.hear() == "I have heard you"
    assert len(await talk.out("SELECT 1 FROM turns")) == turns + 1


async def is_stopped(talk: Talk) -> Request:
    """What was said until then is kept, and the next turn knows of it. The request that was broken off."""
    talk.server.next(LONG)
    await talk.say("tell me a long story", outcome="cancelled")
    request = await talk.answering(LONG)
    began = time.monotonic()
    await talk.say("/stop")
    (turn,) = await until(lambda: talk.out("SELECT * FROM turns WHERE status = 'cancelled'"), "the turn is over")
    assert time.monotonic() - began < ENDS_WITHIN
    assert turn["failure_reason"] == "stopped"
    await until(request.ended.is_set, "the service is left alone")
    assert (await talk.hear()).startswith("Stopped")
    steps = await talk.out("SELECT role, content FROM steps WHERE turn_id = ? ORDER BY seq", turn["id"])
    assert [step["role"] for step in steps] == ["user", "assistant"]
    assert steps[1]["content"].startswith("wordword")
    assert await talk.ask("say where were we") == "where were we"
    assert "wordword" in talk.told
    return request


async def is_killed(talk: Talk) -> list[Request]:
    """A message whose agent is killed in its second answer is answered by the next one, once.

    The requests of the first one's turn.
    """
    asked, before = len(talk.server.requests), await talk.container()
    await talk.say(then(talk.tongue.run("until [ -e back ]; do sleep 0.02; done"), "say I am back"))
    await talk.uses_tool()
    talk.server.next(LONG)
    (workspace(talk) / "back").touch()
    await talk.answering(LONG)
    await docker("kill", before)
    lost = talk.server.requests[asked:]
    assert await talk.hear() == "I am back"
    assert await talk.container() != before
    assert await talk.host.central("SELECT tries FROM ingest WHERE tries > 0") == [{"tries": 1}]
    return lost


async def fails(talk: Talk) -> None:
    for told, words, sentence in (
        ([], "rate-limit 3600", "takes no more requests"),
        ([], "error 500", "had an error of its own (status 500)"),
        (talk.tongue.refusals * [REFUSAL], "something bad", "refused to answer this"),
    ):
        talk.server.next(*told)
        answer = await talk.ask(words, outcome="failed")
        assert answer.startswith("This message could not be answered: ")
        assert sentence in answer
    assert await talk.ask("say I am still here") == "I am still here"


async def is_taken_back(talk: Talk) -> None:
    assert await talk.ask("say an elephant") == "an elephant"
    assert await talk.ask("/undo") == "Taken back: “say an elephant”."
    assert await talk.ask("say which animal") == "which animal"
    assert "elephant" not in talk.told
    assert "I am still here" in talk.told


async def finds_no_key_and_no_way_out(talk: Talk) -> None:
    """From the inside, by a tool of the agent's, while provider and gateway are at work."""
    container = json.loads(await docker("inspect", await talk.container()))[0]
    assert container["HostConfig"]["NetworkMode"] == "none"
    program = workspace(talk) / "inside.py"
    program.write_bytes(Path(inside.__file__).read_bytes())
    program.chmod(0o644)
    said = await talk.ask(talk.tongue.run(f"python3 inside.py {CANARY[:9]} {CANARY[9:]}"))
    seen = json.loads(said.removeprefix("The tool said: "))
    assert seen["files"] > 100
    assert seen["key"] == []
    assert seen["sockets"] == ["/session/gateway.sock"]
    assert (seen["interfaces"], seen["reached"]) == (["lo"], [])
    assert seen["not listed"] == 403
    shown = await talk.host.do("session.show", session=(await talk.host.do("session.list"))[0]["id"])
    assert [row["what"] for row in shown["refusals"]] == ["http://example.com:80"]


async def everything_came_once_and_in_order(talk: Talk) -> None:
    await talk.host.settled()
    assert talk.host.texts() == talk.heard
    accepted = await talk.host.central("SELECT message_id, status FROM ingest")
    assert {row["message_id"]: row["status"] for row in accepted} == talk.outcomes
    # A question is edited to say that it was answered, or has expired: that is no answer.
    sent = await talk.host.central(
        "SELECT status, attempts FROM deliveries WHERE kind <> 'system' AND message_out_id NOT LIKE '%/%'"
    )
    assert {(row["status"], row["attempts"]) for row in sent} == {("delivered", 1)}
    assert len(sent) == len(talk.heard)
    turns = await talk.host.central("SELECT status, failure_reason FROM turns")
    assert Counter((row["status"], row["failure_reason"]) for row in turns) == {
        ("completed", None): 27,
        ("cancelled", "stopped"): 1,
        ("failed", "agent_died"): 1,
        ("failed", "rate_limited"): 1,
        ("failed", "provider_error"): 1,
        ("failed", "refused"): 1,
    }


async def what_was_used_agrees(talk: Talk, by_gateway: list[int], stopped: Request, lost: list[Request]) -> None:
    """What the service, the gateway and the turns counted is the same, for all answers that came to their end.

    Two were broken off. The gateway takes what the service said of them at the beginning, and estimates the rest: all
    of it where the service says nothing until the end. The turn that was stopped takes no more than was said; what the
    answer used that was lost with its agent nobody could write down, with `claude` nor what its turn used before.
    """
    calls, tongue = answered(talk), talk.tongue
    assert [call for call in calls if not call.is_whole] == [stopped, lost[-1]]
    for call, tokens in zip(calls, by_gateway, strict=True):
        counted = sum(astuple(call.used)[:4])
        if not call.is_whole:
            counted = pytest.approx(counted, abs=10) if tongue.tells_at_once else pytest.approx(counted, rel=0.1)
        assert tokens == counted

    kept = [call.used for call in calls if call.is_whole and (tongue.notes_each_call or call not in lost)]
    begun = replace(stopped.used, output=0) if tongue.tells_at_once else Used()
    counted = total([*kept, begun])
    turns = await sums(talk, "turns")
    beginning = turns.output - counted.output
    assert turns == replace(counted, output=turns.output)
    assert 0 <= beginning <= stopped.sent_pieces + 4  # some say a token for each event

    assert await sums(talk, "usage") == turns
    assert sum(row["tokens"] for row in await days(talk)) == sum(astuple(turns)[:4])
    assert sum(row["called_tokens"] for row in await days(talk)) == sum(by_gateway)


async def sums(talk: Talk, table: str) -> Used:
    """All that a table of central.db says was used."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    (row,) = await talk.host.central(f"SELECT {', '.join(f'sum({name})' for name in names)} FROM {table}")
    return Used(*row.values())


async def days(talk: Talk) -> list[dict[str, int]]:
    """What counts for budgets."""
    return await talk.host.central("SELECT tokens, called_tokens FROM usage_by_day")


def the_key_is_nowhere(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in what the host keeps, logs and databases among it, nor in what it logged."""
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {"outbound.db", "inbound.db", "central.db", "history.db", "agent.log"} <= {path.name for path in files}
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in caplog.text


def answered(talk: Talk) -> list[Request]:
    """The calls that were answered, whole or not, in order; the others use nothing."""
    return [request for request in talk.server.requests if request.answer.fault is None]


def gateway_counts(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The tokens of each model call as the gateway counted them."""
    return [record.tokens for record in caplog.records if record.getMessage() == "a model call"]  # type: ignore[attr-defined]


def total(used: Iterable[Used]) -> Used:
    """All together."""
    return Used(*(sum(numbers) for numbers in zip(*map(astuple, used), strict=True)))


def workspace(talk: Talk) -> Path:
    """The agent group's folder, on the host."""
    (folder,) = talk.host.services.settings.layout.agents.iterdir()
    return folder
