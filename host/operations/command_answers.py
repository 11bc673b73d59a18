"""What commands in a chat answer: short plain texts, for people who know nothing of sessions and turns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from shared_schema.clock import from_text
from shared_schema.dataclass import dataclass
from shared_schema.providers import PROVIDERS
from shared_schema.text import is_shown

_QUOTED = 60
_SECONDS_IN = {"h": 3600, "min": 60, "s": 1}

NOTHING_HERE = "There is no conversation here at the moment. What you write next begins one."
PRESENT_ALREADY = "That is the conversation you are in."
BROKEN = "Something went wrong, and this was not done. The log of the host says more."
STANDS_ALONE = "What stands behind /{name} was left out: /{name} takes nothing, and your agent was not given it."
MOST_UNASKED = 3
"""Exchanges that `/undo` takes back without asking."""
UNDO_HOW = "Write /undo to take back the last exchange, or /undo 3 for the last three."
NOTHING_SAID = "Nothing has been said in this conversation yet, so there is nothing to sum up."
NO_SUMMARIES = "This agent cannot sum up a conversation. /new begins another one."
SUMMING_UP = "The conversation is being summed up. You will be told when it goes on from the summary."
BRANCHED = "You are in a copy of the conversation now. The one before stays as it is; /sessions shows both."
BEGUN_ALREADY = "A new conversation has begun already."

FOR_ADMINS = "Only the owner, or an admin of {agent}, can use /{command}."
MODEL_HOW = "/model and a name changes it, such as /model anthropic:claude-sonnet-5-5."
BUDGET_HOW = "Write /budget 5 for $5, /budget 5 day, /budget 200000 tokens month, or /budget off."
NO_BUDGET_NOW = "{agent} has no budget now."
"""What `/budget off` comes to."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation as `/sessions` shows it. `name` is its title or beginning; `last_active` a stored time."""

    name: str | None
    last_active: str
    unread: bool
    present: bool
    archived: bool


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What goes on in a conversation. `since`: stored time; None: no agent works on the `waiting` messages.

    `doing` is a tool's name. `queued`: its agent waits until another one leaves.
    """

    waiting: int
    attempt: int
    since: str | None
    seconds: float
    doing: str | None
    queued: bool


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """A conversation and who answers in it."""

    session_id: str
    title: str | None
    archived: bool
    agent: str
    provider: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was used: tokens in and out, with those of caches, and US dollars."""

    into: int
    out: int
    usd: float


@dataclass(frozen=True, slots=True)
class UsedBudget:
    """What an agent has used in its `period` (day, month, total), and its budget, if it has one."""

    agent: str
    period: str
    used_tokens: int
    used_usd: float
    budget_tokens: int | None
    budget_usd: float | None


def begun(cancelled: int) -> str:
    """A new conversation took the place of one."""
    return f"A new conversation begins.{_left_unanswered(cancelled)} /resume takes up the one before."


def taken_up(name: str | None, last_active: str, cancelled: int, zone: ZoneInfo) -> str:
    """An earlier conversation goes on."""
    return f"{_named(name)} goes on. It was last active on {_moment(last_active, zone)}.{_left_unanswered(cancelled)}"


def title_is(title: str | None) -> str:
    """What `/title` shows."""
    if title is None:
        return "This conversation has no title yet. /title and a few words give it one."
    return f"The title is {quoted(title)}."


def title_set(title: str, *, cut: bool = False) -> str:
    """What `/title` has set; `cut` says that more was wanted."""
    return f"The title is now {quoted(title)}." + (" It was cut: a title can have 100 characters." if cut else "")


def listed(entries: Sequence[Listed], zone: ZoneInfo) -> str:
    """The list of `/sessions`."""
    if not entries:
        return "There is no conversation here yet."
    lines = [f"{number}. {_line(entry, zone)}" for number, entry in enumerate(entries, 1)]
    return "\n".join([*lines, "", "/resume and a number goes back to one of them."])


def taken_back(texts: Sequence[str], count: int, asked: int) -> str:
    """The last exchanges do not count any more; `texts` are what was asked in them, oldest first."""
    if count == 1:
        return f"Taken back: {_together(texts)}." + (" There was nothing else." if asked > 1 else "")
    fewer = ", which were all" if count < asked else ""
    return f"Taken back: the last {count} exchanges{fewer}, from {_first(texts)} on."


def take_back_so_many(count: int) -> str:
    """Nothing is done yet: so much is taken back only when it is said twice."""
    would = f"That would take back the last {count} exchanges, and nothing was taken back yet."
    return f"{would} Write /undo {count} yes to do it."


def asked_again(texts: Sequence[str]) -> str:
    """The last exchange, and what else was open, was taken back and asked again."""
    if len(texts) < 2:
        return f"Asked again: {_first(texts)}."
    return f"Asked again: {len(texts)} messages, from {_first(texts)} on."


def stopped(texts: Sequence[str], cancelled: int) -> str:
    """What the agent did was ended; `texts` are what it was to answer. Other things it did have none."""
    if not cancelled:
        return "There is nothing to stop."
    if not texts:
        return "Stopped."
    if len(texts) == 1:
        return f"Stopped: {_first(texts)} will not be answered."
    return f"Stopped: {len(texts)} messages will not be answered, from {_first(texts)} on."


def state(talk: ConversationFacts, work: QueueFacts, zone: ZoneInfo) -> str:
    """What `/status` shows."""
    model = "" if talk.model is None else f", model {talk.model}"
    archived = ", archived" if talk.archived else ""
    title = "without a title" if talk.title is None else quoted(talk.title)
    return "\n".join(
        [
            _work(work, zone),
            f"Agent: {talk.agent} ({talk.provider}{model})",
            f"Conversation: {title}{archived} ({talk.session_id})",
        ]
    )


def usage(here: Tokens, allowance: UsedBudget) -> str:
    """What `/usage` shows."""
    spell = {"day": " today", "month": " this month"}.get(allowance.period, " altogether")
    return "\n".join(
        [
            f"This conversation: {here.into:,} tokens in, {here.out:,} out{_dollars(here.usd)}.",
            f"{allowance.agent}{spell}: {allowance.used_tokens:,} tokens{_dollars(allowance.used_usd)}.",
            _left(allowance),
        ]
    )


@dataclass(frozen=True, slots=True)
class ModelsInUse:
    """The models of an agent, and which one gave the `last` answer of a conversation; `why` it was not the first."""

    agent: str
    provider: str
    model: str | None
    fallbacks: Sequence[str]
    last: str | None
    why: str | None


def model_is(models: ModelsInUse) -> str:
    """What `/model` shows."""
    named = "the provider's default model" if models.model is None else f"the model {models.model}"
    if models.provider == PROVIDERS[0]:
        lines = [f"{models.agent} repeats what you say, it has no model. {MODEL_HOW}"]
    else:
        lines = [f"{models.agent} answers with the provider {models.provider} and {named}. {MODEL_HOW}"]
    if models.fallbacks:
        lines.append(f"When that one's service refuses: {', then '.join(models.fallbacks)}.")
    if models.last and models.why:
        why = " ".join(models.why.split())[:300]
        lines.append(f"The last answer here came from {' '.join(models.last.split())[:200]}: {why}.")
    elif models.last and models.last != models.model:
        lines.append(f"The last answer here came from {' '.join(models.last.split())[:200]}.")
    return "\n".join(lines)


def model_set(agent: str, model: str | None) -> str:
    """What `/model NAME` has set."""
    named = "its provider's default model" if model is None else model
    return f"{agent} answers with {named} from the next message on."


def budget(allowance: UsedBudget) -> str:
    """What `/budget` shows."""
    spell = {"day": " a day", "month": " a month"}.get(allowance.period, " in all")
    parts = [] if allowance.budget_usd is None else [f"${allowance.budget_usd:,.2f}"]
    if allowance.budget_tokens is not None:
        parts.append(f"{allowance.budget_tokens:,} tokens")
    if not parts:
        return f"{allowance.agent} has no budget. {BUDGET_HOW}"
    return f"The budget of {allowance.agent} is {' and '.join(parts)}{spell}. {_left(allowance)}"


def quoted(text: str) -> str:
    """The beginning of a text, on one line and in quotation marks."""
    words = " ".join("".join(c if is_shown(c) else " " for c in text[: _QUOTED * 4]).split())
    return f"“{words if len(words) <= _QUOTED else words[: _QUOTED - 1].rstrip() + '…'}”"


def _line(entry: Listed, zone: ZoneInfo) -> str:
    name = "nothing said yet" if entry.name is None else quoted(entry.name)
    marks = [
        mark
        for mark, is_so in (
            ("you are here", entry.present),
            ("unread", entry.unread),
            ("archived", entry.archived),
        )
        if is_so
    ]
    marked = f" ({', '.join(marks)})" if marks else ""
    return f"{name}, {_moment(entry.last_active, zone)}{marked}"


def _work(work: QueueFacts, zone: ZoneInfo) -> str:
    if not work.waiting and work.since is None:
        return "Nothing runs, and nothing waits."
    attempt = f", attempt {work.attempt}" if work.attempt > 1 else ""
    if work.since is not None:
        tool = "" if work.doing is None else f", with {quoted(work.doing)}"
        begun = from_text(work.since).astimezone(zone)
        line = f"Working since {begun:%H:%M:%S}, for {_spell(work.seconds)}{tool}{attempt}."
    elif work.queued:
        line = f"Waiting until another agent has finished{attempt}."
    else:
        line = f"The agent is about to begin{attempt}."
    if not work.waiting:
        return line
    return f"{line} {work.waiting} message{' waits' if work.waiting == 1 else 's wait'} for an answer."


def _left(allowance: UsedBudget) -> str:
    parts = []
    if allowance.budget_usd is not None:
        left = max(0.0, allowance.budget_usd - allowance.used_usd)
        parts.append(f"${left:,.2f} of ${allowance.budget_usd:,.2f}")
    if allowance.budget_tokens is not None:
        rest = max(0, allowance.budget_tokens - allowance.used_tokens)
        parts.append(f"{rest:,} of {allowance.budget_tokens:,} tokens")
    return f"Left of the budget: {' and '.join(parts)}." if parts else "There is no budget."


def _dollars(usd: float) -> str:
    return f", ${usd:,.2f}" if usd >= 0.005 or usd == 0 else f", ${usd:.4f}"


def _left_unanswered(cancelled: int) -> str:
    match cancelled:
        case 0:
            return ""
        case 1:
            return " One message will not be answered."
        case _:
            return f" {cancelled} messages will not be answered."


def _first(texts: Sequence[str]) -> str:
    said = next((text for text in texts if text.strip()), None)
    return "a file" if said is None else quoted(said)


def _together(texts: Sequence[str]) -> str:
    """What one exchange began with: messages that came at the same time are answered together."""
    if len(texts) < 2:
        return _first(texts)
    return f"{len(texts)} messages that were answered together, from {_first(texts)} on"


def _named(name: str | None) -> str:
    return "The conversation" if name is None else quoted(name)


def _spell(seconds: float) -> str:
    """A length of time in one unit."""
    unit = next((unit for unit, size in _SECONDS_IN.items() if seconds >= size), "s")
    return f"{int(seconds // _SECONDS_IN[unit])} {unit}"


def _moment(stored: str, zone: ZoneInfo) -> str:
    local: datetime = from_text(stored).astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M}"
