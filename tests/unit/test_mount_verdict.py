"""What a measured mount comes to: the rows are the mounts that were tried, with their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from host.operations.mount_measure import beside, measure
from host.operations.mount_verdict import Measured, MountVerdict, verdict_of
from shared_schema.errors import FileTrouble

COHERENT = Measured(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, locks=True)
NFS_4 = Measured(2.7, 0.0, None, 15.0, 3.0, 0.0, 0.0, locks=True)
BINDFS = Measured(2.7, 0.0, None, 3.0, 3.0, 0.0, 0.0, locks=False)
SSHFS = Measured(5.5, 0.0, None, 0.0, 15.0, 0.0, 0.0, locks=False, links=False)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (COHERENT, MountVerdict.COHERENT),
        (NFS_4, MountVerdict.LATE),
        (BINDFS, MountVerdict.LATE),
        (SSHFS, MountVerdict.LATE),
        (replace(COHERENT, locks=False), MountVerdict.LATE),
        (replace(BINDFS, open=3.0), MountVerdict.LOSES),  # no close-to-open consistency
        (replace(BINDFS, open=None), MountVerdict.LOSES),
        (replace(COHERENT, listing=15.0), MountVerdict.LOSES),
        (replace(COHERENT, rename=None), MountVerdict.LOSES),
        (replace(COHERENT, back=1), MountVerdict.LOSES),
        (replace(COHERENT, holes=1), MountVerdict.LOSES),
        (replace(COHERENT, malformed=1), MountVerdict.LOSES),
        (replace(COHERENT, complete=False), MountVerdict.LOSES),
    ],
)
def test_a_mount_is_judged_by_what_is_relied_on(measured: Measured, verdict: MountVerdict) -> None:
    found, sentences = verdict_of(measured)
    assert found is verdict
    assert any("shared = true" in each for each in sentences) is (verdict is not MountVerdict.LOSES)


def test_what_is_late_is_said_with_its_seconds() -> None:
    _, sentences = verdict_of(SSHFS)
    assert "the size of a file that grew is seen after 5.5 s" in sentences
    assert "a change, at a descriptor that stays open, is never seen" in sentences
    assert "locks end at the machine" in sentences
    assert any("no hard links" in each for each in sentences)


def test_a_folder_of_one_machine_is_coherent(tmp_path: Path) -> None:
    measured = measure(tmp_path, beside(tmp_path))
    assert verdict_of(measured)[0] is MountVerdict.COHERENT or measured.open is not None
    assert (measured.complete, measured.back, measured.holes, measured.malformed) == (True, 0, 0, 0)
    assert (measured.locks, measured.links, measured.sockets) == (True, True, True)
    assert list(tmp_path.iterdir()) == []


def test_the_other_side_that_does_not_answer_is_said_with_what_to_look_at(tmp_path: Path) -> None:
    def silent(folder: str, arguments: Sequence[str]) -> str:
        raise TimeoutError

    with pytest.raises(FileTrouble, match="the other side of the check does not answer") as refused:
        measure(tmp_path, silent)

    assert str(refused.value.hint) == f"see whether `ls {tmp_path}` comes back there"
    assert list(tmp_path.iterdir()) == []
