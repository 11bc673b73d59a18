"""A host as it looks after some weeks of use: what the pictures of the page show (`pictures.py`)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from host.central.audit import Actor, acting
from host.central.database import Transaction
from host.channels.memory import MemoryChannel
from host.log import RECENT
from host.routing.event import Event
from shared_schema.clock import to_text
from shared_schema.ids import Prefix, new_id
from shared_schema.rows import Address
from tests.platforms.model_answer import Answer, Fault, ToolUse
from tests.platforms.model_server import ModelServer, model_server
from tests.support.host import AGENT
from tests.support.wait import until
from tests.web.browser import Client, Site, open_site

OFFICE = "telegram:-100441"
BOARD = "telegram:-100442"
MODEL = "anthropic:claude-sonnet-5-5"
_PATIENT = 120.0
_INSTRUCTIONS = """\
# The harbour office

You help three people run a small harbour: berths, invoices, and letters to guests.

- Answer in the language you are asked in, and briefly.
- Look into `berths.csv` before you say that a berth is free.
- Never promise a berth that is not paid for.
"""
_BERTHS = "berth,boat,guest,until\nA1,Kingfisher,Lund,2026-12-14\nA2,,,\nB1,Slow Tuesday,Okafor,2026-12-03\n"
_ANSWER = """\
Two of the twelve guest berths are free tonight:

| berth | length | power | until |
|---|---|---|---|
| **A2** | 10 m | 16 A | Friday |
| **C4** | 14 m | 32 A | open |

*Slow Tuesday* leaves **B1** on Thursday. To see this yourself:

```sh
awk -F, '$2 == "" { print $1 }' berths.csv
```

Shall I keep A2 for the *Kingfisher*?
"""
_LETTER = """\
> Dear Ms Lund, your berth **A1** is yours until the 14th. The harbour's power was off for two hours on Sunday; we have
> taken four euros off the bill.

I have put it into `letters/lund.md`, and nothing is sent before you say so.
"""
_EARLIER = (
    ("Tides this week", "When is high water on Thursday?", "At 05:42 and 18:07, both by the harbour's gauge.", 2),
    ("Sunday's power cut", "Write a note for the board.", "Done: one page, with the times from the log.", 4),
    ("Names for a boat", "Three names for a wooden boat?", "*Kingfisher*, *Slow Tuesday*, or *Dumbwaiter*.", 6),
    ("Invoices of November", "Which are still open?", "Two: Lund (84 €) and Okafor (112 €).", 9),
    ("Fenders and ropes", "What do we need for the new pontoon?", "Eight fenders, 60 m of 14 mm rope.", 13),
    ("The insurance asks about the crane on the south quay and what it was last inspected for", "When was it?",
     "On 3 March, by the surveyor; the report is in `papers/crane-2026.pdf`.", 17),
    ("Übersetzung der Hafenordnung", "Übersetze § 4.", "§ 4: *Boats give way to the ferry at all times.*", 22),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """The host, and the two conversations that are shown."""

    site: Site
    chat: str
    """The session of a conversation in the browser."""
    asked: str
    """A session with a question that waits, and steps."""


@asynccontextmanager
async def sample(data: Path) -> AsyncIterator[Sample]:
    """Such a host, until the block ends."""
    root = logging.getLogger()
    root.addHandler(RECENT)
    level = root.level
    root.setLevel(logging.INFO)
    telegram = MemoryChannel(name="telegram", type="telegram")
    try:
        async with model_server(key="sk-sample") as server:
            upstreams = {"anthropic": {"url": server.url, "key": "sk-sample"}}
            settings = {"upstreams": upstreams, "timezone": "Europe/Berlin"}
            async with open_site(data, channel=telegram, chat=OFFICE, **settings) as site:
                with acting(Actor("cli:terminal", "cli")):
                    await _registry(site)
                    await _files(site)
                await _earlier(site, data)
                await _used(site)
                async with site.client() as client:
                    chat = await _conversation(site, client, server)
                    await _in_groups(site, telegram, server)
                    await _schedules(site, server)
                    asked = await _waiting(site, client, server)
                    await site.host.do("web.link", user="web:ann")
                    yield Sample(site, chat, asked)
    finally:
        root.setLevel(level)
        root.removeHandler(RECENT)


async def _registry(site: Site) -> None:
    do = site.host.do
    await do("messaging_group.set", address=OFFICE, name="Harbour office")
    await do("wiring.add", messaging_group=OFFICE, agent_group=AGENT, engage="mention", session_mode="per-thread")
    await do("agent_group.set", name=AGENT, provider="model", model=MODEL, budget_usd=5, budget_period="day",
             fallbacks=["openai:gpt-5-mini"], ask_before=["bash:git push *"], allow=["tides.example.org"])  # fmt: skip
    await do("agent_group.add", name="release-notes", provider="model", model="openai:gpt-5-mini")
    await do("agent_group.set", name="release-notes", budget_usd=20, budget_period="month")
    await do("agent_group.add", name="researcher", provider="model", model="google:gemini-3-pro")
    await do("messaging_group.add", address=BOARD, is_group=True, unknown_sender="public",
             name="Board of the sailing club, with everybody who has a berth")  # fmt: skip
    await do("wiring.add", messaging_group=BOARD, agent_group=AGENT, engage="mention", session_mode="per-thread")
    await do("messaging_group.add", address="telegram:7", name="Ann Lund", unknown_sender="public")
    await do("wiring.add", messaging_group="telegram:7", agent_group="researcher")
    for user, name, role in (("web:ann", "Ann Lund", "admin"), ("telegram:7", "Ann Lund", "member"),
                             ("telegram:8812", "Chidi Okafor", "member"), ("web:mira", "Mira", "member")):  # fmt: skip
        await do("user.add", user=user, name=name)
        await do("role.grant", user=user, role=role, agent_group=AGENT)
    await do("token.add", name="board", agent_group=AGENT)


async def _files(site: Site) -> None:
    for path, text in (
        ("AGENT.md", _INSTRUCTIONS),
        ("HEARTBEAT.md", "- Look for mail from the insurance.\n- Is a berth free that somebody waits for?\n"),
        ("memory/guests.md", "- Ms Lund pays by transfer, always on the 3rd.\n- Okafor has a dog.\n"),
        ("skills/weekly-report/SKILL.md",
         "---\nname: weekly-report\ndescription: The report of a week for the board.\n---\n\n1. Read `berths.csv`.\n"),
    ):  # fmt: skip
        await site.host.do("agent_file.set", agent_group=AGENT, path=path, text=text)
    (site.host.services.settings.layout.workspace(AGENT) / "berths.csv").write_text(_BERTHS, encoding="utf-8")


async def _earlier(site: Site, data: Path) -> None:
    """Conversations of the last weeks, imported."""
    now = datetime.now(UTC)
    told = [
        {
            "uuid": f"sample-{number}",
            "name": title,
            "created_at": (now - timedelta(days=days, minutes=7)).isoformat(),
            "updated_at": (now - timedelta(days=days)).isoformat(),
            "chat_messages": [
                {"sender": sender, "text": text, "created_at": (now - timedelta(days=days, minutes=late)).isoformat()}
                for sender, text, late in (("human", asked, 7), ("assistant", answer, 6))
            ],
        }
        for number, (title, asked, answer, days) in enumerate(_EARLIER)
    ]
    file = data.parent / "conversations.json"
    await asyncio.to_thread(file.write_text, json.dumps(told), encoding="utf-8")
    await site.host.do("session.import", path=str(file), agent_group=AGENT)


async def _used(site: Site) -> None:
    """What the last 30 days have used, as the ledger would have it."""
    groups = {each["name"]: each["id"] for each in await site.host.central("SELECT id, name FROM agent_groups")}
    chance = random.Random(7)
    now = datetime.now(UTC)

    def store(tx: Transaction) -> None:
        for days in range(1, 30):
            at = now - timedelta(days=days)
            if at.weekday() == 6:
                continue
            for name, most in ((AGENT, 160_000), ("researcher", 60_000)):
                tokens = chance.randrange(most // 5, most)
                values = (new_id(Prefix.TURN), new_id(Prefix.SESSION), groups[name], name, "model", MODEL, to_text(at),
                          tokens, tokens // 9, tokens * 4e-6)  # fmt: skip
                tx.execute(
                    "INSERT INTO usage (turn_id, session_id, agent_group_id, agent_group, provider, model, finished_at,"
                    " input_tokens, output_tokens, cost_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    values,
                )

    await site.host.services.central.write(store)


async def _send(client: Client, text: str, *, thread: str, number: int) -> str:
    given = {"agent": AGENT, "thread": thread, "text": text, "message_id": f"{thread}-{number}"}
    status, body, _ = await client.post("/chat/send", given)
    assert status == 200, body
    return str(json.loads(body)["session_id"])


async def _settled(site: Site) -> None:
    async def is_answered() -> Any:
        (row,) = await site.host.central("SELECT count(*) AS n FROM ingest WHERE status = 'pending'")
        return bool(row["n"] == 0)

    await until(is_answered, "all is answered", _PATIENT)


async def _conversation(site: Site, client: Client, server: ModelServer) -> str:
    look = ToolUse("bash", {"command": "cat berths.csv"})
    server.next(Answer(reasoning="The file says which berths are taken.", calls=(look,)), Answer(text=_ANSWER))
    session = await _send(client, "Which guest berths are free tonight?", thread="berths", number=1)
    await _settled(site)
    write = ToolUse("write_file", {"path": "letters/lund.md", "content": "Dear Ms Lund, …"})
    server.next(Answer(calls=(write,)), Answer(text=_LETTER))
    await _send(client, "Yes. And write to Ms Lund that she can stay,\nand why the bill is lower.", thread="berths",
                number=2)  # fmt: skip
    await _settled(site)
    await site.host.do("session.title", session=session, title="Free berths, and a letter")
    return session


async def _waiting(site: Site, client: Client, server: ModelServer) -> str:
    """A question and a call that wait for a person, each in a turn that runs on."""
    ask = {"question": "Which colour shall the new pontoon get?", "options": ["Signal red", "Harbour blue"],
           "seconds": 3600}  # fmt: skip
    server.next(Answer(text="I have asked both shops. ", calls=(ToolUse("ask_user_question", ask),)))
    session = await _send(client, "Order the paint for the pontoon.", thread="paint", number=1)
    await until(lambda: site.host.do("question.list"), "it asks", _PATIENT)
    await site.host.do("session.title", session=session, title="Paint for the pontoon")
    known = len(await site.host.do("approval.list"))
    server.next(Answer(calls=(ToolUse("bash", {"command": "git push origin berths-2026"}),)))
    await _send(client, "Publish the list of berths.", thread="publish", number=1)

    async def is_asked() -> Any:
        return len(await site.host.do("approval.list")) > known

    await until(is_asked, "it asks for leave", _PATIENT)
    return session


async def _in_groups(site: Site, telegram: MemoryChannel, server: ModelServer) -> None:
    """What is said on a platform: an answer, one that fails, and a stranger who knocks."""

    async def say(chat: str, text: str, sender: str, name: str, *, group: bool = True) -> None:
        event = Event(Address("telegram", chat), new_id(Prefix.MESSAGE), text, sender_id=sender, sender_name=name,
                      is_mention=True, is_group=group)  # fmt: skip
        await telegram.receive(event)

    await _settled(site)
    server.next(Answer(text="The crane is booked on Tuesday from 9 to 11."))
    await say("-100441", "@assistant when is the crane free?", "8812", "Chidi Okafor")
    await _settled(site)
    server.next(*[Answer(fault=Fault.NO_CREDIT)] * 6)
    await say("-100442", "@assistant who has berth B1?", "7", "Ann Lund")
    await _settled(site)
    server.forget()
    await say("9190", "Hello, I am in the harbour tomorrow. May I write to you?", "9190", "Jo (SY Petrel)", group=False)
    await until(lambda: site.host.do("approval.list"), "a stranger knocks", _PATIENT)


async def _schedules(site: Site, server: ModelServer) -> None:
    for name, when, prompt in (
        ("tides", "every day at 6:15", "Say when high water is, and who leaves today."),
        ("weekly-report", "every monday at 8:00", "Write the report of the week for the board."),
        ("invoices", "0 9 1 * *", "List the invoices that are still open."),
        ("gauge", "every 10m", "Read the gauge, and say so only above 2.40 m."),
    ):
        await site.host.do("schedule.add", agent_group=AGENT, when=when, prompt=prompt, name=name, to="nowhere")
    server.next(Answer(text="High water is at 05:42 and 18:07. *Slow Tuesday* leaves."))
    await site.host.do("schedule.run", name="tides")
    await _settled(site)
    await site.host.do("schedule.pause", name="invoices")
