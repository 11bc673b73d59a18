"""What tests build with: a host in this process, a host in its own, and a chat platform in memory."""
