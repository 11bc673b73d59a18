"""What a call can use at most, out of its body."""

from __future__ import annotations

import json

import pytest

from host.gateway.expected import LARGEST_OUTPUT, ExpectedOutput

CHAT = "/v1/chat/completions"
LONG = "x" * 1000 + '"\\' * 50


def _read(body: bytes, path: str = CHAT, piece: int = 10**9) -> ExpectedOutput:
    expected = ExpectedOutput(path)
    for at in range(0, len(body), piece):
        expected.feed(body[at : at + piece])
    return expected


@pytest.mark.parametrize("piece", [1, 7, 10**9])
@pytest.mark.parametrize(
    ("body", "path", "tokens"),
    [
        ({"max_tokens": 10}, CHAT, 10),
        ({"max_completion_tokens": 10, "n": 3, "messages": [{"content": LONG}]}, CHAT, 30),
        ({"max_output_tokens": 7, "input": LONG}, "/v1/responses", 7),
        ({"generationConfig": {"maxOutputTokens": 9, "candidateCount": 2}}, "/v1beta/models/g:generateContent", 18),
        ({"options": {"num_predict": 5}}, "/api/chat", 5),
        ({"options": {"num_predict": -1}}, "/api/chat", LARGEST_OUTPUT),
        ({"max_tokens": None}, CHAT, LARGEST_OUTPUT),
        ({"prompt": "x"}, "/v1/completions", 16),
        ({"input": "x"}, "/v1/embeddings", 0),
        ({"tools": [{"max_tokens": 1}], "metadata": {"max_tokens": 1}}, CHAT, LARGEST_OUTPUT),
        ({"messages": [{"content": '"max_tokens": 1'}]}, CHAT, LARGEST_OUTPUT),
        ({"max_tokens": 1e30, "n": 1e30}, CHAT, 10**7),
    ],
)
def test_the_output_is_what_the_request_allows_itself(
    body: dict[str, object], path: str, tokens: int, piece: int
) -> None:
    read = _read(json.dumps(body, indent=1).encode(), path, piece)
    assert (read.tokens(), read.is_readable) == (tokens, True)


@pytest.mark.parametrize("piece", [1, 10**9])
def test_a_field_is_known_however_it_is_spelt_and_the_largest_of_several_counts(piece: int) -> None:
    assert _read(b'{"max_t\\u006fkens":20,"max_tokens":3}', piece=piece).tokens() == 20


@pytest.mark.parametrize("piece", [1, 10**9])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b'"max_tokens"',
        b"{} {}",
        b'{"a":1',
        b'{"a',
        b"{" + b"x" * 1000 + b"}",
        b'{"a":tru}',
        '{"max_tokens":1}'.encode("utf-16"),
        '{"max_tokens":1}'.encode("utf-16-le"),
        b"\x1f\x8b\x08 compressed",
        b"max_tokens=1",
    ],
)
def test_what_is_not_one_object_cannot_be_read(body: bytes, piece: int) -> None:
    assert not _read(body, piece=piece).is_readable


def test_what_a_model_gives_at_most_counts_where_nothing_is_said() -> None:
    assert _read(b'{"model":"x"}').tokens(4_096) == 4_096
    assert _read(b'{"model":"x","n":3}').tokens(4_096) == 3 * 4_096
    assert _read(b'{"max_tokens":9000}').tokens(4_096) == 9_000
    assert _read(b'{"max_tokens":-1}').tokens(4_096) == 4_096
    assert _read(b'{"prompt":"x"}', "/v1/completions").tokens(4_096) == 16
