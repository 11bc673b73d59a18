"""How many messages Telegram takes: about 30 a second in all, one a second in a chat, 20 a minute in a group. Pure.

https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this. Short bursts in a chat are allowed.
"""

from __future__ import annotations

from collections import OrderedDict, deque

ALL = (30, 1.0)
CHAT = (3, 3.0)
GROUP = (20, 60.0)
"""Messages, and the seconds in which there are no more of them."""

_MARGIN = 1.05  # two messages may come closer together on their way
_MOST_CHATS = 10_000


class Limit:
    """At most so many messages in any span of so many seconds."""

    def __init__(self, count: int, seconds: float) -> None:
        self._sent: deque[float] = deque(maxlen=count)
        self._seconds = seconds * _MARGIN

    def wait(self, now: float) -> float:
        """Seconds until there is room for one message."""
        return max(0.0, self._sent[0] + self._seconds - now) if len(self._sent) == self._sent.maxlen else 0.0

    def take(self, now: float) -> None:
        """One message is sent now."""
        self._sent.append(now)


class Pace:
    """The limits of one bot. `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._all = Limit(*ALL)
        self._chats: OrderedDict[str, tuple[Limit, ...]] = OrderedDict()

    def take(self, chat: str, now: float) -> float:
        """Take the place of one message to that chat; 0, or the seconds until there is one, and none is taken."""
        limits = (self._all, *self._of(chat))
        wait = max(limit.wait(now) for limit in limits)
        if not wait:
            for limit in limits:
                limit.take(now)
        return wait

    def _of(self, chat: str) -> tuple[Limit, ...]:
        if chat not in self._chats:
            # ids of groups and channels are negative
            self._chats[chat] = (Limit(*CHAT), Limit(*GROUP)) if chat.startswith("-") else (Limit(*CHAT),)
            if len(self._chats) > _MOST_CHATS:
                self._chats.popitem(last=False)
        self._chats.move_to_end(chat)
        return self._chats[chat]
