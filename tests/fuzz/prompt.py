"""What an agent's workspace does to its prompt: any bytes in AGENT.md, in memory and in skills; and templates."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from container_agent.prompt.compose import KINDS, compose
from container_agent.prompt.template import filled
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target, mutated
from tests.fuzz.values import ANY_TEXT, PLAIN_TEXT

SECRET = "nobody's business"
LONGEST = 200_000
"""Characters: instructions, memory, and the descriptions of 50 skills, with what stands around them."""

_BLANK_LINES = re.compile(r"\n{3,}")

SKILL = b"---\nname: report\ndescription: How to write the weekly report.\n---\nText for the model.\n"


@contextmanager
def _workspace(folder: Path) -> Iterator[Drive]:
    """Whatever the files are, there is a prompt, in bounds, and its first part is the same the next time."""
    (folder / "secret").write_text(SECRET)
    workspace = folder / "workspace"

    def drive(value: tuple[Mapping[str, bytes], Sequence[tuple[str, str]], str, str]) -> None:
        files, links, kind, context = value
        workspace.mkdir()
        try:
            for name, data in files.items():
                _put(workspace / name, data)
            for name, to in links:
                _link(workspace / name, to)
            prompt = compose(workspace, kind=kind, context=context, reset_note=context)
            assert compose(workspace, kind=kind, context=context).stable == prompt.stable
            whole = prompt.stable + prompt.changing
            assert SECRET not in whole
            assert len(whole) < LONGEST
            whole.encode()
            for skill in prompt.skills:
                assert skill.description
                assert "\n" not in skill.description
                skill.body.encode()
        finally:
            shutil.rmtree(workspace)

    yield drive


def _put(path: Path, data: bytes) -> None:
    """A file, if the system lets an agent make it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (OSError, ValueError):
        return


def _link(path: Path, to: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(to, path)
    except (OSError, ValueError):
        return


@contextmanager
def _template(folder: Path) -> Iterator[Drive]:
    """A template is filled, or named as what is wrong; a value is never looked into."""

    def drive(value: tuple[Mapping[str, str], Mapping[str, str]]) -> None:
        templates, values = value
        marked = {name: f"<<{said}>>" for name, said in values.items()}
        text = filled("_a", marked, templates.get)
        assert text.endswith("\n")
        for name, said in marked.items():
            assert f"{{{{{name}}}}}" not in templates["_a"] or _BLANK_LINES.sub("\n\n", said) in text

    yield drive


NAMES = st.sampled_from(
    (
        "AGENT.md", "memory/MEMORY.md", "memory/a.md", "memory/b.md", "memory", "skills", "skills/report/SKILL.md",
        "skills/b/SKILL.md", "skills/\u202e/SKILL.md", "skills/c/SKILL.md/d", "skills/\udcff/SKILL.md", "memory/\n.md",
        "memory/" + "x" * 252 + ".md",
    )
)  # fmt: skip
LINKS = st.tuples(NAMES, st.sampled_from(("../secret", "../../secret", "/dev/zero", "/", "AGENT.md", "a.md", "..")))
BYTES = st.one_of(
    mutated(lambda: [SKILL, "# \u00e9\n{{instructions}} {{include:_group}}\n".encode()]),
    st.binary(max_size=60),
    st.builds(bytes.__mul__, st.sampled_from((b"x", "\u00e9".encode(), b"\n", b"a: b\n", SKILL)), st.just(40_000)),
)
TEMPLATES = ("_a", "_b", "_c")
PLACES = st.sampled_from(
    ("{{include:_a}}", "{{include:_b}}", "{{include:_c}}", "{{include:_no}}", "{{include:../x}}", "{{name}}", "{{no}}",
     "{{ name }}", "{{", "}}", "\n\n\n", "text")
)  # fmt: skip

PROMPT = (
    Target(
        "workspace",
        _workspace,
        st.tuples(
            st.dictionaries(NAMES, BYTES, max_size=4),
            st.lists(LINKS, max_size=2),
            st.sampled_from(KINDS) | ANY_TEXT,
            PLAIN_TEXT | st.just("{{include:_group}} {{context}}"),
        ),
        (),
        known=(({"skills/report/SKILL.md": b"---\n" * 10_000}, [], "chat", ""),),
    ),
    Target(
        "template",
        _template,
        st.tuples(
            st.dictionaries(
                st.sampled_from(TEMPLATES), st.lists(PLACES, max_size=4).map("".join) | ANY_TEXT, max_size=3
            ),
            st.fixed_dictionaries({}, optional={"name": ANY_TEXT | PLACES}),
        ),
        (InvalidValue,),
        known=(({"_a": "{{include:_a}}"}, {}), ({"_a": "{{name}}"}, {"name": "{{include:_a}}{{name}}"})),
    ),
)
