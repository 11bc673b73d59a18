"""The rules of a conversation's life once more, in plain Python: what `host/sessions/transitions.py` is compared with.

Sessions and messages are numbered in the order in which they are made. An operation that is refused returns its
sentence's kind and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

REFUSED = "refused"


@dataclass
class Message:
    status: str
    accepted: int = 0
    withdrawn: int | None = None  # when
    turn: int | None = None


@dataclass
class Session:
    number: int
    route: str
    generation: int
    parent: int | None = None
    relation: str | None = None
    born: int = 0
    status: str = "active"
    reason: str | None = None
    was: str | None = None
    messages: list[Message] = field(default_factory=list)
    forgot: dict[int, int] = field(default_factory=dict)  # turns that it took over and took back, and when


@dataclass
class Route:
    generation: int = 1
    active: int | None = None


class Model:
    """Two routes and their sessions."""

    def __init__(self, *routes: str) -> None:
        self.routes = {name: Route() for name in routes}
        self.sessions: list[Session] = []
        self._turns = 0
        self.now = 0  # operations so far

    def hear(self, route: str) -> str | None:
        active = self.routes[route].active
        session = self._begin(route, None, None) if active is None else self.sessions[active]
        session.messages.append(Message("pending" if session.status == "active" else "failed", self.now))
        return None

    def answer(self, number: int) -> str | None:
        session = self.sessions[number]
        self._turns += 1
        for message in session.messages:
            if message.status == "pending":
                message.status, message.turn = "completed", self._turns
        return None

    def new(self, number: int) -> str | None:
        session = self.sessions[number]
        route = self.routes[session.route]
        if route.active != number:
            return None if route.active is not None else REFUSED
        self._close(session, "new")
        self._begin(session.route, number, "reset")
        return None

    def resume(self, number: int) -> str | None:
        session = self._newest(self.sessions[number])
        route = self.routes[session.route]
        if session.status == "deleted" or (route.active == session.number and session.status == "active"):
            return REFUSED
        self._cancel(session)
        if route.active is not None and route.active != session.number:
            self._close(self.sessions[route.active], "resume")
        self._bump(route, session)
        session.status, session.reason, session.generation = "active", None, route.generation
        route.active = session.number
        return None

    def undo(self, number: int, count: int) -> str | None:
        return REFUSED if self._take_back(number, count) is None else None

    def retry(self, number: int) -> str | None:
        taken = self._take_back(number, 1)
        if taken is None:
            return REFUSED
        self.sessions[number].messages += [Message("pending", self.now) for _ in range(taken)]
        return None

    def branch(self, number: int) -> str | None:
        session = self.sessions[number]
        route = self.routes[session.route]
        if session.status == "deleted":
            return REFUSED
        if route.active is not None:
            self._close(self.sessions[route.active], "branched")
        else:
            self._bump(route, session)
        self._begin(session.route, number, "branched")
        return None

    def compress(self, number: int) -> str | None:
        session = self.sessions[number]
        route = self.routes[session.route]
        if session.status != "active":
            return None if route.active is not None else REFUSED
        self._bump(route, session)
        child = self._begin(session.route, number, "compressed")
        child.messages = [message for message in session.messages if message.status == "pending"]
        session.messages = [message for message in session.messages if message.status != "pending"]
        session.status, session.reason = "ended", "compressed"
        return None

    def archive(self, number: int) -> str | None:
        session = self.sessions[number]
        if session.status not in ("active", "ended"):
            return REFUSED
        self._cancel(session)
        if session.status == "active":
            route = self.routes[session.route]
            self._bump(route, session)
            route.active, session.generation = number, route.generation
        session.status, session.reason = "archived", session.reason or "archived"
        return None

    def delete(self, number: int) -> str | None:
        session = self.sessions[number]
        if session.status == "deleted":
            return REFUSED
        route = self.routes[session.route]
        if route.active == number:
            self._bump(route, session)
        self._cancel(session)
        session.was, session.status = session.status, "deleted"
        return None

    def restore(self, number: int) -> str | None:
        session = self.sessions[number]
        if session.status != "deleted":
            return REFUSED
        session.status = "archived" if session.was == "archived" else "ended"
        session.reason = session.reason or "deleted"
        return None

    def _begin(self, route: str, parent: int | None, relation: str | None) -> Session:
        session = Session(len(self.sessions), route, self.routes[route].generation, parent, relation, self.now)
        self.sessions.append(session)
        self.routes[route].active = session.number
        return session

    def _close(self, session: Session, reason: str) -> None:
        self._bump(self.routes[session.route], session)
        if session.status == "active":
            session.status, session.reason = "ended", session.reason or reason
        self._cancel(session)

    def _bump(self, route: Route, session: Session) -> None:
        route.generation = max(route.generation, session.generation) + 1
        route.active = None

    def _cancel(self, session: Session) -> None:
        for message in session.messages:
            if message.status == "pending":
                message.status = "cancelled"

    def _newest(self, session: Session) -> Session:
        """Where a compressed conversation goes on."""
        while children := [
            each
            for each in self.sessions
            if each.parent == session.number and each.relation == "compressed" and each.status != "deleted"
        ]:
            session = children[-1]
        return session

    def _take_back(self, number: int, count: int) -> int | None:
        """Take back exchanges, and all that is open; how many messages were in them."""
        session = self.sessions[number]
        if session.status != "active":
            return None
        kept = [(place, message) for place, message in enumerate(session.messages) if message.withdrawn is None]
        exchanges: list[int] = []
        for place, message in reversed(kept):
            key = message.turn if message.turn is not None else -1 - place
            if key not in exchanges:
                exchanges.append(key)
        chosen = exchanges[:count]
        open_ones = [place for place, message in kept if message.status == "pending"]
        own = len(exchanges) if open_ones and len(exchanges) < count else len(chosen)
        inherited = self._inherited(session, count - own)
        if not exchanges and not inherited:
            return None
        chosen_places = [
            place for place, message in kept if (message.turn if message.turn is not None else -1 - place) in chosen
        ]
        taken = sum(inherited.values())
        session.forgot |= dict.fromkeys(inherited, self.now)
        for place, message in kept:
            if place >= min([*chosen_places, *open_ones], default=len(session.messages)):
                message.withdrawn = self.now
                taken += 1
        self._cancel(session)
        route = self.routes[session.route]
        self._bump(route, session)
        route.active, session.generation = number, route.generation
        return taken

    def _inherited(self, session: Session, count: int) -> dict[int, int]:
        """The newest turns that a branch took over and still counts, and how many messages are in each."""
        found: dict[int, int] = {}
        forgotten = set(session.forgot)
        while session.relation == "branched" and session.parent is not None:
            until, session = session.born, self.sessions[session.parent]
            here: dict[int, int] = {}
            for message in reversed(session.messages):
                counts = message.withdrawn is None or message.withdrawn > until
                if counts and message.turn is not None and message.turn not in forgotten and message.accepted <= until:
                    here[message.turn] = here.get(message.turn, 0) + 1
            for turn in list(here)[: max(0, count - len(found))]:
                found[turn] = here[turn]
            forgotten |= {turn for turn, at in session.forgot.items() if at <= until}
        return found
