"""The host's operations over HTTP on a Unix socket: the server, and the client of the command line."""
