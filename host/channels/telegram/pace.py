"""How many messages Telegram takes: about 30 a second in all, one a second in a chat, 20 a minute in a group. Pure.

https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this. Short bursts in a chat are allowed.

Invariant: a message counts from before its call begins until its span has passed since the call came back. At which
moment in between Telegram counts it is not known, and so it does not matter how long the way there takes.
"""

from __future__ import annotations

from collections import OrderedDict, deque

ALL = (30, 1.0)
CHAT = (3, 3.0)
GROUP = (20, 60.0)
"""Messages, and the seconds in which there are no more of them."""

_LOOK_SECONDS = 0.05
"""How long to wait where all places are taken by calls that are under way."""
_MOST_CHATS = 10_000


class Limit:
    """At most so many messages in any span of so many seconds."""

    def __init__(self, count: int, seconds: float) -> None:
        self._under_way = 0
        self._over: deque[float] = deque()  # when the calls of the last span came back
        self._count = count
        self._seconds = seconds

    def wait(self, now: float) -> float:
        """Seconds until there may be room for one message."""
        while self._over and self._over[0] + self._seconds <= now:
            self._over.popleft()
        if self._under_way + len(self._over) < self._count:
            return 0.0
        return self._over[0] + self._seconds - now if self._over else _LOOK_SECONDS

    def begin(self) -> None:
        """The call of one message begins."""
        self._under_way += 1

    def end(self, now: float) -> None:
        """It has come back."""
        self._under_way = max(0, self._under_way - 1)  # a chat that was forgotten meanwhile counts anew
        self._over.append(now)


class Pace:
    """The limits of one bot. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._all = Limit(*ALL)
        self._chats: OrderedDict[str, tuple[Limit, ...]] = OrderedDict()

    def take(self, chat: str, now: float) -> float:
        """Take the place of one message to that chat; 0, or the seconds until there may be one, and none is taken."""
        limits = (self._all, *self._of(chat))
        wait = max(limit.wait(now) for limit in limits)
        if not wait:
            for limit in limits:
                limit.begin()
        return wait

    def came_back(self, chat: str, now: float) -> None:
        """The call for which a place was taken has come back, however it ended."""
        for limit in (self._all, *self._of(chat)):
            limit.end(now)

    def _of(self, chat: str) -> tuple[Limit, ...]:
        if chat not in self._chats:
            # ids of groups and channels are negative
            self._chats[chat] = (Limit(*CHAT), Limit(*GROUP)) if chat.startswith("-") else (Limit(*CHAT),)
            if len(self._chats) > _MOST_CHATS:
                self._chats.popitem(last=False)
        self._chats.move_to_end(chat)
        return self._chats[chat]
