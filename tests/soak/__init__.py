"""A long run under random trouble: `python -m tests.soak --minutes 30`.

Fifty sessions, random messages, agents and host killed every few seconds, platforms that drop and double. At the end
a report, and exit status 1 if anything was lost, doubled or out of order, or if the host grew.

    plan          what the run is, drawn from one seed; run does it, report tells
    platforms     two chat platforms outside the host; they remember what they took when the host dies
    channel       the adapter for them, inside the host; wire is what both speak
    bots          chats on Telegram and by webhook: fakes, people, outages, and what became of it all
    host          the host process, which is killed; keeper starts it, kills it and measures it
    agents        finding and killing agents
    errands       what people ask, and what they should be answered
    people        writes messages, and types commands
    trouble       kills, and platforms' bad days
    evidence      everything there is to know at the end
    verdict       evidence in, numbers out; pure
"""
