"""Names of the images of agents: which one a provider needs, and what a person types to build it. Pure but for looking
for the Makefile of a checkout.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from host.runtime.sources import SOURCE_ROOT
from shared_schema.providers import VARIANTS

MAKEFILE = "Makefile"
OWN_IMAGES = "dumbwaiter-agent:"
PLAIN = "plain"


def image_for(provider: str, image: str) -> str:
    """The image with what a provider needs: the one that is set, or its variant."""
    variant = VARIANTS.get(provider)
    return image if variant is None or image.endswith(f"-{variant}") else f"{image}-{variant}"


def how_to_build(image: str, context: Path = SOURCE_ROOT) -> str:
    """What a person types about a missing image, in a checkout or not; the variants' names end in theirs."""
    variant = variant_of(image)
    if not (context / MAKEFILE).is_file():
        return "run `dumbwaiter image build`" if variant is None else f"run `dumbwaiter image build {variant}`"
    options = [] if variant is None else [f"VARIANT={variant}"]
    if not image.startswith(OWN_IMAGES):  # without its name another one would be built
        options.append(f"IMAGE={shlex.quote(image)}")
    return f"run `{' '.join(['make image', *options])}`"


def variant_of(image: str) -> str | None:
    """The variant that the name of an image ends in; None for a plain image."""
    variant = image.rpartition("-")[2]
    return variant if variant in VARIANTS.values() else None
