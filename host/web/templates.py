"""Templates and languages. The one module that knows jinja2; every text that is put into a template is escaped."""

from __future__ import annotations

import gettext
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from host.web.markdown import growing

LANGUAGES = ("en", "de")
_TICKS = re.compile(r"`([^`\n]{1,500})`")
_STORED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")
_BROWSERS = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
"""What a browser says of itself; those that also say `Chrome` or `Safari` come first."""
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)  # fmt: skip
_FOLDER = files("host.web")


def render(template: str, language: str, **values: Any) -> str:
    """A template with its values, in a language of `LANGUAGES`."""
    return _environment(language).get_template(template).render(language=language, **values)


def translation(language: str) -> gettext.NullTranslations:
    """The texts of a language. English stands in the templates themselves."""
    if language == "en":
        return gettext.NullTranslations()
    with (_FOLDER / "locale" / f"{language}.mo").open("rb") as catalogue:
        return gettext.GNUTranslations(catalogue)


def language_of(accepted: str) -> str:
    """The first language that a browser accepts (its header `Accept-Language`) and there is; English otherwise."""
    for each in accepted[:200].split(","):
        name = each.partition(";")[0].strip()[:2].lower()
        if name in LANGUAGES:
            return name
    return "en"


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(_FOLDER / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
    texts = translation(language)
    environment.install_gettext_translations(texts, newstyle=True)  # type: ignore[attr-defined]
    environment.globals["_"] = _texts(texts)
    environment.filters |= {
        "growing": growing, "when": _when, "dollars": _dollars, "count": _count, "size": _size, "duration": _duration,
        "sentence": sentence, "all_tokens": all_tokens, "browser": browser, "word": _words(texts),
    }  # fmt: skip
    return environment


def _texts(translated: gettext.NullTranslations) -> Callable[..., Markup]:
    """What `_("…")` in a template is: as jinja2 makes it, and each text without values once.

    A page has hundreds of them, and looking them up each time took a quarter of the time that a page takes.
    """

    @cache
    def plain(text: str) -> Markup:
        return Markup(translated.gettext(text)) % {}

    def said(text: str, **values: object) -> Markup:
        return Markup(translated.gettext(text)) % values if values else plain(text)

    return said


def _words(translated: gettext.NullTranslations) -> Callable[[str | None], str]:
    """What a stored state or role is called: `provider_error` is "provider error", and each in the language.

    Every value that the databases know has a translation (tests/web/catalogue.py); any other stands as it is.
    """

    def word(value: str | None) -> str:
        return translated.gettext(value.replace("_", " ")) if value else ""

    return word


def all_tokens(used: Mapping[str, Any]) -> int:
    """Tokens of every kind, as budgets count them: what was read from a cache and written to one is among them."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return sum(int(used.get(name) or 0) for name in names)


def sentence(text: str | None) -> Markup:
    """A sentence for people: what stands in backticks is code, and stored times are shown in the reader's zone."""
    parts = _TICKS.split(text or "")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else _times(part) for number, part in enumerate(parts)
    )


def _times(text: str) -> Markup:
    parts = _STORED.split(text)
    return Markup("").join(_when(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def browser(agent: str | None) -> str:
    """A browser by what people call it, where its `User-Agent` says so in the usual words; as it stands otherwise."""
    text = agent or ""
    name = next((name for mark, name in _BROWSERS if mark in text), None)
    system = next((name for mark, name in _SYSTEMS if mark in text), None)
    return f"{name}, {system}" if name and system else text


def _when(text: str | None) -> Markup:
    """A stored time; the page's script shows it in the reader's zone."""
    if not text:
        return Markup("")
    try:
        shown = datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        shown = text
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def _dollars(value: float | None) -> str:
    if not value:
        return "$0"
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.4f}"


def _count(value: int | None) -> str:
    """A number of tokens, short."""
    number = value or 0
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return str(number)


def _size(value: int | None) -> str:
    number = float(value or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}"


def _duration(seconds: float | None) -> str:
    whole = int(seconds or 0)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
