"""Names of packages that an agent may ask for, as apt and pip know them. Pure; both sides check.

They become arguments of two programs that run as root while an image is built, so the form is narrow: a name, and of a
version what pip or apt compare. No option, no URL, no path, no blank.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from shared_schema.dataclass import dataclass

Manager = Literal["apt", "pip"]
MANAGERS: tuple[Manager, ...] = ("apt", "pip")
MOST_ASKED = 20
"""Packages in one request."""
MOST_PACKAGES = 100
"""Packages of one agent group."""
LONGEST = 120
# Debian Policy 5.6.1 and 5.6.12: a source or binary package, perhaps with a version.
_APT = re.compile(r"[a-z0-9][a-z0-9+.-]{1,79}(=[A-Za-z0-9][A-Za-z0-9.+:~-]{0,79})?")
# PEP 508: a name with extras and version specifiers; no URL and no marker.
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9])?"
_VERSION = r"(?:===|==|~=|!=|<=|>=|<|>)[A-Za-z0-9][A-Za-z0-9.*+!_-]{0,39}"
_PIP = re.compile(rf"{_NAME}(?:\[{_NAME}(?:,{_NAME})*\])?(?:{_VERSION}(?:,{_VERSION})*)?")
_FORMS = {"apt": _APT, "pip": _PIP}
_EXAMPLES = {"apt": "ffmpeg, or ffmpeg=7:5.1.6-0+deb12u1", "pip": "pandas, or pandas>=2,<3"}


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed by each of the two; sorted, each once."""

    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apt or self.pip)

    def with_more(self, more: Packages) -> Packages:
        """These and more of them. Of two of one name the later one counts: it says another version."""
        return Packages(_merged(self.apt, more.apt), _merged(self.pip, more.pip))

    def as_json(self) -> dict[str, list[str]]:
        """The form in which they are stored."""
        return {"apt": list(self.apt), "pip": list(self.pip)}

    @classmethod
    def from_json(cls, found: dict[str, list[str]]) -> Packages:
        """From the form in which they are stored."""
        return cls(tuple(found["apt"]), tuple(found["pip"]))


def problem(manager: Manager, package: str) -> str | None:
    """Why something is no package, as a sentence; None when it can be one."""
    if len(package) > LONGEST or _FORMS[manager].fullmatch(package) is None:
        return f"'{package[:60]}' is no package of {manager}; write such as {_EXAMPLES[manager]}"
    return None


def bare(package: str) -> str:
    """The name of a package without extras and versions, as it is compared with others."""
    return re.split(r"[\[=<>~!]", package, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _merged(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    by_name = {bare(package): package for package in (*old, *new)}
    return tuple(sorted(by_name.values()))
