"""Running the host as a service of systemd."""
