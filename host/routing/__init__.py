"""From an event to the sessions it belongs to."""
