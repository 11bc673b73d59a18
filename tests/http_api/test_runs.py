"""Work of agents over HTTP: started, followed, stopped, decided; and what happens in the host, numbered."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from functools import partial
from typing import Any

from tests.http_api.programs import Api, Program
from tests.support.host import AGENT
from tests.support.wait import until


async def over(program: Program, run: str) -> dict[str, Any]:
    """A run, once it is over."""

    async def shown() -> dict[str, Any] | None:
        found: dict[str, Any] = (await program.get(f"/api/runs/{run}"))[1]
        return found if found["finished_at"] else None

    found: dict[str, Any] = await until(shown, "the run is over", 60)
    return found


async def test_a_run_is_started_followed_and_shown(api: Api) -> None:
    async with api.program() as program:
        status, run, headers = await program.ask(
            "POST", "/api/runs", {"agent_group": AGENT, "text": "write 0.3 one two three\nattach a.txt 5\nuse 2"}
        )
        assert (status, headers["Location"]) == (202, f"/api/runs/{run['id']}")
        assert run["status"] in ("queued", "working")
        kinds: list[str] = []
        drafts: list[str] = []
        async for each in program.events("GET", f"/api/runs/{run['id']}/events"):
            kinds.append(each["event"])
            drafts += [json.loads(each["data"])["text"]] if each["event"] == "draft" else []
        assert kinds[-1] == "done"
        assert {"message", "draft", "working"} <= set(kinds)
        assert all("one two three".startswith(draft) for draft in drafts)
        shown = await over(program, run["id"])
        assert (shown["status"], shown["text"]) == ("completed", "one two three\n\nattached a.txt")
        assert shown["usage"]["output_tokens"] == 2
        (file,) = [(each["id"], file) for each in shown["messages"] for file in each["files"]]
        assert await program.get(f"/api/runs/{run['id']}/files/{file[0]}/{file[1]['number']}") == (200, "x" * 5)
        assert [each["id"] for each in (await program.get("/api/runs?limit=5"))[1]] == [run["id"]]
    async with api.program("other") as other:
        for path in (f"/api/runs/{run['id']}", f"/api/runs/{run['id']}/events", f"/api/runs/{run['id']}/files/x/0"):
            assert (await other.get(path))[0] == 404
        assert (await other.post(f"/api/runs/{run['id']}/stop"))[0] == 404
        assert (await other.get("/api/runs"))[1] == []
    async with api.program("reader", rights="read") as reader:
        assert (await reader.get(f"/api/runs/{run['id']}"))[1]["text"] == shown["text"]
        assert (await reader.post(f"/api/runs/{run['id']}/stop"))[0] == 403


async def test_a_run_that_is_started_twice_with_its_key_is_one(api: Api) -> None:
    async with api.program() as program:
        body = {"agent_group": AGENT, "text": "hello", "files": [_file("a.txt")]}
        first = await program.post("/api/runs", body, **{"Idempotency-Key": "k1"})
        await over(program, first[1]["id"])
        again = await program.post("/api/runs", body, **{"Idempotency-Key": "k1"})
        changed = await program.post("/api/runs", {**body, "text": "other"}, **{"Idempotency-Key": "k1"})

    assert first[1]["id"] == again[1]["id"]
    assert changed[0] == 409
    assert len(await api.host.central("SELECT 1 FROM ingest WHERE channel_type = 'api'")) == 1


def _file(name: str) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(b"content").decode()}


async def test_runs_of_one_session_are_one_conversation(api: Api) -> None:
    async with api.program() as program:
        for text in ("remember walrus", "recall"):
            _, run = await program.post("/api/runs", {"agent_group": AGENT, "text": text, "session": "mine"})
            shown = await over(program, run["id"])

    assert "walrus" in shown["text"]


async def test_a_run_is_stopped(api: Api) -> None:
    async with api.program() as program:
        _, run = await program.post("/api/runs", {"agent_group": AGENT, "text": "stall"})
        status, stopped = await program.post(f"/api/runs/{run['id']}/stop")

    assert (status, stopped["status"]) == (200, "cancelled")


async def test_what_a_run_waits_for_is_decided_by_who_may(api: Api) -> None:
    ask = 'call request_host {"host": "a.example", "reason": "to look"}'
    await api.host.do("role.grant", user="memory:ann", role="owner")
    async with api.program() as talker, api.program("boss", rights="admin") as boss:
        _, run = await talker.post("/api/runs", {"agent_group": AGENT, "text": ask})
        await over(talker, run["id"])
        (waiting,) = await until(partial(api.host.do, "approval.list"), "it waits for a decision", 60)
        found = (await boss.get(f"/api/runs/{run['id']}"))[1]
        decide = f"/api/runs/{run['id']}/approvals/{waiting['code']}"
        assert found["approvals"][0]["code"] == waiting["code"]
        assert (await talker.post(decide, {"answer": "approve"}))[0] == 403
        assert (await boss.post(f"/api/runs/{run['id']}/approvals/NOPE", {"answer": "approve"}))[0] == 404
        assert (await boss.post(decide, {"answer": "perhaps"}))[0] == 400
        status, decided = await boss.post(decide, {"answer": "approve"})
    assert (status, decided["state"]) == (200, "approved")
    assert "a.example" in (await api.host.do("agent_group.show", name=AGENT))["allow"]


async def test_what_is_no_run_is_refused(api: Api) -> None:
    async with api.program() as program:
        for body in (
            {}, {"agent_group": AGENT}, {"agent_group": AGENT, "text": ""}, {"agent_group": AGENT, "text": 7},
            {"agent_group": AGENT, "text": "x", "more": 1}, {"agent_group": AGENT, "text": "x", "files": "a"},
            {"agent_group": AGENT, "text": "x", "files": [{"name": "a", "data": "!"}]},
            {"agent_group": AGENT, "text": "x", "files": [{"name": "/etc/passwd", "path": "/etc/passwd"}]},
        ):  # fmt: skip
            assert (await program.post("/api/runs", body))[0] == 400, body
        many = {"agent_group": AGENT, "text": "x", "files": [_file("a")] * 21}
        assert (await program.post("/api/runs", many))[0] == 413
        assert (await program.post("/api/runs", {"agent_group": "nobody", "text": "x"}))[0] == 404


async def test_events_are_told_from_where_a_program_was(api: Api) -> None:
    async with api.program("reader", rights="read") as reader, api.program() as talker:
        await api.host.ask("hello")
        events = await api.host.do("events")
        async with aclosing(
            reader.events("GET", "/api/events", **{"Last-Event-ID": str(events[0]["number"])})
        ) as stream:
            async with asyncio.timeout(60):
                told = await anext(stream)
        assert int(told["id"]) == events[1]["number"]
        assert json.loads(told["data"])["kind"] == told["event"] == events[1]["kind"]
        assert (await reader.get("/api/events?after=x"))[0] == 400
        assert (await talker.get("/api/events"))[0] == 403


async def test_a_stream_ends_with_its_token(api: Api) -> None:
    async with api.program("revoked") as program:
        _, run, _ = await program.ask("POST", "/api/runs", {"agent_group": AGENT, "text": "think 300"})
        response = run["id"].replace("msg_", "resp_")
        paths = (f"/api/runs/{run['id']}/events", f"/v1/responses/{response}?stream=true")
        streams = [aclosing(program.events("GET", path)) for path in paths]
        async with streams[0] as followed, streams[1] as answer, asyncio.timeout(60):
            begun = [await anext(followed), await anext(answer)]
            assert [each["event"] for each in begun] == ["working", "response.created"]
            await api.host.do("token.revoke", name="revoked")
            told = [event for stream in (followed, answer) async for event in stream]
        assert not any("done" in event.get("event", "") for event in told), "the work goes on, and is not told"
