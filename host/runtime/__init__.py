"""What runs agents: docker, plain processes, and fakes for tests."""
