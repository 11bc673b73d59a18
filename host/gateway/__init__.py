"""The gateway: an agent's only way out (DESIGN section 8)."""
