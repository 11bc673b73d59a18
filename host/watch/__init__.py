"""Hints that an agent wrote something: file notifications on the `out/` folders of living agents.

Only the folders of living agents are watched, and not what lies below them: only a living agent writes there, so
sessions at rest cost nothing, nor does an agent that makes folders without end. Nothing depends on the hints: the
poll finds what they miss.
"""
