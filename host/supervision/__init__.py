"""Keeping agents alive while there is work for them, and telling people when that fails. Decisions are pure."""
