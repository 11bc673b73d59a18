"""Lines that can be typed, for every command: its `--help` ends with them, and docs/cli.md shows the same ones."""

from __future__ import annotations

import re

EXAMPLES = r"""
dumbwaiter init
dumbwaiter init --yes --model ollama:qwen3
dumbwaiter init --yes --model anthropic --key-file key.txt
dumbwaiter init --yes --model openai:llama-3.3-70b-versatile@groq --url https://api.groq.com/openai/v1 --key-file -
dumbwaiter run
dumbwaiter run --runtime process
dumbwaiter run --standby
dumbwaiter doctor
dumbwaiter status
dumbwaiter status --json
dumbwaiter chat
dumbwaiter chat -m "hello"
git diff | dumbwaiter chat reviewer -m -
dumbwaiter chat --session 3f9c
dumbwaiter web
dumbwaiter acp assistant
dumbwaiter token add app --agent-group assistant --budget-usd 5 --expires 90d
dumbwaiter token add dashboard --rights read
dumbwaiter token list
dumbwaiter token revoke app
dumbwaiter hook add ops https://example.org/hooks --event turn-ended --event session-new
dumbwaiter hook list
dumbwaiter hook test ops
dumbwaiter hook remove ops
dumbwaiter agent-group add helper
dumbwaiter agent-group add helper --model anthropic:claude-sonnet-5-5
dumbwaiter agent-group list
dumbwaiter agent-group show helper
dumbwaiter agent-group rename helper clerk
dumbwaiter agent-group remove helper
dumbwaiter agent-group set helper --memory 1g --cpus 1.5 --unset image
dumbwaiter agent-group set helper --mount /srv/books:books
dumbwaiter agent-group set helper --policy hosts=allow --ask-before 'bash:git push *'
dumbwaiter agent-group set helper --model anthropic:claude-sonnet-5-5 --fallback openai:gpt-4o --fallback ollama:qwen3
dumbwaiter agent-group set helper --budget-usd 20 --budget-period month
dumbwaiter agent-group file list assistant
dumbwaiter agent-group file show assistant AGENT.md
dumbwaiter agent-group file set assistant AGENT.md --only-look < instructions.md
dumbwaiter agent-group file remove assistant skills/deploy/SKILL.md
dumbwaiter agent-group image history assistant
dumbwaiter agent-group image log assistant 3
dumbwaiter agent-group image rollback assistant
dumbwaiter messaging-group add cli:team --name "The team" --group
dumbwaiter messaging-group list
dumbwaiter messaging-group show cli:team
dumbwaiter messaging-group set cli:team --unknown-sender public
dumbwaiter messaging-group rename cli:team "The whole team"
dumbwaiter messaging-group remove cli:team
dumbwaiter channel add telegram
dumbwaiter channel set telegram --ask token
dumbwaiter channel set email --set authserv_id=mx.example.org
dumbwaiter channel list
dumbwaiter channel check telegram
dumbwaiter channel remove telegram
dumbwaiter node add gpu-1 ssh://agents@gpu-1 --label gpu=yes
dumbwaiter node list
dumbwaiter node check gpu-1
dumbwaiter node drain gpu-1
dumbwaiter node lost gpu-1
dumbwaiter mount check /mnt/agents --with gpu-1
dumbwaiter wire cli:team assistant --session-mode per-thread --engage mention
dumbwaiter wire cli:team reviewer --pattern '(?i)^review'
dumbwaiter wire cli:team assistant --reset both --reset-minutes 720 --reset-hour 4
dumbwaiter unwire cli:team assistant
dumbwaiter wirings
dumbwaiter wiring add cli:team assistant --engage mention
dumbwaiter wiring list
dumbwaiter wiring remove cli:team assistant
dumbwaiter inject cli:terminal "what is in this file?" --file report.pdf
dumbwaiter user add telegram:12345 --name Ada
dumbwaiter user claim-code
dumbwaiter user link slack:U0123 telegram:12345
dumbwaiter user list
dumbwaiter user show telegram:12345
dumbwaiter user set telegram:12345 --name "Ada L."
dumbwaiter user unlink slack:U0123
dumbwaiter user remove telegram:12345
dumbwaiter role grant telegram:12345 admin --agent-group assistant
dumbwaiter role list
dumbwaiter role revoke telegram:12345 admin --agent-group assistant
dumbwaiter member add telegram:12345 assistant
dumbwaiter member list
dumbwaiter member remove telegram:12345 assistant
dumbwaiter approval list
dumbwaiter approval show K7QD
dumbwaiter approval approve K7QD
dumbwaiter approval deny K7QD
dumbwaiter question list
dumbwaiter question answer 3f9c "the second one"
dumbwaiter audit list --action wiring --since 2026-02-28
dumbwaiter logs --level warning
dumbwaiter logs --session 3f9c
dumbwaiter dropped list
dumbwaiter destination add assistant team cli:team
dumbwaiter destination add assistant helper agent:helper
dumbwaiter destination list assistant
dumbwaiter destination remove assistant team
dumbwaiter session list
dumbwaiter session list --status archived
dumbwaiter session show 3f9c
dumbwaiter session tail 3f9c
dumbwaiter session transcript 3f9c --steps
dumbwaiter session search 'host/routing.py' --since 7d
dumbwaiter session search '"out of memory" NOT test' --agent-group assistant --role tool
dumbwaiter session new 3f9c
dumbwaiter session new --messaging-group cli:terminal --agent-group assistant
dumbwaiter session resume 3f9c
dumbwaiter session branch 3f9c
dumbwaiter session undo 3f9c
dumbwaiter session retry 3f9c
dumbwaiter session compress 3f9c
dumbwaiter session stop 3f9c
dumbwaiter session title 3f9c "Plans for May"
dumbwaiter session archive 3f9c
dumbwaiter session restore 3f9c
dumbwaiter session delete 3f9c
dumbwaiter session prune --older-than 90d
dumbwaiter session prune --older-than 90d --apply
dumbwaiter session logs 3f9c
dumbwaiter session sql 3f9c "select seq, kind, status, content from messages_in"
cd "$(dumbwaiter session path 3f9c)" && sqlite3 -safe -readonly inbound.db 'select seq,status,content from messages_in'
dumbwaiter session export 3f9c > session.jsonl
dumbwaiter session import session.jsonl
dumbwaiter home set assistant cli:terminal
dumbwaiter home list
dumbwaiter home remove assistant cli
dumbwaiter schedule add assistant 'every weekday at 08:00' 'Sum up what is new.' --name morning
dumbwaiter schedule add assistant 'in 20m' 'Remind me of the tea.'
dumbwaiter schedule on assistant file inbox 'Read what came.'
dumbwaiter schedule heartbeat assistant 30m
dumbwaiter schedule list
dumbwaiter schedule upcoming
dumbwaiter schedule show morning
dumbwaiter schedule log morning
dumbwaiter schedule log --state failed
dumbwaiter schedule set morning --when '0 7 * * 1-5' --missed skip
dumbwaiter schedule run morning
dumbwaiter schedule pause morning
dumbwaiter schedule resume morning
dumbwaiter schedule cancel morning
dumbwaiter quiet-hours set cli:terminal 22:00-07:00
dumbwaiter quiet-hours list
dumbwaiter quiet-hours remove cli:terminal
dumbwaiter pause
dumbwaiter resume
dumbwaiter events --follow --session 3f9c
dumbwaiter history rebuild
dumbwaiter usage --by model --since 2026-02-01
dumbwaiter usage --by turn --session 3f9c --json
dumbwaiter backup before-the-upgrade.tar.gz
dumbwaiter restore before-the-upgrade.tar.gz --data new
dumbwaiter image build model
dumbwaiter service install
dumbwaiter service status
dumbwaiter service uninstall
"""


def of(path: str) -> list[str]:
    """The examples of the command that is reached by `path`, such as `dumbwaiter session show`."""
    typed = re.compile(rf"(?:^|[ (]){re.escape(path)}(?: |\)|$)")
    return [line for line in EXAMPLES.strip().splitlines() if typed.search(line)]
