"""What an agent said, in the forms of OpenAI's API: chat completions and responses, whole and as events. Pure.

`shown` is what `host.operations.asking` says of a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from shared_schema.clock import from_text

Shown = Mapping[str, Any]


def seconds(at: str) -> int:
    """A stored time in seconds since 1970."""
    moment: datetime = from_text(at)
    return int(moment.timestamp())


def file_id(shown: Shown, message: Mapping[str, Any], file: Mapping[str, Any]) -> str:
    """The id of a file of an answer: GET /v1/files/<id>/content fetches it."""
    return f"file-{shown['id'].removeprefix('msg_')}-{message['id'].removeprefix('msg_')}-{file['number']}"


def files_of(shown: Shown) -> list[dict[str, Any]]:
    """The files of an answer: id and filename."""
    return [
        {"id": file_id(shown, message, file), "filename": file["name"]}
        for message in shown["messages"]
        for file in message["files"]
    ]


def model(agent: Mapping[str, Any]) -> dict[str, Any]:
    """An agent group as a model."""
    return {"id": agent["name"], "object": "model", "created": seconds(agent["created_at"]), "owned_by": "dumbwaiter"}


def chat_usage(shown: Shown) -> dict[str, Any]:
    """What the turn used, as a chat completion counts; zeros as long as that is not known."""
    used = shown["usage"] or {}
    prompt = sum(used.get(name, 0) for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens"))
    completion = used.get("output_tokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": used.get("cache_read_tokens", 0), "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens", 0), "audio_tokens": 0},
    }


def chat_completion(shown: Shown) -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": chat_id(shown),
        "object": "chat.completion",
        "created": seconds(shown["created_at"]),
        "model": shown["agent_group"],
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": shown["text"],
                    "refusal": None,
                    "annotations": [],
                    "files": files_of(shown),
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": chat_usage(shown),
        "session_id": shown["session_id"],
    }


def chat_id(shown: Shown) -> str:
    """The id of a chat completion."""
    return f"chatcmpl-{shown['id'].removeprefix('msg_')}"


def chat_chunk(shown: Shown, delta: Mapping[str, Any], *, finish: str | None = None) -> dict[str, Any]:
    """A piece of an answer."""
    return {
        "id": chat_id(shown),
        "object": "chat.completion.chunk",
        "created": seconds(shown["created_at"]),
        "model": shown["agent_group"],
        "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}],
    }


def chat_usage_chunk(shown: Shown) -> dict[str, Any]:
    """The last piece of an answer, where a program has asked for it."""
    return {**chat_chunk(shown, {}), "choices": [], "usage": chat_usage(shown)}


def response_id(message_id: str) -> str:
    """The id of a response."""
    return f"resp_{message_id.removeprefix('msg_')}"


_STATUS = {"queued": "queued", "completed": "completed", "failed": "failed", "cancelled": "cancelled"}


def response(shown: Shown, *, previous: str | None = None, text: str | None = None) -> dict[str, Any]:
    """A response, whole or under way. `text` is what was told of it, where that is more than the agent's messages."""
    status = _STATUS.get(shown["status"], "in_progress")
    error = None
    if status == "failed":
        code = "rate_limit_exceeded" if shown["is_over_budget"] else "server_error"
        error = {"code": code, "message": shown["error"] or "the agent failed"}
    is_over = shown["finished_at"] is not None
    said = shown["text"] if text is None else text
    return {
        "id": response_id(shown["id"]),
        "object": "response",
        "created_at": seconds(shown["created_at"]),
        "completed_at": seconds(shown["finished_at"]) if is_over else None,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": shown["agent_group"],
        "output": [output_item(shown, said)] if said or files_of(shown) else [],
        "parallel_tool_calls": False,
        "previous_response_id": previous,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": _response_usage(shown) if is_over else None,
        "user": None,
        "session_id": shown["session_id"],
    }


def _response_usage(shown: Shown) -> dict[str, Any]:
    used = chat_usage(shown)
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": used["prompt_tokens_details"]["cached_tokens"]},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": used["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": used["total_tokens"],
    }


def item_id(shown: Shown) -> str:
    """The id of the one item of a response."""
    return f"msg_{shown['id'].removeprefix('msg_')}"


def output_item(shown: Shown, text: str, *, status: str = "completed") -> dict[str, Any]:
    """The one item of a response."""
    return {
        "id": item_id(shown),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [output_part(shown, text)] if status == "completed" else [],
    }


def output_part(shown: Shown, text: str) -> dict[str, Any]:
    """The text of a response, with the files that belong to it."""
    files = [
        {"type": "file_path", "file_id": each["id"], "index": number, "filename": each["filename"]}
        for number, each in enumerate(files_of(shown))
    ]
    return {"type": "output_text", "text": text, "annotations": files, "logprobs": []}


class ResponseEvents:
    """The events of a response in their order, each with its number."""

    def __init__(self, shown: Shown, previous: str | None) -> None:
        self._shown = shown
        self._previous = previous
        self._number = 0
        self._place = {"item_id": item_id(shown), "output_index": 0, "content_index": 0}

    def begin(self) -> Iterator[dict[str, Any]]:
        """Before the first word."""
        begun = response({**self._shown, "status": "working", "text": "", "messages": []}, previous=self._previous)
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        item = output_item(self._shown, "", status="in_progress")
        yield self._event("response.output_item.added", output_index=0, item=item)
        empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._event("response.content_part.added", **self._place, part=empty)

    def delta(self, piece: str) -> dict[str, Any]:
        """A piece of the answer."""
        return self._event("response.output_text.delta", **self._place, delta=piece, logprobs=[])

    def end(self, shown: Shown, text: str) -> Iterator[dict[str, Any]]:
        """Behind the last word; `text` is all of them."""
        whole = response(shown, previous=self._previous, text=text)
        if shown["status"] == "completed":
            part = output_part(shown, text)
            yield self._event("response.output_text.done", **self._place, text=text, logprobs=[])
            yield self._event("response.content_part.done", **self._place, part=part)
            yield self._event("response.output_item.done", output_index=0, item=output_item(shown, text))
            yield self._event("response.completed", response=whole)
        else:  # OpenAI's clients know no other end of what did not go well
            yield self._event("response.failed", response=whole)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **more}
