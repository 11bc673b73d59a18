"""Tests of history.db."""
