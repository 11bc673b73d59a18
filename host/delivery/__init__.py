"""From the agent's file to the chat: check, copy into the ledger, send in order, retry for hours, record."""
