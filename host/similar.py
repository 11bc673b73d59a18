"""What a mistyped name is likely to mean."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean '…'` to go on a sentence with; empty where no known name is alike.

    Only for names that all who may ask may see.
    """
    like = get_close_matches(name, list(known), 1)
    return f", did you mean '{like[0]}'" if like else ""
