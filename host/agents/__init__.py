"""Agents that speak with each other: links, limits, and the channel that carries it."""
