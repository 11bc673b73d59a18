"""Many machines in one process: the host's own supervision, with clocks, network, mount and engines that are played.

What decides is the product's code: the supervisor with its scheduler, slots and waits, `decide`, the ends of agents,
placement on nodes, the copying of answers, the statements of the ledger, the rules of the lease, the fence of an agent.
What is played is what they touch: time (`timeline.py`), the mount (`mount.py`), engines and agents (`engines.py`,
`agents.py`), and the hosts' processes (`hosts.py`). `world.py` looks for what must never be, in a story that `story.py`
makes from a seed.
"""
