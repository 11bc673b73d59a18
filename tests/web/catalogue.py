"""The texts of the page: what its templates say, and its translations.

python -m tests.web.catalogue      adds new texts to each `.po` without a translation, and compiles them
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

import host.web
from host.channels.health import ChannelStatus
from host.schedules.making import PAUSED_ALL
from host.web.templates import LANGUAGES
from shared_schema.rows import FailureReason
from tests.conftest import ROOT

FOLDER = Path(host.web.__file__).parent
LOCALE = FOLDER / "locale"
OTHERS = [language for language in LANGUAGES if language != "en"]


_STATES = re.compile(r"CHECK \((?:status|state|role) IN\s*\(([^)]*)\)")


def states() -> set[str]:
    """What the page can show through its filter `word`: each state and role in a table, and those in none."""
    found = {PAUSED_ALL, *ChannelStatus, *FailureReason}
    for folder in ("host/central/migrations", "shared_schema"):
        for file in (ROOT / folder).rglob("*.sql"):
            for values in _STATES.findall(file.read_text(encoding="utf-8")):
                found |= set(re.findall(r"'([^']+)'", values))
    return {str(each).replace("_", " ") for each in found}


def said() -> Catalog:
    """All texts of the templates, and the states that they show."""
    catalogue = Catalog(project="dumbwaiter", charset="utf-8")
    found = extract_from_dir(FOLDER / "templates", [("**.html", "jinja2")], {"**.html": {"trimmed": "true"}})
    for _, _, message, _, _ in found:
        catalogue.add(message)
    for state in states():
        catalogue.add(state)
    return catalogue


def translated(language: str) -> Catalog:
    """The translations of a language."""
    with (LOCALE / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalogue: Catalog) -> bytes:
    """What the host reads."""
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def _bring_up_to_date(language: str) -> None:
    catalogue = translated(language)
    catalogue.update(said(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    with (LOCALE / f"{language}.po").open("wb") as file:
        write_po(file, catalogue, width=120, no_location=True, sort_output=True, omit_header=False)
    (LOCALE / f"{language}.mo").write_bytes(compiled(catalogue))


if __name__ == "__main__":
    for each in OTHERS:
        _bring_up_to_date(each)
