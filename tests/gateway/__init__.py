"""The gateway and the forwarder: real sockets on both transports, and a small model service."""
