"""Hints that an agent wrote something: file notifications on the `out/` folders of living agents.

Only the folders of living agents are watched, and not what lies below them: nobody else can write there, so sessions at
rest cost nothing, and an agent that makes folders without end costs nothing either. Nothing depends on the hints: the
poll finds what they miss.
"""
