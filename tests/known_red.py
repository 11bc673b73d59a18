"""Tests that were red when they were last run and whose cause is not found or not mended yet.

They run, and do not fail the run (`xfail`, not strict). The list is to become empty: who mends one takes its line out.
"""

from __future__ import annotations

KNOWN_RED = {
    "test_hostile_agent.py::test_a_trick_harms_its_own_session_alone[UTF-16 and pages of 64 KB]": "its file spoilt",
    "test_hostile_agent.py::test_a_trick_harms_its_own_session_alone[text that is no text]": "its file spoilt",
    "test_hostile_agent.py::test_a_trick_harms_its_own_session_alone[requests without a form]": "no outcome in time",
    "test_soak.py::test_the_judge_sees[not as asked-without_its_files]": "the judge does not see it",
    "test_life.py::test_operations_at_the_same_time_do_what_the_rules_say_one_after_the_other": "once: retry, 1, 1",
    "test_pace.py": "a transport was left open, once in three runs",
}
"""A part of the test's name, and what was seen."""


def reason(node: str) -> str | None:
    """What was seen of a test that is on the list."""
    return next((seen for part, seen in KNOWN_RED.items() if part in node), None)
