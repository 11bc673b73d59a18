"""`python -m tests.fuzz TARGET…|all`: fuzz with atheris, guided by the coverage of the product's own code.

    --runs N        inputs for each target (100,000)
    --input FILE    drive one target with an input that was kept, and nothing else

Each target has a process of its own, because libFuzzer ends the process; as many as there are cores run at a time.
What one finds is kept as build/fuzz/TARGET-crash-…, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"
PRODUCT = ["host", "container_agent", "shared_schema"]
_LONGEST = 16_384
_MEMORY_MIB = 4096
_SECONDS = 10  # for one input, by the clock; `judge` measures what it takes of the processor
_OUTPUT_KEPT = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target: inputs that reached the reader, seconds, and the end of what a finding printed."""

    inputs: int
    seconds: float
    finding: str | None


def fuzz(name: str, runs: int, folder: Path) -> Outcome:
    """Fuzz one target in a process of its own. `folder` takes the corpus and the count."""
    began = time.monotonic()
    KEPT.mkdir(parents=True, exist_ok=True)
    child = [sys.executable, "-m", "tests.fuzz", name, "--runs", str(runs), "--child", str(folder)]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, check=False)
    count = folder / "count"
    inputs = int(count.read_text()) if count.exists() else 0
    finding = None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace")[-_OUTPUT_KEPT:]
        finding = f"{said}\nexit status {done.returncode}"
    return Outcome(inputs, time.monotonic() - began, finding)


def fuzz_all(names: Sequence[str], runs: int) -> Iterator[tuple[str, Outcome]]:
    """Fuzz these targets, as many at a time as there are cores: each with what became of it, when it is over."""

    def one(name: str) -> Outcome:
        with TemporaryDirectory(prefix="fuzz-") as folder:
            return fuzz(name, runs, Path(folder))

    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        begun = {pool.submit(one, name): name for name in names}
        for over in as_completed(begun):
            yield begun[over], over.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _child(name: str, runs: int, folder: Path) -> None:
    atheris: Any = import_module("atheris")  # it is not installed everywhere, and has no types
    with atheris.instrument_imports(include=PRODUCT):
        from tests.fuzz.draw import from_bytes
        from tests.fuzz.target import judge, tool_setup
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    if target.healthy is not None:
        beginnings = [*target.healthy(), *target.known]
    else:
        noise = random.Random(0)
        beginnings = [noise.randbytes(length) for length in (64, 256, 1024, 1024, 4096, 4096)]
    for number, data in enumerate(beginnings):
        (corpus / str(number)).write_bytes(data)
    place = tool_setup()
    opened = target.opened(place.__enter__())
    drive = opened.__enter__()
    count = 0

    def judged(value: object) -> None:
        nonlocal count
        count += 1
        (folder / "count").write_text(str(count)) if count % 1000 == 0 or count >= runs else None
        judge(target, drive, value)

    one = judged if target.healthy is not None else from_bytes(target, judged)

    def test(data: bytes) -> None:
        one(data)
        if count >= runs:
            opened.__exit__(None, None, None)
            place.__exit__(None, None, None)
            os._exit(0)

    for value in target.known:
        judged(value)
    arguments = [
        sys.argv[0],
        f"-max_len={max(_LONGEST, *map(len, beginnings))}",
        f"-timeout={_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-artifact_prefix={KEPT / name}-",
        "-len_control=0",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, test)
    atheris.Fuzz()


def _again(name: str, kept: Path) -> None:
    """Drive a target with one input that was kept."""
    from tests.fuzz.draw import from_bytes
    from tests.fuzz.target import judge, tool_setup
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    with tool_setup() as folder, target.opened(folder) as drive:

        def judged(value: object) -> None:
            print(repr(value)[:_OUTPUT_KEPT])
            judge(target, drive, value)

        (judged if target.healthy is not None else from_bytes(target, judged))(kept.read_bytes())


def main() -> int:
    """Fuzz, report; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="+")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        _child(given.target[0], given.runs, given.child)
    if given.input is not None:
        _again(given.target[0], given.input)
        return 0

    if find_spec("atheris") is None:
        parser.error("atheris is not installed: `pip install -e '.[chaos]'` where it has a wheel")

    from tests.fuzz.targets import TARGETS

    names = list(TARGETS) if given.target == ["all"] else given.target
    if unknown := set(names) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are: {', '.join(TARGETS)}")
    found: list[str] = []
    print(f"{'target':22} {'inputs':>9} {'seconds':>8} {'a second':>9}")
    for name, outcome in fuzz_all(names, given.runs):
        speed = outcome.inputs / outcome.seconds
        end = "" if outcome.finding is None else "  FINDING"
        print(f"{name:22} {outcome.inputs:9,} {outcome.seconds:8.0f} {speed:9,.0f}{end}", flush=True)
        if outcome.finding is not None:
            found.append(name)
            print(outcome.finding, file=sys.stderr, flush=True)
    if found:
        print(f"findings: {', '.join(found)}; their inputs are in {KEPT.relative_to(ROOT)}/")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
