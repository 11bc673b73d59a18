"""What every channel must do, whatever its platform: one set of tests, run over each platform's fake or real server.

A channel's test module plugs its platform in like this:

    class TestTelegram(ChannelContract):
        @pytest.fixture
        def subject(self, tmp_path: Path) -> Subject:
            return Subject(platform=FakeTelegram(), kind=TYPE, faults=ALL_FAULTS)

`platform` is a `PlatformFake`; what it cannot play is left out of `faults` and `abilities`. What the platform itself
cannot do is known from the channel's `Capabilities`: then the suite tests that the channel says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from host.channels.build import settings_of
from host.channels.health import Health
from host.channels.protocol import (
    Button,
    Channel,
    ChannelRefused,
    ChannelUnavailable,
    Context,
    DeliveryRefused,
    Outgoing,
)
from host.channels.registry import ChannelType
from host.routing.event import Clicked, Deleted, Edited, Event, Incoming, Receipt
from host.sessions.attachments import FileLimits
from shared_schema.clock import Clock
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.rows import Address, MessageOutKind
from tests.support.clocks import JumpingClock
from tests.support.wait import until

T = TypeVar("T")
SECONDS = 30.0
CANARY = "canary-4f1d7a90"
"""A part of each secret in `PlatformFake.settings()`, as far as the form of its secrets allows: nothing may tell it."""


class Fault(StrEnum):
    """What a platform can be made to do wrong.

    The first five are of the next `times` calls in which the bot sends, edits or uploads something.
    """

    SLOW = "slow"  # answered after `seconds`
    HANGS = "hangs"  # never answered
    TOO_MANY = "too many"  # 429 or its like, with `seconds` to wait
    FAILS = "fails"  # 500 or its like, and the message was not taken
    DROPS_BEFORE = "drops before"  # the connection breaks before the platform took the message
    DROPS_AFTER = "drops after"  # the platform takes the message, then the connection breaks without an answer
    CHAT_GONE = "chat gone"  # blocked, thrown out: the message will never be taken
    TWICE = "twice"  # the next `times` updates are sent twice
    SWAPPED = "swapped"  # the next two updates come in the wrong order
    REVOKED = "revoked"  # the token is refused from now on, and what is connected is thrown out
    DEAF = "deaf"  # the connection stays open and nothing comes through it, heartbeats neither


ALL_FAULTS = frozenset(Fault)


class Ability(StrEnum):
    """What a person can do on the platform, as far as its fake plays it."""

    EDIT = "edit"
    DELETE = "delete"
    CLICK = "click"
    FILES = "files"
    THREADS = "threads"
    AWAY = "away"  # what was written while the bot was not connected is kept for it


ALL_ABILITIES = frozenset(Ability)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of the bot's as people see it now. `edits`: how often it was changed."""

    id: str
    text: str
    chat: str
    thread: str | None = None
    reply_to: str | None = None
    buttons: tuple[Button, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()
    reactions: tuple[str, ...] = ()
    edits: int = 0


class PlatformFake(Protocol):
    """A platform, or its real server, with one bot, one person and one chat of both."""

    chat: str
    """The platform id of the chat, as it stands behind the colon of an address."""
    person: str
    """The id of the person, as `Event.sender_id` has it."""

    async def start(self) -> None:
        """Serve, on an address of this machine. Also again after `stop`: what it knew it still knows."""

    async def stop(self) -> None:
        """Nothing answers any more, and connections break. May be called twice."""

    def settings(self) -> dict[str, Any]:
        """`[channels.<name>]` for a channel that talks to it."""

    async def write(
        self,
        text: str,
        *,
        thread: str | None = None,
        reply_to: str | None = None,
        mention: bool = False,
        files: tuple[tuple[str, bytes], ...] = (),
    ) -> str:
        """The person writes; the platform's id of that, as `Event.platform_message_id` has it."""

    async def edit(self, message_id: str, text: str) -> None:
        """The person changes a message of theirs."""

    async def delete(self, message_id: str) -> None:
        """The person deletes a message of theirs."""

    async def click(self, message_id: str, value: str) -> None:
        """The person presses the button with that value under a message of the bot's."""

    async def react(self, message_id: str, emoji: str | None) -> None:
        """The person puts a reaction on a message, or takes it away."""

    async def new_thread(self) -> str:
        """The id of a thread of the chat."""

    async def arrived(self) -> list[Arrived]:
        """What the bot has sent to the chat, oldest first."""

    async def fault(self, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        """Go wrong from now on in that way."""

    async def typing_count(self) -> int:
        """How often the bot has said that it is typing."""


@dataclass(slots=True)
class MemoryState:
    """A `ChannelState` that a test looks into."""

    values: dict[str, str] = field(default_factory=dict)

    async def get(self, key: str) -> str | None:
        return self.values.get(key)

    async def set(self, key: str, value: str) -> None:
        self.values[key] = value


@dataclass(slots=True)
class Subject:
    """One channel type and its platform. `make` builds a channel where it has no `kind` (the terminal)."""

    platform: PlatformFake
    kind: ChannelType | None = None
    make: Callable[[Context], Channel] | None = None
    name: str = "bot"
    faults: frozenset[Fault] = frozenset()
    abilities: frozenset[Ability] = frozenset()
    is_remote: bool = True
    """Whether there is a connection that can be lost."""
    grows: bool = False
    """Whether people see a reply grow there."""
    takes_files: bool = True
    """Whether files can be sent there."""
    most_text: int = 3_000_000
    """The most that a person, or somebody in their place, can write there in one message."""
    deletes_in_threads: bool = False
    """Whether only what is in a thread can be taken away."""
    needs_clock: bool = False
    """Whether the platform's requests are good for some minutes, so that a host whose clock is wrong refuses them."""

    def channel(self, context: Context) -> Channel:
        if self.make is not None:
            return self.make(context)
        assert self.kind is not None, "a subject has a kind or makes its channel"
        return self.kind.make(settings_of(self.kind, self.name, self.platform.settings()), context)


class Line:
    """A channel, and all it has handed over. `trouble` is raised by the next `ingest`s, `hold` stops them."""

    def __init__(self, channel: Channel, context: Context) -> None:
        self.channel = channel
        self.context = context
        self.heard: list[Incoming] = []
        self.begun = 0
        self.troubles: list[Exception] = []
        self.hold: asyncio.Event | None = None
        self._serving: asyncio.Task[None] | None = None

    async def ingest(self, event: Incoming) -> Receipt:
        self.begun += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        self.heard.append(event)
        return Receipt(())

    async def begin(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.channel.start(self.ingest)
        self._serving = asyncio.create_task(self.channel.serve())

    async def end(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        async with asyncio.timeout(SECONDS):
            await self.channel.close()

    async def broken(self, seconds: float = SECONDS) -> BaseException | None:
        """What `serve` ended with."""
        assert self._serving is not None, "it has begun"
        await asyncio.wait([self._serving], timeout=seconds)
        assert self._serving.done(), "serve goes on although nothing can be heard"
        return self._serving.exception()

    def events(self, kind: type[T]) -> list[T]:
        return [event for event in self.heard if isinstance(event, kind)]

    async def wait_for(self, kind: type[T], count: int = 1) -> list[T]:
        """Wait until that many of a kind were handed over."""
        await until(lambda: len(self.events(kind)) >= count, f"{count} {kind.__name__} of {self.heard}", SECONDS)
        return self.events(kind)


class ChannelContract:
    """The tests. A subclass has the fixture `subject`."""

    @pytest.fixture
    def clock(self) -> JumpingClock:
        """The machine's clocks, until a test sets the host's wrong."""
        return JumpingClock()

    @pytest.fixture
    def state(self) -> MemoryState:
        """It outlives a channel as central.db does."""
        return MemoryState()

    @pytest.fixture
    def connect(self, subject: Subject, clock: Clock, state: MemoryState, tmp_path: Path) -> Callable[[], Line]:
        """A channel as a host makes it at its start; call it again for the next start."""

        def make() -> Line:
            downloads = tmp_path / "downloads"
            downloads.mkdir(exist_ok=True)
            limits = FileLimits(20, 25 * 1024**2, 50 * 1024**2)
            context = Context(subject.name, clock, state, Health(clock), downloads, limits)
            return Line(subject.channel(context), context)

        return make

    @pytest.fixture
    async def platform(self, subject: Subject) -> AsyncIterator[PlatformFake]:
        await subject.platform.start()
        yield subject.platform
        await subject.platform.stop()

    @pytest.fixture
    async def line(self, platform: PlatformFake, connect: Callable[[], Line]) -> AsyncIterator[Line]:
        """A channel that is connected."""
        line = connect()
        await line.begin()
        yield line
        await line.end()

    # Who we are

    async def test_it_knows_who_it_is_there(self, platform: PlatformFake, connect: Callable[[], Line]) -> None:
        line = connect()
        identity = await line.channel.check()
        await line.channel.close()

        assert identity.id
        assert identity.name

    async def test_it_can_be_closed_at_any_time(self, platform: PlatformFake, connect: Callable[[], Line]) -> None:
        line = connect()
        await line.channel.close()
        await line.begin()
        await line.end()
        await line.channel.close()
        await line.begin()
        await platform.write("hello again")
        await line.wait_for(Event)
        await line.end()

    # What people write

    async def test_a_message_is_handed_over(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        message_id = await platform.write("hello, it's me: ünï ☃ 👩‍👩‍👧")
        (event,) = await line.wait_for(Event)

        event.require_identifiers()
        assert event.address.channel_type == subject.name
        assert event.address.platform_id == platform.chat
        assert event.platform_message_id == message_id
        assert event.text == "hello, it's me: ünï ☃ 👩‍👩‍👧"
        assert event.sender_id == platform.person

    async def test_messages_keep_their_order(self, line: Line, platform: PlatformFake) -> None:
        for number in range(10):
            await platform.write(f"message {number}")
        events = await line.wait_for(Event, 10)

        assert [event.text for event in events] == [f"message {number}" for number in range(10)]

    async def test_an_update_is_acknowledged_only_after_it_is_on_disk(
        self, platform: PlatformFake, subject: Subject, connect: Callable[[], Line]
    ) -> None:
        """The host is killed while `ingest` has not returned: the message comes again."""
        _need(Ability.AWAY in subject.abilities, "the platform keeps nothing for a bot that is away")
        line = connect()
        await line.begin()
        line.hold = asyncio.Event()
        message_id = await platform.write("do not lose me")
        await until(lambda: line.begun >= 1, "it is on its way to the disk", SECONDS)
        await line.end()

        assert line.heard == []
        again = connect()
        await again.begin()
        (event,) = await again.wait_for(Event)
        await again.end()
        assert (event.text, event.platform_message_id) == ("do not lose me", message_id)

    async def test_what_could_not_be_kept_is_not_acknowledged(
        self, platform: PlatformFake, subject: Subject, connect: Callable[[], Line]
    ) -> None:
        """The disk is full for a moment: the message comes again, at the latest when the channel is started again."""
        _need(Ability.AWAY in subject.abilities, "the platform keeps nothing for a bot that is away")
        line = connect()
        await line.begin()
        line.troubles = [DumbwaiterError("the disk is full")] * 3
        await platform.write("do not lose me")
        await until(lambda: line.begun >= 1, "it was tried", SECONDS)
        await line.end()
        if not line.heard:
            line = connect()
            await line.begin()
            await line.wait_for(Event)
            await line.end()
        assert [event.text for event in line.events(Event)] == ["do not lose me"]

    async def test_what_was_written_while_it_was_away_comes(
        self, platform: PlatformFake, subject: Subject, connect: Callable[[], Line]
    ) -> None:
        _need(Ability.AWAY in subject.abilities, "the platform keeps nothing for a bot that is away")
        line = connect()
        await line.begin()
        await platform.write("first")
        await line.wait_for(Event)
        await asyncio.sleep(0)
        await line.end()
        await platform.write("meanwhile")
        again = connect()
        await again.begin()
        await until(lambda: "meanwhile" in [event.text for event in again.events(Event)], "it comes", SECONDS)
        await again.end()
        assert [event.text for event in again.events(Event) if event.text != "first"] == ["meanwhile"]

    async def test_an_update_that_comes_twice_has_one_id(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need_fault(subject, Fault.TWICE)
        await platform.fault(Fault.TWICE)
        message_id = await platform.write("once")
        await platform.write("behind it")
        await until(lambda: "behind it" in [event.text for event in line.events(Event)], "it comes", SECONDS)

        assert {event.platform_message_id for event in line.events(Event) if event.text == "once"} == {message_id}

    async def test_updates_out_of_order_all_come(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        _need_fault(subject, Fault.SWAPPED)
        await platform.fault(Fault.SWAPPED)
        await platform.write("one")
        await platform.write("two")
        events = await line.wait_for(Event, 2)

        assert {event.text for event in events} == {"one", "two"}

    async def test_a_message_larger_than_allowed_holds_up_nothing(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        """It is taken, cut or left out; what comes behind it is heard."""
        await platform.write("x" * subject.most_text)
        await platform.write("behind it")
        await until(lambda: "behind it" in [event.text for event in line.events(Event)], "it comes", SECONDS)

    @pytest.mark.parametrize("hours", [-1, 1])
    @pytest.mark.parametrize("when", ["from the start", "later"])
    async def test_a_clock_that_is_off_by_an_hour_loses_and_doubles_nothing(
        self,
        platform: PlatformFake,
        subject: Subject,
        connect: Callable[[], Line],
        clock: JumpingClock,
        when: str,
        hours: int,
    ) -> None:
        """Also over a restart: what is caught up is told by the platform's own times and ids."""
        _need(not subject.needs_clock, "the platform signs its requests for some minutes")
        if when == "from the start":
            clock.jump(3600 * hours)
        line = connect()
        await line.begin()
        await platform.write("before")
        await line.wait_for(Event)
        if when == "later":
            clock.jump(3600 * hours)
        await platform.write("after")
        await line.wait_for(Event, 2)
        await line.channel.deliver(said(subject, platform, "an answer"))
        await line.end()
        heard = [event.text for event in line.events(Event)]
        if Ability.AWAY in subject.abilities:
            await platform.write("meanwhile")
            line = connect()
            await line.begin()
            await until(lambda: "meanwhile" in [event.text for event in line.events(Event)], "it comes", SECONDS)
            await line.end()
            known = set(heard)  # what comes again is known to the host by its id
            heard += [event.text for event in line.events(Event) if event.text not in known]
        assert heard == ["before", "after", "meanwhile"][: len(heard)]
        assert len(heard) == (3 if Ability.AWAY in subject.abilities else 2)
        assert [message.text for message in await platform.arrived()] == ["an answer"]

    async def test_an_edit_is_handed_over(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        _need(Ability.EDIT in subject.abilities, "people cannot edit there")
        message_id = await platform.write("tpyo")
        await line.wait_for(Event)
        await platform.edit(message_id, "typo")
        (edited,) = await line.wait_for(Edited)

        assert (edited.platform_message_id, edited.text) == (message_id, "typo")
        assert edited.address.platform_id == platform.chat

    async def test_a_deletion_is_handed_over(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        _need(Ability.DELETE in subject.abilities, "people cannot delete there, or the platform does not tell")
        message_id = await platform.write("never mind")
        await line.wait_for(Event)
        await platform.delete(message_id)
        (deleted,) = await line.wait_for(Deleted)

        assert deleted.platform_message_id == message_id

    async def test_a_file_of_a_person_can_be_fetched(
        self, line: Line, subject: Subject, platform: PlatformFake, tmp_path: Path
    ) -> None:
        _need(Ability.FILES in subject.abilities, "people cannot send files there")
        await platform.write("look", files=(("notes.txt", b"remember the milk"),))
        (event,) = await line.wait_for(Event)

        if event.attachments:
            assert event.attachments[0].source.read_bytes() == b"remember the milk"
            return
        (remote,) = event.remote_files
        await line.channel.download(remote, tmp_path / "fetched")
        assert (remote.name, (tmp_path / "fetched").read_bytes()) == ("notes.txt", b"remember the milk")

    async def test_a_file_of_a_person_that_is_larger_than_allowed_is_left_out(
        self, subject: Subject, platform: PlatformFake, clock: Clock, state: MemoryState, tmp_path: Path
    ) -> None:
        """Whatever its size was said to be; its message is heard all the same."""
        _need(Ability.FILES in subject.abilities, "people cannot send files there")
        limits = FileLimits(20, 1_000, 2_000)
        context = Context(subject.name, clock, state, Health(clock), tmp_path, limits)
        line = Line(subject.channel(context), context)
        await line.begin()
        await platform.write("look", files=(("large.txt", b"x" * 5_000),))
        (event,) = await line.wait_for(Event)
        assert [attachment.name for attachment in event.attachments] == []
        for remote in event.remote_files:
            with pytest.raises(DeliveryRefused):
                await line.channel.download(replace(remote, size=1), tmp_path / "fetched")
        await line.end()

    async def test_a_disk_that_takes_no_file_is_the_hosts_trouble_and_not_the_platforms(
        self, line: Line, subject: Subject, platform: PlatformFake, tmp_path: Path
    ) -> None:
        """Then the event is not acknowledged, and comes again: its file is not lost."""
        _need(Ability.FILES in subject.abilities, "people cannot send files there")
        await platform.write("look", files=(("notes.txt", b"remember the milk"),))
        (event,) = await line.wait_for(Event)
        for remote in event.remote_files:
            with pytest.raises(FileTrouble):
                await line.channel.download(remote, tmp_path / "a folder that is not there" / "fetched")

    async def test_a_thread_is_part_of_the_address(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        _need(Ability.THREADS in subject.abilities, "there are no threads")
        thread = await platform.new_thread()
        await platform.write("in a thread", thread=thread)
        (event,) = await line.wait_for(Event)
        await line.channel.deliver(said(subject, platform, "an answer", thread=event.address.thread_id))
        (arrived,) = await _arrived(platform, 1)

        assert event.address.thread_id is not None
        assert arrived.thread == thread

    # What we say

    async def test_a_message_arrives(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        message_id = await line.channel.deliver(said(subject, platform, "hello from the agent ☃"))
        (arrived,) = await _arrived(platform, 1)

        assert arrived.text == "hello from the agent ☃"
        assert message_id in (None, arrived.id)

    async def test_a_message_as_long_as_it_may_be_arrives_as_one(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        limit = line.channel.capabilities.max_text
        _need(limit is not None, "there is no limit")
        assert limit is not None
        await line.channel.deliver(said(subject, platform, ("word " * limit)[: limit - 1] + "."))
        (arrived,) = await _arrived(platform, 1)

        assert len(arrived.text) >= limit - 1

    async def test_text_that_looks_like_markup_is_not_lost(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        for text in (
            "5 < 6 & 7 > *2",
            "an _open mark and `half a code",
            "```\nnever closed",
            "a_b_c (d) [e] {f} ~g~ #h",
        ):
            await line.channel.deliver(said(subject, platform, text))
        arrived = await _arrived(platform, 4)

        for words, message in zip(("5 6 7 2", "open mark half code", "never closed", "b d e f"), arrived, strict=True):
            for word in words.split():
                assert word in message.text

    async def test_a_message_of_ours_is_taken_away_and_one_that_is_gone_is_no_failure(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        address = Address(subject.name, platform.chat)
        if not line.channel.capabilities.deletes:
            with pytest.raises(DeliveryRefused):
                await line.channel.delete(address, "1")
            return
        if subject.deletes_in_threads:
            address = replace(address, thread_id=await platform.new_thread())
        gone = await line.channel.deliver(replace(said(subject, platform, "not needed"), address=address))
        await line.channel.deliver(replace(said(subject, platform, "needed"), address=address))
        await _arrived(platform, 2)
        assert gone is not None
        for _ in range(2):
            await line.channel.delete(address, gone)

        async def is_alone() -> bool:
            return [message.text for message in await platform.arrived()] == ["needed"]

        await until(is_alone, "it is taken away")

    async def test_a_message_is_changed(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        address = Address(subject.name, platform.chat)
        message_id = await line.channel.deliver(said(subject, platform, "first"))
        if not line.channel.capabilities.edits:
            with pytest.raises(DeliveryRefused):
                await line.channel.edit(address, message_id or "1", "second", ())
            return
        assert message_id is not None
        for text in ("second", "third", "second"):
            await line.channel.edit(address, message_id, text, ())
            (arrived,) = await _arrived(platform, 1)
            assert arrived.text == text

    async def test_a_reply_that_has_grown_becomes_whole_by_an_edit(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need(line.channel.capabilities.draft_seconds is not None, "replies do not grow there")
        draft_id = await line.channel.deliver(said(subject, platform, "Once upon"))
        assert draft_id is not None
        whole = replace(said(subject, platform, "Once upon a time."), draft_id=draft_id)
        assert await line.channel.deliver(whole) is not None
        arrived = await _arrived(platform, 1)

        assert [message.text for message in arrived] == ["Once upon a time."]

    async def test_a_reaction_is_put_and_taken_away(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        message_id = await line.channel.deliver(said(subject, platform, "done"))
        address = Address(subject.name, platform.chat)
        if not line.channel.capabilities.reactions:
            with pytest.raises(DeliveryRefused):
                await line.channel.react(address, message_id or "1", "👍")
            return
        assert message_id is not None
        await line.channel.react(address, message_id, "👍")
        assert (await platform.arrived())[0].reactions == ("👍",)
        await line.channel.react(address, message_id, None)
        assert (await platform.arrived())[0].reactions == ()
        await line.channel.react(address, message_id, "👍")
        assert (await platform.arrived())[0].reactions == ("👍",)

    async def test_buttons_are_shown_and_a_click_comes_back(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need(line.channel.capabilities.buttons, "there are no buttons")
        value = "x" * 46 + ":1"
        buttons = (Button("Yes, please do", value), Button("No", "n:2"))
        await line.channel.deliver(replace(said(subject, platform, "Shall I?"), buttons=buttons))
        (arrived,) = await _arrived(platform, 1)

        assert [button.label for button in arrived.buttons] == ["Yes, please do", "No"]
        if Ability.CLICK in subject.abilities:
            await platform.click(arrived.id, value)
            (clicked,) = await line.wait_for(Clicked)
            assert (clicked.value, clicked.sender_id) == (value, platform.person)
            assert clicked.platform_message_id == arrived.id
            assert clicked.click_id

    async def test_a_file_arrives(self, line: Line, subject: Subject, platform: PlatformFake, tmp_path: Path) -> None:
        _need(line.channel.capabilities.takes_files, "there are no files")
        file = tmp_path / "report.csv"
        file.write_bytes(b"a,b\n1,2\n")
        await line.channel.deliver(replace(said(subject, platform, "the report"), files=(file,)))
        await until(lambda: _files(platform), "the file is there", SECONDS)

        assert ("report.csv", b"a,b\n1,2\n") in await _files(platform)

    async def test_it_shows_that_it_works(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        before = await platform.typing_count()
        await line.channel.typing(Address(subject.name, platform.chat))

        assert await platform.typing_count() - before == (0 if line.channel.capabilities.typing_seconds is None else 1)

    # What goes wrong

    @pytest.mark.parametrize("fault", [Fault.FAILS, Fault.DROPS_BEFORE])
    async def test_what_surely_did_not_arrive_is_unavailable(
        self, line: Line, subject: Subject, platform: PlatformFake, fault: Fault
    ) -> None:
        """Or it is left open; what it is not, is refused for good, and it can be sent again."""
        _need_fault(subject, fault)
        await platform.fault(fault)
        try:
            await line.channel.deliver(said(subject, platform, "hello", key="one"))
        except ChannelUnavailable:
            pass
        except TimeoutError:  # it is left open
            assert fault == Fault.DROPS_BEFORE
            assert not line.channel.capabilities.idempotent
            return
        else:  # the library has tried again by itself
            assert len(await platform.arrived()) == 1
            return
        await line.channel.deliver(said(subject, platform, "hello", key="one"))
        assert [message.text for message in await platform.arrived()] == ["hello"]

    async def test_a_platform_that_wants_to_wait_says_how_long(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need_fault(subject, Fault.TOO_MANY)
        await platform.fault(Fault.TOO_MANY, seconds=37)
        with pytest.raises(ChannelUnavailable) as caught:
            await line.channel.deliver(said(subject, platform, "hello"))

        assert caught.value.retry_after is not None
        assert 36 <= caught.value.retry_after <= 40
        assert await platform.arrived() == []

    async def test_a_slow_platform_is_waited_for(self, line: Line, subject: Subject, platform: PlatformFake) -> None:
        _need_fault(subject, Fault.SLOW)
        await platform.fault(Fault.SLOW, seconds=2)
        await line.channel.deliver(said(subject, platform, "hello"))

        assert [message.text for message in await platform.arrived()] == ["hello"]

    async def test_a_platform_that_hangs_can_be_left(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        """The host's own limit of time ends the attempt; the next message goes out."""
        _need_fault(subject, Fault.HANGS)
        await platform.fault(Fault.HANGS)
        with pytest.raises((TimeoutError, ChannelUnavailable)):
            async with asyncio.timeout(2):
                await line.channel.deliver(said(subject, platform, "hello", key="one"))
        await line.channel.deliver(said(subject, platform, "next", key="two"))

        assert "next" in [message.text for message in await platform.arrived()]

    async def test_an_answer_that_got_lost_leaves_it_open_or_the_key_makes_it_one(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        """Where a key makes a message one, it may be sent again; elsewhere nobody may claim that it did not arrive."""
        _need_fault(subject, Fault.DROPS_AFTER)
        await platform.fault(Fault.DROPS_AFTER)
        claim: DumbwaiterError | None = None
        try:
            await line.channel.deliver(said(subject, platform, "hello", key="one"))
        except (ChannelUnavailable, ChannelRefused, DeliveryRefused) as error:
            claim = error
        except Exception:
            claim = None  # it is left open, as it should be
        can_repeat = line.channel.capabilities.idempotent
        assert claim is None or can_repeat, f"it may have arrived, and this says that it did not: {claim!r}"
        if can_repeat:
            await line.channel.deliver(said(subject, platform, "hello", key="one"))
        assert [message.text for message in await platform.arrived()] == ["hello"]

    async def test_a_chat_that_is_gone_is_refused_for_good(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need_fault(subject, Fault.CHAT_GONE)
        await platform.fault(Fault.CHAT_GONE)
        with pytest.raises(DeliveryRefused) as caught:
            await line.channel.deliver(said(subject, platform, "hello"))

        assert caught.value.what

    async def test_a_lost_connection_is_noticed_and_made_again(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need(subject.is_remote, "there is no connection")
        await platform.write("before")
        await line.wait_for(Event)
        await platform.stop()
        error = await line.broken(90)
        assert isinstance(error, ChannelUnavailable), repr(error)
        await line.end()
        await platform.start()
        await line.begin()
        await platform.write("after")
        await until(lambda: "after" in [event.text for event in line.events(Event)], "it hears again", SECONDS)

    async def test_a_connection_that_is_deaf_is_noticed(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need_fault(subject, Fault.DEAF)
        await platform.fault(Fault.DEAF)

        assert isinstance(await line.broken(120), ChannelUnavailable)

    async def test_a_platform_that_is_down_is_unavailable_at_the_start(
        self, subject: Subject, connect: Callable[[], Line]
    ) -> None:
        _need(subject.is_remote, "there is no connection")
        await subject.platform.start()
        line = connect()
        await subject.platform.stop()
        with pytest.raises(ChannelUnavailable):
            async with asyncio.timeout(SECONDS):
                await line.channel.start(line.ingest)
        await line.channel.close()

    async def test_a_token_that_is_revoked_in_mid_run_is_refused(
        self, line: Line, subject: Subject, platform: PlatformFake
    ) -> None:
        _need_fault(subject, Fault.REVOKED)
        await platform.fault(Fault.REVOKED)
        error = await line.broken(90)

        assert isinstance(error, ChannelRefused), repr(error)
        assert error.hint, "it says where to mend it"

    async def test_a_token_is_in_no_error_of_it(
        self, platform: PlatformFake, subject: Subject, connect: Callable[[], Line], caplog: pytest.LogCaptureFixture
    ) -> None:
        _need(subject.is_remote, "there is no token")
        line = connect()
        await line.begin()
        await platform.stop()
        with pytest.raises(DumbwaiterError) as caught:
            async with asyncio.timeout(SECONDS):
                await line.channel.deliver(said(subject, platform, "hello"))
        await line.end()
        assert CANARY not in str(caught.value) + repr(caught.value)


def said(
    subject: Subject, platform: PlatformFake, text: str, *, thread: str | None = None, key: str | None = None
) -> Outgoing:
    """A reply of an agent's to the chat of the platform."""
    address = Address(subject.name, platform.chat, thread)
    key = key or f"ses_1/msg_{sha256(text.encode()).hexdigest()[:16]}"  # as the host makes them: ASCII, one line
    return Outgoing(key=key, address=address, kind=MessageOutKind.CHAT, text=text)


async def _arrived(platform: PlatformFake, count: int) -> list[Arrived]:
    found: list[Arrived] = []

    async def are_there() -> bool:
        found[:] = await platform.arrived()
        return len(found) >= count

    await until(are_there, f"{count} messages are there", SECONDS)
    assert len(found) == count, found
    return found


async def _files(platform: PlatformFake) -> list[tuple[str, bytes]]:
    return [file for message in await platform.arrived() for file in message.files]


def _need(condition: bool, reason: str) -> None:
    if not condition:
        pytest.skip(reason)


def _need_fault(subject: Subject, fault: Fault) -> None:
    _need(fault in subject.faults, f"the platform cannot be made to do this: {fault}")
