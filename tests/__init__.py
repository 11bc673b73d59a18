"""Tests read as sentences about behaviour. Real files, real processes, real containers; nothing is patched."""
