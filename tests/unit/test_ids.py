"""Identifiers are a type and random digits, and nothing else passes for one."""

from __future__ import annotations

import pytest

from shared_schema.errors import InvalidValue
from shared_schema.ids import Prefix, is_id, new_id, require_id


@pytest.mark.parametrize("prefix", list(Prefix))
def test_a_new_id_is_an_id_of_its_type_and_of_no_other(prefix: Prefix) -> None:
    value = new_id(prefix)
    assert [other for other in Prefix if is_id(value, other)] == [prefix]
    assert require_id(value, prefix) == value


def test_ten_thousand_ids_are_ten_thousand() -> None:
    assert len({new_id(Prefix.MESSAGE) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "value",
    [
        "",
        "msg_",
        "msg_0123456789abcde",
        "msg_0123456789abcdef0",
        "msg_0123456789ABCDEF",
        "MSG_0123456789abcdef",
        "msg-0123456789abcdef",
        "msg_0123456789abcdef\n",
        " msg_0123456789abcdef",
        "msg_../../../etc/pas",
        "msg_0123456789abcde\u0661",
        None,
        7,
        b"msg_0123456789abcdef",
        ["msg_0123456789abcdef"],
    ],
)
def test_what_is_not_quite_an_id_is_none(value: object) -> None:
    assert not is_id(value, Prefix.MESSAGE)
    with pytest.raises(InvalidValue, match="is not an id of the form msg_<16 hex digits>"):
        require_id(value, Prefix.MESSAGE)  # type: ignore[arg-type]
