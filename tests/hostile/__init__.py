"""A hostile agent, shipped: one trick for everything an agent may try on the host (`table.py` lists them).

`python -m tests.hostile` is the agent. It runs wherever an agent runs, on the standard library alone: as a process with
`command=`, or in a container as plain files. It answers what it is told with `ok: <text>`, until it is told
`trick SIZE NAME`. `python -m tests.hostile.attack` runs a host, sets the agent on it, and prints what came of it.
"""
