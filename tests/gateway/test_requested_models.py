"""Which models a request may mean, however it is written and cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.gateway.requested_models import RequestedModels

LONG = "x" * 5000


def named(body: bytes, path: str = "/v1/messages", *, size: int = 0) -> frozenset[str]:
    """What is found in a body, cut into chunks of a size."""
    models = RequestedModels(path)
    for at in range(0, len(body), size or max(1, len(body))):
        models.feed(body[at : at + size] if size else body)
    return models.names


BODIES: dict[str, bytes] = {
    "first": json.dumps({"model": "gpt-4o", "messages": [LONG]}).encode(),
    "last": json.dumps({"messages": [LONG], "model": "gpt-4o"}, indent=4).encode(),
    "spread out": b'{"messages": [], "model"' + b" \r\n\t" * 3000 + b":" + b"\n" * 9000 + b'"gpt-4o"}',
    "escaped": b'{"m\\u006fdel": "gpt\\u002D4o"}',
    "escaped all over": b'{"' + b"".join(b"\\u%04x" % c for c in b"model") + b'": "gpt-4o"}',
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [0, 1, 7, 1024])
def test_the_model_of_a_request_is_found(name: str, size: int) -> None:
    assert named(BODIES[name], size=size) == {"gpt-4o"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1beta/models/gemini-3.8-flash:generateContent", {"gemini-3.8-flash"}),
        ("/v1beta/models/gemini%2D3.8-fl%61sh:streamGenerateContent", {"gemini-3.8-flash"}),
        ("/v1/messages", set()),
    ],
)
def test_google_is_asked_for_a_model_by_the_path(path: str, expected: set[str]) -> None:
    assert named(b"{}", path) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"content": '{"model": "said by somebody"}'}]},
        {"tools": [{"parameters": {"properties": {"model": {"type": "string"}}}}]},
        {"model": None},
        {"model": ["gpt-4o"]},
    ],
)
def test_what_is_no_name_of_a_model_is_not_taken_for_one(fields: dict[str, Any]) -> None:
    assert named(json.dumps(fields).encode()) == frozenset()


def test_of_several_names_all_count() -> None:
    body = b'{"model": "cheap", "metadata": {"model": "dear"}, "model": "cheap"}'
    assert named(body, size=5) == {"cheap", "dear"}


_OTHERS = st.dictionaries(
    st.text().filter(lambda name: name != "model"),
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4)),
    max_size=3,
)


@given(_OTHERS, _OTHERS, st.sets(st.sampled_from("modelgpt-4")), st.booleans(), st.integers(1, 50))
def test_a_name_is_found_in_any_request_however_it_is_spelled_and_cut(
    before: dict[str, Any], after: dict[str, Any], escaped: set[str], is_ascii: bool, size: int
) -> None:
    plain = '"model": "gpt-4o"'
    spelled = "".join(f"\\u{ord(letter):04x}" if letter in escaped else letter for letter in plain)
    text = json.dumps({**before, "model": "gpt-4o", **after}, ensure_ascii=is_ascii).replace(plain, spelled)
    assert "gpt-4o" in named(text.encode("utf-8", "surrogatepass"), size=size)


def test_no_more_names_are_kept_than_an_honest_request_has() -> None:
    models = RequestedModels("")
    for number in range(1000):
        models.feed(b'{"model":"m%d"}' % number)
    assert models.are_too_many
    assert len(models.names) == 100
