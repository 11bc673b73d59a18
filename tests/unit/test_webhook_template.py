"""Templates, JSON pointers and signatures of webhooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from host.channels.webhook.settings import WebhookSettings
from host.channels.webhook.signature import SignatureRefused, require_recent, require_signed, signed
from host.channels.webhook.template import MAX_TEXT, at, filled, identifier

# The example of RFC 6901, section 5.
DOCUMENT = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3),
        ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8), ("/foo/2", None), ("/foo/-1", None),
        ("/foo/x", None), ("/foo/9999999999999", None), ("/foo/0/0", None), ("/nothing", None),
    ],
)  # fmt: skip
def test_a_pointer_finds_what_the_rfc_says(pointer: str, value: Any) -> None:
    assert at(DOCUMENT, pointer) == value


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{/title}: {/n}", "full: 3"), ("{{/title}}", "{/title}"), ("{/none}|", "|"), ("{/list}", '[\n  1\n]'),
        ("{/yes}", "true"), ("", ""), ("{}", json.dumps({"title": "full", "n": 3, "list": [1], "yes": True}, indent=2)),
    ],
)  # fmt: skip
def test_a_template_is_filled(template: str, text: str) -> None:
    assert filled(template, {"title": "full", "n": 3, "list": [1], "yes": True}) == text


def test_a_template_that_names_one_long_value_often_is_bounded() -> None:
    assert len(filled("{/a}" * 900, {"a": "x" * 900_000})) == MAX_TEXT


@pytest.mark.parametrize("value", [True, None, 1.5, [], {}, ""])
def test_what_cannot_identify_is_no_identifier(value: Any) -> None:
    assert identifier({"a": value}, "/a") is None


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"text": "{/a"}, "is not closed"), ({"text": "a}"}, "was not opened"), ({"text": "{a}"}, "begins with '/'"),
        ({"sender": "a"}, "begins with '/'"), ({"secret": "short"}, "openssl rand -hex 32"),
        ({"secret": "whsec_!"}, "not base64"), ({"url": "ftp://x"}, "https://"),
        ({"hooks": {"a": {"b": 1}}}, "hooks.a.b"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_with_a_sentence(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        WebhookSettings.model_validate({"type": "webhook", "secret": "x" * 16} | wrong)


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of Standard Webhooks 1.0."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1a,AAAA v1,bm90IHRoaXM= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'

    require_recent(headers, 1614265330.0, 300)
    require_signed(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], headers, body)
    with pytest.raises(SignatureRefused):
        require_signed(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], headers, body + b" ")
    assert signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers["webhook-id"], 1614265330, body)[
        "webhook-signature"
    ] in headers["webhook-signature"].split(" ")
