"""What the measured behaviour of a mount comes to. Pure; its specification is the table in its test."""

from __future__ import annotations

from enum import StrEnum

from shared_schema.dataclass import dataclass

QUICK = 0.5
"""Seconds within which a change must be seen by what is relied on. The measure itself has some tens of milliseconds."""


class MountVerdict(StrEnum):
    """How a mount is for agents on other machines."""

    COHERENT = "coherent"
    LATE = "late but safe"
    LOSES = "loses data"
    ALONE = "seen from one machine"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured. Times are seconds until the other machine saw a change, None: not within the limit.

    `locks`: a lock that one machine holds the other cannot take. Of the reader: whether it read everything in the end
    (`complete`), saw rows vanish (`back`), rows missing in between (`holes`), or a file that is none (`malformed`).
    """

    stat: float | None = None
    open: float | None = None
    descriptor: float | None = None
    new: float | None = None
    unlink: float | None = None
    rename: float | None = None
    listing: float | None = None
    locks: bool = False
    complete: bool = True
    back: int = 0
    holes: int = 0
    malformed: int = 0
    links: bool = True
    sockets: bool = True


def verdict_of(measured: Measured) -> tuple[MountVerdict, list[str]]:
    """The verdict, and sentences: why, and what cures it."""
    reasons = []
    for what, seconds in (
        ("a file that is opened afresh is old", measured.open),
        ("a file that was renamed over another is seen late", measured.rename),
        ("a listing is old", measured.listing),
    ):
        if seconds is None:
            reasons.append(f"{what}, for ever as it seems: mount it with close-to-open consistency (NFS without nocto)")
        elif seconds > QUICK:
            reasons.append(f"{what} ({seconds:.1f} s): mount it without caches of names and contents")
    if measured.back or measured.holes or measured.malformed or not measured.complete:
        reasons.append(
            "a database that one machine writes is not read right by another: "
            f"{measured.back} times rows vanished, {measured.holes} times some were missing, "
            f"{measured.malformed} times it was no database"
            + ("" if measured.complete else ", and not all was ever seen")
        )
    if reasons:
        return MountVerdict.LOSES, [*reasons, "do not put a data folder there; NFS 4.2, CephFS and MooseFS do"]
    late = [
        f"{what} {'is never seen' if seconds is None else f'is seen after {seconds:.1f} s'}"
        for what, seconds in (
            ("the size of a file that grew", measured.stat),
            ("a new file that was looked for before", measured.new),
            ("that a file is gone", measured.unlink),
            ("a change, at a descriptor that stays open,", measured.descriptor),
        )
        if seconds is None or seconds > QUICK
    ]
    if not measured.locks:
        late.append("locks end at the machine")
    sentences = list(late)
    if not measured.links:
        sentences.append("it has no hard links: agents' files are read from copies, which is slower")
    if not measured.sockets:
        sentences.append("it holds no sockets: agents on the host's own machine need gateway_address as well")
    sentences.append("set shared = true in dumbwaiter.toml: then nothing of that is relied on")
    return (MountVerdict.LATE if late else MountVerdict.COHERENT), sentences
