"""The prompt: what stands where, what stays the same, and what no workspace can break."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from container_agent.prompt import template
from container_agent.prompt.compose import KINDS, compose
from container_agent.prompt.memory import memory_in
from container_agent.prompt.skills import skills_in
from shared_schema.errors import InvalidValue


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with instructions, two skills and a memory."""
    folder = tmp_path / "workspace"
    write(folder / "AGENT.md", "Be brief.")
    write(folder / "skills" / "report" / "SKILL.md", "---\nname: report\ndescription: Weekly report.\n---\nDo this.\n")
    write(folder / "skills" / "about" / "SKILL.md", "---\ndescription: 'What we are.'\n---\nThat.\n")
    write(folder / "memory" / "MEMORY.md", "- Ann likes tea.")
    return folder


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_stable_part_has_the_same_bytes_over_ten_turns_whatever_is_remembered(workspace: Path) -> None:
    made = []
    for turn in range(10):
        write(workspace / "memory" / f"note-{turn}.md", f"turn {turn}")
        note = f"A note of turn {turn}." if turn % 3 == 0 else ""
        made.append(compose(workspace, context="You are assistant.", reset_note=note, problems=[f"problem {turn}"]))
    assert len({prompt.stable.encode() for prompt in made}) == 1
    assert len({prompt.changing for prompt in made}) == 10


def test_everything_that_is_known_has_its_place(workspace: Path) -> None:
    prompt = compose(workspace, context="You are assistant.", reset_note="The conversation was reset.")
    for earlier, later in zip(
        ("an agent that people talk to", "# Instructions\n\nBe brief.", "# Where you are", "- about: What we are."),
        ("# Instructions", "# Where you are\n\nYou are assistant.", "# Skills", "- report: Weekly report."),
        strict=True,
    ):
        assert prompt.stable.index(earlier) < prompt.stable.index(later)
    assert "# Memory\n\n## memory/MEMORY.md\n- Ann likes tea." in prompt.changing
    assert prompt.changing.endswith("# Since last time\n\nThe conversation was reset.")
    assert "{{" not in prompt.stable + prompt.changing
    assert [(skill.name, skill.body, skill.folder) for skill in prompt.skills] == [
        ("about", "That.", "skills/about"),
        ("report", "Do this.", "skills/report"),
    ]


def test_an_empty_workspace_has_no_empty_sections(tmp_path: Path) -> None:
    prompt = compose(tmp_path / "none")
    for title in ("# Instructions", "# Where you are", "# Skills", "use_skill"):
        assert title not in prompt.stable
    assert (prompt.changing, prompt.skills) == ("", ())
    assert "\n\n\n" not in prompt.stable


def test_every_kind_of_session_has_its_own_beginning(tmp_path: Path) -> None:
    made = {kind: compose(tmp_path, kind=kind).stable for kind in KINDS}
    assert len(set(made.values())) == len(KINDS)
    assert compose(tmp_path, kind="of a later host").stable == made["chat"]


def test_a_provider_with_tools_of_its_own_is_not_told_of_ours(tmp_path: Path) -> None:
    assert "Send files with" in compose(tmp_path).stable
    assert "Send files with" not in compose(tmp_path, brings_own=True).stable


def test_values_are_never_looked_into(workspace: Path) -> None:
    write(workspace / "AGENT.md", "{{include:_group}} {{context}} {{nothing}}")
    assert "{{include:_group}} {{context}} {{nothing}}" in compose(workspace, context="secret {{skills}}").stable


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\0" * 10, b"a" * 200_000, "é".encode() * 200_000])
def test_instructions_that_are_broken_or_huge_become_a_note(workspace: Path, content: bytes) -> None:
    write(workspace / "AGENT.md", content)
    prompt = compose(workspace)
    assert len(prompt.stable + prompt.changing) < 60_000
    assert ("AGENT.md" in prompt.changing) == (content != b"\0" * 10)


@pytest.mark.parametrize("name", ["AGENT.md", "memory/MEMORY.md", "skills/report/SKILL.md"])
def test_links_out_of_the_workspace_are_not_followed(workspace: Path, tmp_path: Path, name: str) -> None:
    outside = write(tmp_path / "outside.md", "---\nname: secret\ndescription: secret\n---\nsecret")
    (workspace / name).unlink()
    (workspace / name).symlink_to(outside)
    prompt = compose(workspace)
    assert "secret" not in prompt.stable + prompt.changing
    assert f"{name} is a link that leads out of the workspace" in prompt.changing


def test_what_is_no_file_at_all_holds_nothing_up(workspace: Path) -> None:
    for name in ("AGENT.md", "skills/report/SKILL.md"):
        (workspace / name).unlink()
    os.mkfifo(workspace / "AGENT.md")
    (workspace / "skills" / "report" / "SKILL.md").symlink_to("SKILL.md")
    (workspace / "skills" / "loop").symlink_to("loop")
    prompt = compose(workspace)
    assert "AGENT.md is not an ordinary file" in prompt.changing
    assert [skill.name for skill in prompt.skills] == ["about"]


def test_folders_that_are_links_out_of_the_workspace_are_empty(workspace: Path, tmp_path: Path) -> None:
    write(tmp_path / "away" / "MEMORY.md", "secret")
    write(tmp_path / "away" / "x" / "SKILL.md", "---\ndescription: secret\n---\n")
    for name in ("memory", "skills"):
        (workspace / name).rename(tmp_path / f"old-{name}")
        (workspace / name).symlink_to(tmp_path / "away")
    prompt = compose(workspace)
    assert "secret" not in prompt.stable + prompt.changing


def test_skills_without_a_proper_head_are_left_out_with_a_note(workspace: Path) -> None:
    write(workspace / "skills" / "bare" / "SKILL.md", "No head.")
    write(workspace / "skills" / "open" / "SKILL.md", "---\nname: open\ndescription: never closed\n")
    write(workspace / "skills" / "odd" / "SKILL.md", "---\nname: ../x\ndescription: y\n---\n")
    write(workspace / "skills" / "twin" / "SKILL.md", "---\nname: report\ndescription: y\n---\n")
    skills, notes = skills_in(workspace)
    assert [skill.name for skill in skills] == ["about", "report"]
    assert [note.split("/")[1] for note in notes] == ["bare", "odd", "open", "twin"]


def test_there_is_room_for_so_many_skills_and_no_more(workspace: Path) -> None:
    for number in range(200):
        write(workspace / "skills" / f"s{number:03}" / "SKILL.md", f"---\ndescription: {'d' * 5_000}\n---\n")
    assert len(compose(workspace).stable) < 40_000


def test_memory_shows_the_index_then_what_changed_last_and_names_the_rest(workspace: Path) -> None:
    for number, name in enumerate(("old", "new", "newest")):
        file = write(workspace / "memory" / f"{name}.md", name * 10)
        os.utime(file, (1_000 + number, 1_000 + number))
    whole = memory_in(workspace)
    order = [whole.index(f"## memory/{name}.md") for name in ("MEMORY", "newest", "new", "old")]
    assert order == sorted(order)
    cut = memory_in(workspace, most=70)
    assert "newest" * 9 in cut
    assert "memory/newest.md is longer than 54 characters; only its beginning is shown" in cut
    assert "[not shown for want of room: new.md, old.md; read them when you need them]" in cut


def test_templates_include_fragments_and_say_what_is_wrong_with_them() -> None:
    texts = {"a": "1 {{include:_b}} {{x}}", "_b": "2\n", "loop": "{{include:_loop}}", "_loop": "{{include:_loop}}"}
    assert template.filled("a", {"x": "{{include:_b}}"}, texts.get) == "1 2 {{include:_b}}\n"
    for name, values in (("a", {}), ("loop", {}), ("none", {}), ("gap", {})):
        with pytest.raises(InvalidValue):
            template.filled(name, values, {**texts, "gap": "{{include:_none}}"}.get)


@pytest.mark.parametrize(
    ("head", "description"),
    [
        ("description: |\n  Reads the log.\n  Use when: it broke.", "Reads the log. Use when: it broke."),
        ("description: >-\n  Deploys things and\n  checks them.", "Deploys things and checks them."),
        ("description:\n  Writes scripts. Use when creating\n  scripts.", "Writes scripts. Use when creating scripts."),
        ("description: The real one.\nmetadata:\n  name: inner\n  description: not this one", "The real one."),
        ('description: "Quoted: \\"yes\\""  # a comment', 'Quoted: "yes"'),
        ("description: Use this: for that", "Use this: for that"),  # no YAML, and common
        ("description: 2026-01-01\nlicense: no", "2026-01-01"),
        ("description: plain\r\nallowed-tools: [a, b]", "plain"),
        ("description: x\nevil: " + "[" * 3_000, "x"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_head_of_a_skill_is_yaml(tmp_path: Path, head: str, description: str, mark: str) -> None:
    write(tmp_path / "skills" / "one" / "SKILL.md", f"{mark}---\nname: one\n{head}\n---\nbody\n")
    (skill,), notes = skills_in(tmp_path)
    assert (skill.name, skill.description, skill.body, notes) == ("one", description, "body", [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_what_is_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "AGENT.md", "Be brief.\r\nB\xe9!".encode(encoding))
    write(tmp_path / "memory" / "MEMORY.md", "- tea".encode(encoding))
    prompt = compose(tmp_path)
    assert "# Instructions\n\nBe brief.\nB\xe9!" in prompt.stable
    assert "## memory/MEMORY.md\n- tea" in prompt.changing
