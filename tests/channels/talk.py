"""One conversation of 30 messages over a platform, with a real host process, through all that goes wrong meanwhile.

The script is the same for every platform: files both ways, a question with buttons (numbers where there are none), a
thread, an edit, `/new`; then a restart of the host, a kill of it while an answer grows, a kill of the agent, and an
outage of the platform. What people see at its end is exactly what they asked for: each answer once, in order.

A platform is a `Subject` of the contract suite, and does what its `abilities` say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_schema.layout import SessionLayout
from tests.channels.contract import Ability, Arrived, Subject
from tests.support.daemon import Daemon
from tests.support.host import AGENT, rows
from tests.support.wait import until

SECONDS = 120.0
"""For one answer: a container has to start, and a platform that was away is asked again with waits between."""
MESSAGES = 30
_FILE = "list.txt"
_GROWING = "this answer grows in front of you word by word until it is whole"

KillAgents = Callable[[Daemon], Awaitable[None]]


async def kill_processes(host: Daemon) -> None:
    """SIGKILL to the agents of the runtime `process`."""
    assert host.agents()
    host.kill_agents()


@dataclass
class Talk:
    """The talk so far. `expected` is what the bot must have said, in order, and in which thread.

    "…" at the end of a text leaves its end open. `command` gives a chat command the way a person does there.
    """

    subject: Subject
    host: Daemon
    kill_agents: KillAgents
    command: Callable[[str], Awaitable[object]]
    expected: list[tuple[str, str | None]] = field(default_factory=list)
    messages: int = 0
    _gates: int = 0

    # --- the script ---

    async def run(self) -> None:
        """All of it."""
        await self.begin()
        await self.says_and_hears()
        await self.sends_and_gets_files()
        await self.is_asked()
        await self.goes_into_a_thread()
        await self.changes_a_message_that_waits()
        await self.begins_anew()
        await self.lives_through_a_restart()
        await self.lives_through_a_kill_of_the_host()
        await self.lives_through_a_kill_of_the_agent()
        await self.lives_through_an_outage()
        await self.ends_in_a_burst(MESSAGES - self.messages)
        await self.ends()

    async def run_shortly(self) -> None:
        """Each thing once, and no restart beside the kill: for platforms that take a message in a second."""
        await self.begin()
        await self.sends_and_gets_files()
        await self.is_asked()
        await self.changes_a_message_that_waits()
        await self.begins_anew()
        await self.lives_through_a_kill_of_the_host()
        await self.goes_into_a_thread()
        await self.lives_through_a_kill_of_the_agent()
        await self.lives_through_an_outage()
        await self.ends()

    async def begin(self) -> None:
        """The host's first agent serves the chat, and everybody may speak there."""
        await asyncio.to_thread(self._set_up)
        await until(self._is_connected, "the channel is connected", SECONDS)

    async def ends(self) -> None:
        """Nothing is left open, and nothing came that was not asked for."""
        await asyncio.to_thread(self.host.settle)
        assert len(await self._heard()) == len(self.expected), "something was said twice, or that was not asked for"

    async def says_and_hears(self) -> None:
        await self.ask("reply 1 good morning", "good morning 1")
        await self.ask("reply 2 part", "part 1", "part 2")
        await self.ask(f"write 0.05 {_GROWING}", _GROWING)

    async def sends_and_gets_files(self) -> None:
        has_files = Ability.FILES in self.subject.abilities
        await self.say("reply 1 thank you", files=(("notes.txt", b"remember the milk"),) if has_files else ())
        await self.hear("thank you 1")
        if has_files:
            (found,) = (await self.session()).inbox.glob("*/notes.txt")
            assert found.read_bytes() == b"remember the milk"
        if self.subject.takes_files:
            await self.ask(f"attach {_FILE}", f"attached {_FILE}")
            await until(self._has_file, "the file is there", SECONDS)
        else:  # a sentence says that it cannot be sent
            await self.ask(f"attach {_FILE}", f"attached {_FILE}…")

    async def is_asked(self) -> None:
        """A click, or the number of the answer as a message; the question says afterwards that it is answered."""
        question = {"question": "Tea?", "options": ["Yes", "No"]}
        await self.ask(f"call ask_user_question {json.dumps(question)}", "Tea?…")
        shown = next(each for each in await self.subject.platform.arrived() if each.text.startswith("Tea?"))
        if Ability.CLICK in self.subject.abilities:
            await self.subject.platform.click(
                shown.id, next(each.value for each in shown.buttons if "Yes" in each.label)
            )
            self.messages += 1
        else:
            await self.say("1", thread=shown.thread)
        await self.hear("Answer: Yes (option 1)…")

    async def goes_into_a_thread(self) -> None:
        """The answer goes where its question was asked, whoever spoke last, and wherever (FAILURES 19)."""
        thread = await self.subject.platform.new_thread()
        await self.say("reply 1 in the thread", thread=thread)
        await self.hear("in the thread 1", thread=thread)
        await self.say("reply 1 outside")
        await self.say("reply 1 in it again", thread=thread)
        await self.hear("outside 1")
        await self.hear("in it again 1", thread=thread)

    async def changes_a_message_that_waits(self) -> None:
        gate = await self.hold()
        message_id = await self.say("reply 1 tpyo")
        changes = Ability.EDIT in self.subject.abilities
        if changes:
            await self.is_accepted("reply 1 tpyo")
            await self.subject.platform.edit(message_id, "reply 1 typo")
            await self.is_accepted("reply 1 typo")
        gate.touch()
        await self.hear("held…")
        await self.hear("typo 1" if changes else "tpyo 1")

    async def begins_anew(self) -> None:
        """The new conversation knows nothing of the old one."""
        await self.command("new")
        self.messages += 1
        await self.hear("A new conversation begins.…")
        await self.ask("recall", "0 steps:…")

    async def lives_through_a_restart(self) -> None:
        await self.say("reply 1 before the restart")
        await asyncio.to_thread(self.host.stop)
        for number in range(1, 3):
            await self.say(f"reply 1 while it was away {number}")
        await asyncio.to_thread(self.host.start)
        await self.hear("before the restart 1")
        for number in range(1, 3):
            await self.hear(f"while it was away {number} 1")

    async def lives_through_a_kill_of_the_host(self) -> None:
        """In the middle of an answer that grows, where the platform shows that; the agent goes on."""
        await self.say(f"write 0.3 {_GROWING}")
        await self.is_at_work(f"write 0.3 {_GROWING}")
        if self.subject.grows:
            await until(lambda: self.host.rows("SELECT 1 FROM drafts"), "the answer grows", SECONDS)
        await asyncio.to_thread(self.host.kill)
        await self.say("reply 1 to nobody")
        await asyncio.to_thread(self.host.start)
        await self.hear(_GROWING)
        await self.hear("to nobody 1")

    async def lives_through_a_kill_of_the_agent(self) -> None:
        gate = await self.hold()
        await self.say("reply 1 behind it")
        await self.is_accepted("reply 1 behind it")
        await self.kill_agents(self.host)
        gate.touch()
        await self.hear("held…")
        await self.hear("behind it 1")

    async def lives_through_an_outage(self) -> None:
        """The answer is there when the platform is not; people write meanwhile, where they can."""
        gate = await self.hold()
        await self.subject.platform.stop()
        await self.say("reply 1 into the silence")
        gate.touch()
        await until(self._cannot_say_it, "the answer waits for the platform", SECONDS)
        await self.subject.platform.start()
        await self.hear("held…")
        await self.hear("into the silence 1")

    async def ends_in_a_burst(self, count: int) -> None:
        assert count >= 3
        for number in range(count):
            await self.say(f"reply 1 burst {number}")
        for number in range(count):
            await self.hear(f"burst {number} 1")

    # --- what it is made of ---

    async def ask(self, text: str, *answers: str) -> None:
        """Say something, and hear all of its answer."""
        await self.say(text)
        for answer in answers:
            await self.hear(answer)

    async def say(self, text: str, **more: Any) -> str:
        """Say something; the platform's id of it."""
        self.messages += 1
        return await self.subject.platform.write(text, **more)

    async def hear(self, text: str, *, thread: str | None = None) -> None:
        """Wait until this, and all before it, is there, each once and in order."""
        self.expected.append((text, thread))
        found: list[Arrived] = []

        async def is_there() -> bool:
            found[:] = await self._heard()
            return len(found) >= len(self.expected) and all(map(_fits, found, self.expected))

        try:
            await until(is_there, f"the bot says: {text}", SECONDS)
        except AssertionError:
            seen = [f"{each.text} in {each.thread}" for each in found]
            wanted = [f"{each} in {thread}" for each, thread in self.expected]
            raise AssertionError("\n  ".join(["it said", *seen, "and it was to say", *wanted])) from None

    async def hold(self) -> Path:
        """Have the agent work until the file is there."""
        self._gates += 1
        name = f"gate-{self._gates}"
        text = f"call bash {json.dumps({'command': f'until [ -e {name} ]; do sleep 0.05; done; echo held'})}"
        await self.say(text)
        await self.is_at_work(name)
        return self.host.data / "agents" / AGENT / name

    async def is_accepted(self, words: str) -> str:
        """Wait until the host has accepted what was said with these words; its message id."""
        found = await until(lambda: self.host.rows(_SAYS, words), f"it is accepted: {words}", SECONDS)
        return str(found[-1]["message_id"])

    async def is_at_work(self, words: str) -> None:
        """Wait until a turn runs over that."""
        message_id = await self.is_accepted(words)
        running = "SELECT 1 FROM processing_ack WHERE message_id = ? AND status = 'processing'"

        async def works() -> bool:
            return bool(rows((await self.session()).outbound, running, message_id))

        await until(works, f"the agent is at work on it: {words}", SECONDS)

    async def session(self) -> SessionLayout:
        """The folder of the conversation."""
        (row,) = self.host.rows("SELECT id, agent_group_id FROM sessions WHERE status = 'active'")
        return SessionLayout(self.host.data / "sessions" / row["agent_group_id"] / row["id"])

    async def _heard(self) -> list[Arrived]:
        """What the bot has said. On some platforms a file is a message of its own, which says nothing."""
        return [each for each in await self.subject.platform.arrived() if each.text not in ("", _FILE)]

    async def _has_file(self) -> bool:
        return (_FILE, b"x" * 16) in [file for each in await self.subject.platform.arrived() for file in each.files]

    def _set_up(self) -> None:
        chat = f"{self.subject.name}:{self.subject.platform.chat}"
        self.host.call("agent_group.set", name=AGENT, provider="scripted")
        self.host.call("messaging_group.add", address=chat, is_group=True, unknown_sender="public")
        self.host.call("wiring.add", messaging_group=chat, agent_group=AGENT, progress="draft")

    def _state(self) -> dict[str, Any]:
        (state,) = self.host.call("channel.list")
        found: dict[str, Any] = state
        return found

    async def _is_connected(self) -> bool:
        return bool((await asyncio.to_thread(self._state))["state"] == "connected")

    async def _cannot_say_it(self) -> bool:
        waiting = self.host.rows("SELECT attempts FROM deliveries WHERE status IN ('pending', 'sending')")
        return bool(waiting) and (waiting[0]["attempts"] > 0 or not await self._is_connected())


_SAYS = "SELECT message_id FROM ingest WHERE instr(content, ?) ORDER BY position"


def _fits(found: Arrived, expected: tuple[str, str | None]) -> bool:
    """A text that ends in "…" is the beginning of what was said."""
    text, thread = expected
    begins = found.text.startswith(text[:-1]) if text.endswith("…") else found.text == text
    return begins and thread in (None, found.thread)


@asynccontextmanager
async def talking(
    subject: Subject,
    data: Path,
    *,
    kill_agents: KillAgents = kill_processes,
    command: Callable[[str], Awaitable[object]] | None = None,
    **settings: str,
) -> AsyncIterator[Talk]:
    """The platform, and a real host with its channel, until the block ends."""
    platform = subject.platform
    assert subject.kind is not None
    await platform.start()
    channel = {subject.name: {"type": subject.kind.name, **platform.settings()}}
    host = Daemon(data, CHANNELS=json.dumps(channel), **settings)
    try:
        await asyncio.to_thread(host.start)
        yield Talk(subject, host, kill_agents, command or (lambda word: platform.write(f"/{word}")))
    finally:
        await asyncio.to_thread(host.close)
        await platform.stop()
