"""What is kept of an answer with which a service refuses something."""

from __future__ import annotations

import time

from container_agent.providers import service_words


def test_the_words_are_short_and_without_markup() -> None:
    assert service_words.words("<html><script>x</script><p>No such model</p></html>", 404) == "404: No such model"
    assert len(service_words.words({"message": "long " * 10_000})) <= service_words.MOST


def test_an_answer_that_is_made_for_it_does_not_hold_up_the_agent() -> None:
    """The heartbeat comes from the same loop; the square of its length would be many seconds."""
    made = {"errors": [f"{number}</" + "<script" * 570 for number in range(20)]}
    began = time.thread_time()
    service_words.words({"message": made, "error": made, "detail": [made, {"error": [f"more {made}"]}]})
    assert time.thread_time() - began < 1
