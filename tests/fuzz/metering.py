"""What the gateway reads out of model calls while they pass: the models that requests name, and what answers used."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from host.gateway.expected import ExpectedOutput
from host.gateway.requested_models import RequestedModels
from host.gateway.usage import CallUsage, UsageReader
from tests.fuzz.gateway import DOCUMENT, EVENTS
from tests.fuzz.target import Drive, Target, mutated
from tests.fuzz.values import JSON_VALUES

FAR_FROM_ITS_END = DOCUMENT + b" " * 1_100_000
MANY_DIGITS = b'{"usage":{"input_tokens":' + b"9" * 5000 + b',"output_tokens":-1,"cache_read_input_tokens":1e400}}'
_MODEL = re.compile(r"[a-zA-Z0-9._:@/-]{1,100}")


@contextmanager
def _usage(folder: Path) -> Iterator[Drive]:
    """What an answer used does not depend on how it is cut into pieces, and is never more than could be."""

    def drive(value: tuple[str, bytes, Sequence[int], bool]) -> None:
        content_type, data, cuts, complete = value
        used = _used(content_type, [data], complete)
        assert _used(content_type, _pieces(data, cuts), complete) == used
        json.dumps(used.model, ensure_ascii=False).encode()
        assert 0 <= used.reasoning_tokens <= 10**12
        assert 0 <= used.tokens <= 4 * 10**12 + len(data)

    yield drive


def _used(content_type: str, pieces: Sequence[bytes], complete: bool) -> CallUsage:
    reader = UsageReader(content_type)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish(complete=complete, request_bytes=100)


@contextmanager
def _named(folder: Path) -> Iterator[Drive]:
    """Whatever model a request names, it is among those that it may mean."""

    def drive(value: tuple[bytes, Sequence[int]]) -> None:
        body, cuts = value
        models = RequestedModels("/v1/messages")
        for piece in _pieces(body, cuts):
            models.feed(piece)
        try:
            said = json.loads(body)["model"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if isinstance(said, str) and _MODEL.fullmatch(said):
            assert said in models.names or models.are_too_many

    yield drive


@contextmanager
def _expected(folder: Path) -> Iterator[Drive]:
    """What a request allows itself does not depend on how it is cut, and is never less than it says."""

    def drive(value: tuple[bytes, Sequence[int]]) -> None:
        body, cuts = value
        whole, cut = ExpectedOutput("/v1/messages"), ExpectedOutput("/v1/messages")
        whole.feed(body)
        for piece in _pieces(body, cuts):
            cut.feed(piece)
        assert (whole.is_readable, whole.tokens()) == (cut.is_readable, cut.tokens())
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return
        said = document.get("max_tokens") if isinstance(document, dict) else None
        if whole.is_readable and isinstance(said, int) and not isinstance(said, bool):
            assert whole.tokens() >= min(said, 10**7)

    yield drive


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[one:other] for one, other in pairwise(places)]


DOCUMENTS = st.lists(
    st.one_of(JSON_VALUES, st.builds(lambda value: {"usage": value, "model": value}, JSON_VALUES)), max_size=3
)
ANSWERS = st.one_of(
    mutated(lambda: [DOCUMENT, EVENTS, gzip.compress(DOCUMENT), EVENTS * 3]),
    DOCUMENTS.map(lambda values: b"".join(b"data: " + json.dumps(value).encode() + b"\n" for value in values)),
    st.builds(
        lambda name, value: json.dumps({"model": "\ud800", "usage": {name: value}}).encode(),
        st.sampled_from(("input_tokens", "prompt_tokens", "output_tokens", "input_tokens_details")),
        JSON_VALUES,
    ),
)
TYPES = st.sampled_from(("application/json", "text/event-stream; charset=x", "application/x-ndjson", "", "\0;"))


@st.composite
def _bodies(draw: DrawFn) -> bytes:
    """Bodies of model calls, with their names spelled in any way that JSON has."""

    def spelled(text: str) -> str:
        ways = {"/": ("/", "\\/")}
        return "".join(
            draw(st.sampled_from((*ways.get(sign, (sign,)), f"\\u{ord(sign):04x}", f"\\u{ord(sign):04X}")))
            for sign in text
        )

    names = st.sampled_from(("model", "model", "Model", "messages", "m", ""))
    values = st.sampled_from(("gpt-5", "claude-x", "models/gemini", "org/name:free", "x" * 100, ""))
    blanks = st.sampled_from(("", "", " ", "\n\t "))
    fields = [
        f'{draw(blanks)}"{spelled(draw(names))}"{draw(blanks)}:{draw(blanks)}"{spelled(draw(values))}"{draw(blanks)}'
        for _ in range(draw(st.integers(0, 3)))
    ]
    return f"{{{','.join(fields)}}}".encode()


METERING = (
    Target(
        "gateway-expected",
        _expected,
        st.tuples(
            st.one_of(
                mutated(
                    lambda: [b'{"max_tokens": 20, "n": 2, "messages": [{"content": "a\\"b"}], "options": {"x": 1e3}}']
                ),
                JSON_VALUES.map(lambda value: json.dumps({"max_tokens": value, "m": [value]}).encode()),
            ),
            st.lists(st.integers(0, 2**10), max_size=4),
        ),
        (),
        known=(
            (b'{"max_t\\u006fkens":20,"max_tokens":3}', (9, 20)),
            (b'{"a":"' + b"\\u006d" * 50_000 + b'"}', (7,)),
            (b'{"a":' + b"[" * 100_000, (5,)),
            (b'{"a":"' + b"x" * 500_000, (300_000,)),
            (b'{"a":' + b"1" * 500_000 + b"}", (7, 300)),
        ),
    ),
    Target(
        "gateway-usage",
        _usage,
        st.tuples(TYPES, ANSWERS, st.lists(st.integers(0, 2**20), max_size=4), st.booleans()),
        (),
        known=(
            ("text/event-stream", EVENTS, (9, 100), False),
            ("text/event-stream", b"event: x\ndata: y\n\n", (9, 17), True),
            ("text/event-stream", FAR_FROM_ITS_END + b"\n", (500_000,), True),
            ("application/json", FAR_FROM_ITS_END, (500_000,), True),
            ("application/json", MANY_DIGITS, (), True),
            ("application/json", b'{"model":"\\ud800","usage":{}}', (), True),
            ("application/json", b'{"usage":' * 50_000, (), True),
        ),
    ),
    Target(
        "gateway-models",
        _named,
        st.tuples(
            st.one_of(_bodies(), _bodies(), mutated(lambda: [b'{"model": "gpt-5", "messages": []}'])),
            st.lists(st.integers(0, 2**10), max_size=4),
        ),
        (),
        known=((b'{"model":"org\\/name"}', ()), (b'{"\\u006dodel" : "a\\/b"}', (4, 17, 21))),
    ),
)
