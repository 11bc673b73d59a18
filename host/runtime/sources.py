"""What an image of agents was built from: a digest of its sources, kept as a label, so that an old image is noticed.

Also run as a script by `make image`, before anything is installed: standard library only, and no import of ours.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

SOURCES_LABEL = "dumbwaiter.sources"
BASE_LABEL = "dumbwaiter.base"
VARIANT_LABEL = "dumbwaiter.variant"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds `host`, `container_agent` and `shared_schema`: a checkout, or the package `dumbwaiter`."""

_FOLDERS = ("container_agent", "shared_schema")


def digest(checkout: Path) -> str:
    """16 hex digits that change with every source the image is built from."""
    found = [path for folder in _FOLDERS for path in (checkout / folder).rglob("*") if path.is_file()]
    total = hashlib.sha256()
    for path in sorted([*found, checkout / "Dockerfile.agent"]):
        if path.suffix == ".pyc":
            continue
        total.update(f"{path.relative_to(checkout).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


if __name__ == "__main__":
    sys.stdout.write(digest(SOURCE_ROOT) + "\n")
