"""What runs inside an agent's container. Starts on the standard library alone; knows the host only by its files."""
