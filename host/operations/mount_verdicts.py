"""What `mount check` found of the mount on which the data folder lies, kept for the next start of the host.

A verdict is of one mount as it is mounted: with other options, or from elsewhere, it says nothing any more.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from host.operations.mount_verdict import MountVerdict
from host.place import mounted
from shared_schema import json_text
from shared_schema.clock import Clock, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, FileTrouble
from shared_schema.layout import DataLayout
from shared_schema.system_errors import words_of

ALONE = "this machine"
"""What a mount was measured with where two processes of one machine were compared."""


class LosesData(Conflict):
    """The data folder lies on a mount on which agents of other machines would lose data."""


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    """One of them. `other` is the node, or the other mount, it was measured with; `mount` what was mounted how."""

    other: str
    verdict: str
    sentences: tuple[str, ...]
    at: str
    mount: str


def keep(layout: DataLayout, path: Path, found: Sequence[tuple[str, str, Sequence[str]]], clock: Clock) -> None:
    """Keep verdicts (other, verdict, sentences) of a path, where the data folder lies on the same mount; blocks.

    Raises `FileTrouble`.
    """
    try:
        if not layout.data.is_dir() or path.stat().st_dev != layout.data.stat().st_dev:
            return
        mount, now = mounted(layout.data, with_options=True), to_text(clock.now())
        new = {other: KeptVerdict(other, verdict, tuple(why), now, mount) for other, verdict, why in found}
        kept = {each.other: each for each in read(layout)} | new
        draft = layout.mount_verdicts.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps([asdict(each) for each in kept.values()]))
        draft.replace(layout.mount_verdicts)
    except OSError as error:
        raise FileTrouble(f"the verdict cannot be kept: {words_of(error)}", where=layout.mount_verdicts) from error


def read(layout: DataLayout) -> list[KeptVerdict]:
    """Those of the mount as it is now; none where the file cannot be read. Blocks."""
    try:
        found = json_text.parse(layout.mount_verdicts.read_text(encoding="utf-8"))
        kept = [KeptVerdict(**(each | {"sentences": tuple(each["sentences"])})) for each in found]
        mount = mounted(layout.data, with_options=True)
    except (OSError, ValueError, TypeError, KeyError):
        return []
    return [each for each in kept if each.mount == mount]


def require_safe(layout: DataLayout) -> None:
    """Refuse a mount that was found to lose data. Blocks. Raises `LosesData`."""
    for each in read(layout):
        if each.verdict == MountVerdict.LOSES:
            raise LosesData(
                f"the data folder lies on a mount that loses data, as was measured with {each.other} ({each.at}): "
                f"{each.sentences[0] if each.sentences else 'what is written there is not read right'}",
                where=layout.data,
                hint=f"mount it otherwise, or choose a folder on another mount with --data, then type "
                f"`{check_line(layout, each.other)}`",
            )


def check_line(layout: DataLayout, other: str) -> str:
    """What measures the mount of the data folder again."""
    option = "--beside" if other.startswith("/") else "--with"
    given = [] if other == ALONE else [option, other]
    data = str(layout.data.absolute())
    return shlex.join(["dumbwaiter", "mount", "check", data, *given, "--data", data])
