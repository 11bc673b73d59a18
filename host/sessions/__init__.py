"""Session folders: making them, writing `inbound.db`, reading what a hostile agent left in `out/`."""
