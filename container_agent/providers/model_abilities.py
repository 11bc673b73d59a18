"""What a model's service does not take, learned from its refusals: tools, images, the calls of earlier conversations.

A refusal of one thing must not be the end of a conversation: what is refused is left out, the request is made again,
and what has helped is remembered for the session. Which thing it is stands in the words of the service; where nothing
does, one thing after the other is left out by itself. Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import field, replace

from container_agent.providers.model_seams import ToolDefinition
from shared_schema.dataclass import dataclass

STATUSES = frozenset({400, 404, 405, 409, 413, 415, 422, 500, 501})
"""Those with which services say that they do not take something. Some say it with an error of their own."""
_UNSPECIFIC = frozenset({400, 422})
_MAY_BE_HISTORY = frozenset({400, 422, 500})

_IMAGE = re.compile(r"imag|vision|picture|multi-?modal|modalit|content type|media[ _]type|mime|unknown variant", re.I)
_BAD_IMAGE = re.compile(
    r"could not (?:process|decode|read)|cannot (?:identify|decode|process)|(?:invalid|corrupt|malformed|unsupported) "
    r"(?:base64 |input )?image|not a valid image|image (?:data|format|size|dimension|exceeds)|too (?:large|small|many)"
    r"|dimension",
    re.I,
)
_NO_TOOLS = re.compile(
    r"not support (?:the )?(?:tool|function)"
    r"|(?:tool|function)(?:s| use| calling| choice)*\W+(?:is|are) not (?:support|allow|enabl)"
    r"|support tool use|without tool|requires? --enable-auto-tool-choice|does not support parameters?:? .{0,20}tools",
    re.I,
)
_MOST_TOOLS = re.compile(
    r"(?:maximum|at most|max(?:imum)? length|limit(?: is| of)?|up to|exceeds?)\D{0,20}(\d{1,4})", re.I
)
_TOOLS = re.compile(r"\btools?\b|function|schema|parameters|input_schema|declaration", re.I)
_INDEX = re.compile(r"(?:function_?declarations|tools)(?:\[|\.)(\d{1,4})\]?(?!\]?\.?(?:function_?declarations))", re.I)
_HISTORY = re.compile(
    r"\brole|alternat|tool_call|tool_use|tool_result|toolcall|function (?:call|response)|thought_?signature|messages"
    r"|contents|\bturn",
    re.I,
)
_FOREIGN = "__"  # in the name of a tool that another program brings


@dataclass(frozen=True, slots=True)
class Abilities:
    """What is left out. `tools` are names with the mark of their schema; `images` are paths."""

    tools: frozenset[str] = frozenset()
    no_tools: bool = False
    most_tools: int | None = None
    no_images: bool = False
    images: frozenset[str] = frozenset()
    plain_history: bool = False

    def to_text(self) -> str:
        """For the session's memo."""
        return json.dumps(
            {
                "tools": sorted(self.tools),
                "no_tools": self.no_tools,
                "most_tools": self.most_tools,
                "no_images": self.no_images,
                "images": sorted(self.images),
                "plain_history": self.plain_history,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Abilities:
        """What `to_text` wrote; of anything else, all abilities."""
        try:
            found = json.loads(text or "{}")
            most = found.get("most_tools")
            return cls(
                frozenset(map(str, found.get("tools", ()))),
                bool(found.get("no_tools")),
                most if isinstance(most, int) else None,
                bool(found.get("no_images")),
                frozenset(map(str, found.get("images", ()))),
                bool(found.get("plain_history")),
            )
        except (ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def offered(self, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
        """The tools that are told of."""
        if self.no_tools:
            return []
        return [tool for tool in tools if mark_of(tool) not in self.tools][: self.most_tools]


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """What matters of the request that was refused: its tools in order, the images it shows, what came before it."""

    tools: Sequence[ToolDefinition] = ()
    images: frozenset[str] = frozenset()
    has_history: bool = False
    tried: frozenset[str] = field(default_factory=frozenset)
    """What was left out by itself already, because nothing was said."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to leave out from now on, and a sentence for people. A `guess` replaces the guess before it."""

    abilities: Abilities
    sentence: str
    guess: str = ""


def mark_of(tool: ToolDefinition) -> str:
    """A tool's name with a mark of what it is described by: another description is another attempt."""
    described = json.dumps([tool.description, dict(tool.parameters)], sort_keys=True, default=str)
    return f"{tool.name}#{hashlib.sha256(described.encode('utf-8', 'replace')).hexdigest()[:8]}"


def learn(known: Abilities, status: int, words: str, request: RefusedRequest, model: str) -> Lesson | None:
    """What a refusal teaches; None when nothing that could be left out is the reason. `known` is what is left out."""
    if status not in STATUSES:
        return None
    if named := _named(words, request.tools):
        return _without(known, named, model)
    if request.images and _IMAGE.search(words):
        return _without_images(known, words, request, model)
    if request.tools:
        if _NO_TOOLS.search(words):
            return Lesson(replace(known, no_tools=True), f"{model} takes no tools, so it works without them.")
        if found := _by_index(words, request.tools):
            return _without(known, [found], model)
        number = _MOST_TOOLS.search(words) if _TOOLS.search(words) else None
        if number is not None and 0 < int(number[1]) < len(request.tools):
            most = int(number[1])
            return Lesson(
                replace(known, most_tools=most), f"{model} takes {most} tools at most, so the last ones are left out."
            )
    foreign = [tool for tool in request.tools if _FOREIGN in tool.name]
    if _TOOLS.search(words) and foreign:
        return _without(known, foreign, model)
    if status in _MAY_BE_HISTORY and request.has_history and not known.plain_history and _HISTORY.search(words):
        return Lesson(replace(known, plain_history=True), _plain(model))
    if status in _UNSPECIFIC:
        return _guess(known, request, foreign, model, words)
    return None


def _guess(
    known: Abilities, request: RefusedRequest, foreign: Sequence[ToolDefinition], model: str, words: str
) -> Lesson | None:
    """One thing after the other, each by itself."""
    if request.images and "images" not in request.tried:
        return replace(_without_images(known, words, request, model), guess="images")
    if foreign and "tools" not in request.tried:
        return replace(_without(known, foreign, model), guess="tools")
    if request.has_history and not known.plain_history and "history" not in request.tried:
        return Lesson(replace(known, plain_history=True), _plain(model), "history")
    return None


def _without(known: Abilities, tools: Sequence[ToolDefinition], model: str) -> Lesson:
    names = ", ".join(f"'{tool.name}'" for tool in tools[:5]) + (" and others" if len(tools) > 5 else "")
    what = f"the tool {names} is" if len(tools) == 1 else f"the tools {names} are"
    return Lesson(
        replace(known, tools=known.tools | {mark_of(tool) for tool in tools}),
        f"{model} does not take their description, so {what} left out."
        if len(tools) > 1
        else f"{model} does not take its description, so {what} left out.",
    )


def _without_images(known: Abilities, words: str, request: RefusedRequest, model: str) -> Lesson:
    if _BAD_IMAGE.search(words):
        return Lesson(
            replace(known, images=known.images | request.images),
            f"{model} cannot read an image of this conversation, so the images so far are only named to it.",
        )
    return Lesson(replace(known, no_images=True), f"{model} cannot see images, so they are only named to it.")


def _plain(model: str) -> str:
    return f"{model} does not take this conversation as it was, so it is told it as plain text."


def _named(words: str, tools: Sequence[ToolDefinition]) -> list[ToolDefinition]:
    """The tools whose names stand in the words: as a name, and not as a word of the sentence."""
    return [
        tool
        for tool in tools
        if re.search(
            rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])"
            if _FOREIGN in tool.name
            else rf"(?:['\"`]|(?:function|tool)s?[ :]){re.escape(tool.name)}(?![\w-])",
            words,
        )
    ]


def _by_index(words: str, tools: Sequence[ToolDefinition]) -> ToolDefinition | None:
    """The tool whose place in the request stands in the words."""
    places = [int(match[1]) for match in _INDEX.finditer(words)]
    return next((tools[place] for place in places if place < len(tools)), None)
