"""Everything trusted: the process that carries messages between chats and agents."""
