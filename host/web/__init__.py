"""The page in the browser: rendered here, live by server-sent events, doing what it does by `host.operations` alone."""
