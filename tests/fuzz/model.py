"""What a model is given out of the transcript, of any provider and any age, and how a model is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
)

from container_agent.providers import model_history, model_images, model_names
from container_agent.providers.protocol import ProviderError, Step
from shared_schema.layout import SessionLayout
from tests.fuzz.outbound_file import session_in
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, BROKEN_JSON, JSON_VALUES, content

PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
SECRET = b"nobody's business"
_HERE = "http://127.0.0.1:4711"


@contextmanager
def _history(folder: Path) -> Iterator[Drive]:
    """Any steps become messages that a vendor takes, and the same ones each time."""
    session = _with_pictures(folder)

    def drive(steps: Sequence[Step]) -> None:
        messages = model_history.messages_of(steps, session)
        written = ModelMessagesTypeAdapter.dump_json(messages)
        assert SECRET not in written
        if messages:
            assert isinstance(messages[0], ModelRequest)
        waiting: set[str] = set()
        used: set[str] = set()
        for message in messages:
            if isinstance(message, ModelResponse):
                assert not waiting, "a call without a result"
                calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
                assert message.parts
                for call in calls:
                    json.dumps(call.args_as_dict(), ensure_ascii=False, allow_nan=False).encode()
                    assert call.tool_call_id not in used
                    assert call.tool_call_id.isascii()
                    used.add(call.tool_call_id)
                waiting = {call.tool_call_id for call in calls}
                continue
            for part in message.parts:
                if isinstance(part, ToolReturnPart | RetryPromptPart) and part.tool_call_id in waiting:
                    waiting.remove(part.tool_call_id)
                else:
                    assert not isinstance(part, ToolReturnPart), "a result without a call"
        assert not waiting, "a call without a result"

    yield drive


@contextmanager
def _parts(folder: Path) -> Iterator[Drive]:
    """Content is text or a list of parts; an image is one of the session's own inbox."""
    session = _with_pictures(folder)

    def drive(said: str) -> None:
        parts = model_images.parts_of(said)
        assert parts is None or all("type" in part for part in parts)
        user = model_history.user_part(said, session).content
        for shown in [user] if isinstance(user, str) else user:
            if isinstance(shown, BinaryContent):
                assert shown.data == PICTURE
            else:
                str(shown).encode()

    yield drive


@contextmanager
def _name(folder: Path) -> Iterator[Drive]:
    """A text names a model of a kind, and a place that is a URL and has a host."""

    def drive(value: tuple[str, Mapping[str, str]]) -> None:
        text, environment = value
        choice = model_names.chosen(text, environment)
        assert choice.name
        assert choice.service
        assert choice.key not in repr(choice) or choice.key in text + "".join(model_names.ModelKind)
        assert choice.url == "" or choice.url.startswith(("http://", "https://"))
        model_names.usual_window(choice)

    yield drive


def _with_pictures(folder: Path) -> SessionLayout:
    """A session with an image in its inbox, and things that are none, or are not its own."""
    session = session_in(folder)
    place = session.inbox / "msg_1"
    place.mkdir()
    (place / "a.png").write_bytes(PICTURE)
    (place / "b.txt").write_bytes(SECRET)
    (place / "link").symlink_to(folder / "secret.png")
    (folder / "secret.png").write_bytes(PICTURE[:8] + SECRET)
    return session


PATHS = st.sampled_from(
    ("inbox/msg_1/a.png", "inbox/msg_1/b.txt", "inbox/msg_1/link", "inbox/../../../secret.png", "inbox", "\0", "\ud800")
)
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(("text", "image", "odd"))},
        optional={"text": ANY_TEXT | JSON_VALUES, "path": PATHS | JSON_VALUES},
    ),
    max_size=3,
).map(json.dumps)
CALL_IDS = st.sampled_from(("call_1", "call_2", "call_0", "a b", "", "x" * 41))
CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": CALL_IDS | JSON_VALUES,
            "tool_call_id": CALL_IDS,
            "name": st.sampled_from(("read_file", "a b", "")) | JSON_VALUES,
            "arguments": content(path=ANY_TEXT) | JSON_VALUES,
            "input": JSON_VALUES,
            "function": st.fixed_dictionaries({"name": ANY_TEXT, "arguments": content()}) | JSON_VALUES,
        },
    ),
    max_size=3,
).map(json.dumps)
TEXTS = st.one_of(st.none(), ANY_TEXT, PARTS, st.sampled_from(BROKEN_JSON))
STEPS = st.builds(
    Step,
    st.sampled_from(("user", "assistant", "assistant", "tool", "tool", "system", "")),
    content=TEXTS,
    tool_name=st.sampled_from(("read_file", None)) | ANY_TEXT,
    tool_call_id=st.none() | CALL_IDS | ANY_TEXT,
    tool_calls=st.one_of(st.none(), CALLS, CALLS, JSON_VALUES.map(json.dumps), st.sampled_from(BROKEN_JSON)),
    reasoning=st.none() | ANY_TEXT,
    usage=st.none() | ANY_TEXT,
)
_CALL = Step("assistant", tool_calls='[{"id":"call_1","name":"read_file"}]')
MODELS = st.one_of(
    st.tuples(
        st.sampled_from(("anthropic:", "openai:", "google:", "ollama:", "other:", "", "Anthropic:", "openai")),
        st.sampled_from(("gpt", "qwen3:8b", "org/name", "@", "a@b@c", "")) | ANY_TEXT,
        st.sampled_from(
            ("", "@local", "@http://h:1/v1", "@https://", "@http://[::1", "@http://h:99999", "@ftp://h", "@\u0131")
        ),
    ).map("".join),
    ANY_TEXT,
)
ENVIRONMENTS = st.sampled_from(
    ({}, {f"{kind}_BASE_URL": f"{_HERE}/upstream/{kind.lower()}/v1" for kind in ("ANTHROPIC", "OPENAI", "OLLAMA")})
)

MODEL = (
    Target(
        "model-history",
        _history,
        st.lists(STEPS, max_size=6),
        (),
        known=(
            [_CALL, _CALL],
            [Step("tool", "late", "read_file", "call_1"), _CALL, Step("user", "x"), Step("tool", "y", "z", "call_1")],
            [Step("assistant", tool_calls="[" * 100_000)],
            [Step("assistant", tool_calls='[{"name":"a","arguments":{"\\ud800":1}}]')],
            [Step("assistant", tool_calls='[{"name":"a","arguments":"{\\"x\\":NaN}"}]')],
        ),
    ),
    Target(
        "model-parts", _parts, st.one_of(PARTS, TEXTS.map(lambda said: said or ""), JSON_VALUES.map(json.dumps)), ()
    ),
    Target("model-name", _name, st.tuples(MODELS, ENVIRONMENTS), (ProviderError,)),
)
