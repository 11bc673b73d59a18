"""Sizes of memory as people write them."""

from __future__ import annotations

import re

import click

_SIZE = re.compile(r"(?P<number>\d{1,18})\s*(?P<unit>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class Size(click.ParamType[int]):
    """Bytes, or a whole number with a unit: `512m`, `2G`, `2GiB` (units are powers of 1024)."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"'{value}' is not a size: write bytes, or a number with k, m or g, such as 512m", param, ctx)
        return int(match["number"]) * _FACTOR[match["unit"].lower()]
