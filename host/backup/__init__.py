"""Backups of an install in one file, and what is made of them."""
