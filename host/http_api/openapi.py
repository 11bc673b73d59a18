"""What there is to call below `/api`, as OpenAPI 3.1: operations from their signatures, and the routes of runs."""

from __future__ import annotations

from functools import cache
from typing import Any

from host.http_api.operations_api import STREAMED, offered, path_of
from host.http_api.signatures import Parameter, parameters_of, sentence_of
from host.operations import registry

_JSON, _PROBLEM, _EVENTS, _LINES = (
    "application/json", "application/problem+json", "text/event-stream", "application/x-ndjson",
)  # fmt: skip
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The call is done once for each key, however often it comes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}
_REFUSALS = {
    "400": "The call cannot be right.",
    "401": "The token does not hold.",
    "403": "The token may not do this.",
    "404": "There is none, or the token does not reach it.",
    "408": "The body did not come in time.",
    "409": "The state of things forbids it.",
    "413": "The call is too large.",
    "415": "The body is no JSON.",
    "429": "A budget is used up, or too many calls are under way.",
    "500": "It failed.",
    "503": "Not now.",
}
_PATH = {"type": "string", "minLength": 1, "maxLength": 100}
_FILE = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "data": {"type": "string", "contentEncoding": "base64"}},
    "required": ["name", "data"],
    "additionalProperties": False,
}
_START = {
    "type": "object",
    "properties": {
        "agent_group": {"type": "string", "maxLength": 200, "description": "The agent that is asked."},
        "text": {"type": "string", "description": "What it is asked."},
        "session": {
            "type": ["string", "null"],
            "maxLength": 10000,
            "description": "A name of the caller's for the conversation; without one it is a new one.",
        },
        "files": {"type": ["array", "null"], "items": _FILE},
    },
    "required": ["agent_group", "text"],
    "additionalProperties": False,
}
_DECISION = {
    "type": "object",
    "properties": {
        "answer": {"enum": ["approve", "deny"]},
        "choice": {"type": ["string", "null"], "maxLength": 200, "description": "Which yes, where there are several."},
    },
    "required": ["answer"],
    "additionalProperties": False,
}


@cache
def document() -> dict[str, Any]:
    """The document."""
    paths = {path_of(name): _operation(name) for name in sorted(offered())}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dumbwaiter",
            "version": "1",
            "description": "Every operation of a host, and the work of its agents.",
        },
        "paths": paths | _runs() | {"/api/openapi.json": {"get": _document_itself()}},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _problem(), "Run": _run()},
        },
        "security": [{"token": []}],
    }


def _operation(name: str) -> dict[str, Any]:
    operation = offered()[name]
    summary, description = sentence_of(operation)
    parameters = parameters_of(name, operation)
    kind = _LINES if name in STREAMED else _JSON
    described = {
        "operationId": name,
        "summary": summary[:200],
        "description": description,
        "tags": [name.partition(".")[0]],
        "responses": {"200": _content("What the operation gives.", kind, {})} | _refused(),
    }
    if registry.only_looks(name):
        return {"get": described | {"parameters": [_in_query(each) for each in parameters]}}
    schema = {
        "type": "object",
        "properties": {each.name: _or_none(each) for each in parameters},
        "required": [each.name for each in parameters if each.is_required],
        "additionalProperties": False,
    }
    keyed = {} if name in STREAMED else {"parameters": [_KEY]}
    body = {"required": bool(schema["required"]), "content": {_JSON: {"schema": schema}}}
    return {"post": described | keyed | {"requestBody": body}}


def _in_query(parameter: Parameter) -> dict[str, Any]:
    return {"name": parameter.name, "in": "query", "required": parameter.is_required, "schema": parameter.schema}


def _or_none(parameter: Parameter) -> dict[str, Any]:
    if not parameter.may_be_none:
        return parameter.schema
    return {"anyOf": [parameter.schema, {"type": "null"}]}


def _runs() -> dict[str, Any]:
    run, run_id = {"$ref": "#/components/schemas/Run"}, _in_path("id")
    start = _described("run.start", "Ask an agent something; the answer is fetched or followed.", "202", _JSON, run)
    decide = _described("run.decide", "Decide what a run waits for.", "200", _JSON, {})
    code = _in_path("code")
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}}
    number = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    after = {"name": "after", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}}
    session = {"name": "session", "in": "query", "schema": {"type": "string"}}
    listed = _described(
        "run.list", "What was asked last, the newest first.", "200", _JSON, {"type": "array", "items": run}
    )
    shown = _described("run.show", "How a run stands.", "200", _JSON, run)
    followed = _described(
        "run.follow", "What a run says and does, until it is over.", "200", _EVENTS, {"type": "string"}
    )
    stopped = _described("run.stop", "End a run, and what waits in its conversation.", "200", _JSON, run)
    file = _described("run.file", "A file of an answer.", "200", "application/octet-stream", {"type": "string"})
    events = _described("event.follow", "What happens in the host, without end.", "200", _EVENTS, {"type": "string"})
    return {
        "/api/runs": {
            "get": listed | {"parameters": [limit]},
            "post": start
            | {
                "parameters": [_KEY],
                "requestBody": {"required": True, "content": {_JSON: {"schema": _START}}},
            },
        },
        "/api/runs/{id}": {"get": shown | {"parameters": [run_id]}},
        "/api/runs/{id}/events": {"get": followed | {"parameters": [run_id]}},
        "/api/runs/{id}/stop": {"post": stopped | {"parameters": [run_id]}},
        "/api/runs/{id}/approvals/{code}": {
            "post": decide
            | {
                "parameters": [run_id, code, _KEY],
                "requestBody": {"required": True, "content": {_JSON: {"schema": _DECISION}}},
            }
        },
        "/api/runs/{id}/files/{message}/{number}": {
            "get": file | {"parameters": [run_id, _in_path("message"), number]}
        },
        "/api/events": {"get": events | {"parameters": [after, session]}},
    }


def _document_itself() -> dict[str, Any]:
    return _described("openapi", "This document.", "200", _JSON, {"type": "object"})


def _described(name: str, summary: str, status: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": [name.partition(".")[0]],
        "responses": {status: _content(summary, kind, schema)} | _refused(),
    }


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _PATH}


def _content(description: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _refused() -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {status: _content(said, _PROBLEM, problem) for status, said in _REFUSALS.items()}


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What happened, as a sentence."},
            "next": {"type": ["string", "null"], "description": "What to do about it."},
            "code": {"type": ["string", "null"]},
        },
        "required": ["type", "title", "status", "detail", "next", "code"],
    }


def _run() -> dict[str, Any]:
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "id": text,
            "session_id": text,
            "agent_group": text,
            "status": {"enum": ["queued", "working", "completed", "failed", "cancelled"]},
            "error": maybe,
            "is_over_budget": {"type": "boolean"},
            "created_at": text,
            "finished_at": maybe,
            "text": {"type": "string", "description": "All that answers it."},
            "messages": {"type": "array", "items": {"type": "object"}},
            "model": maybe,
            "tool": maybe,
            "approvals": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": ["object", "null"]},
        },
        "required": ["id", "session_id", "agent_group", "status", "text", "messages", "approvals", "usage"],
    }
