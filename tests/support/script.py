"""Agents of a few lines, in plain sqlite3: what a test runs in place of the real one, to do what no honest agent does.

`script` puts one together: the words below, the test's own lines, and a loop that hands every open message of the
session to `answer(message, text)`, oldest first. A message whose text the test's lines do not know is answered with
`ok: <text>`.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

_WORDS = '''
import json, os, secrets, signal, sqlite3, sys, time
from contextlib import closing

SESSION = os.environ["DUMBWAITER_SESSION"]
WORKSPACE = os.environ["DUMBWAITER_WORKSPACE"]
OUT = SESSION + "/out"
DB = OUT + "/outbound.db"

def new(prefix):
    return prefix + "_" + secrets.token_hex(8)

def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())

def beat():
    open(OUT + "/.heartbeat", "a").close()
    os.utime(OUT + "/.heartbeat")

def hold():
    """Live on, and do nothing more."""
    while True:
        beat()
        time.sleep(0.02)

def inbound(query):
    with closing(sqlite3.connect(f"file:{SESSION}/inbound.db?mode=ro", uri=True, timeout=5)) as c:
        return c.execute(query).fetchall()

def generation():
    return int(inbound("SELECT value FROM session_context WHERE key = 'generation'")[0][0])

def write(*statements, path=DB):
    """Statements with their values, in one transaction."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as c:
        c.execute("PRAGMA ignore_check_constraints = ON")
        c.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            c.execute(statement, values)
        c.execute("COMMIT")

def row(message, text, **columns):
    """A row of messages_out."""
    content = json.dumps({"text": text})
    values = dict(id=new("msg"), in_reply_to=message, generation=generation(), timestamp=now(), kind="chat",
                  content=content) | columns
    names = ", ".join(values)
    return f"INSERT INTO messages_out ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values())

def ack(message, status="completed", error=None):
    return "INSERT OR REPLACE INTO processing_ack VALUES (?, ?, NULL, ?, ?)", (message, status, error, now())

def reply(message, text, **columns):
    write(row(message, text, **columns), ack(message))

def open_messages():
    asked = inbound("SELECT id, json_extract(content, '$.text') FROM messages_in WHERE status = 'pending' ORDER BY seq")
    with closing(sqlite3.connect(f"file:{DB}?mode=ro", uri=True, timeout=5)) as c:
        done = {r[0] for r in c.execute("SELECT message_id FROM processing_ack")}
    return [(message, text) for message, text in asked if message not in done]

def answer(message, text):
    reply(message, "ok: " + text)

def live():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        beat()
        for message, text in open_messages():
            answer(message, text)
        time.sleep(0.01)
'''


def script(folder: Path, lines: str = "", *, bare: bool = False) -> list[str]:
    """The command that runs an agent of these lines. `bare`: no words and no loop, the lines are all there is."""
    program = folder / "agent.py"
    program.write_text(textwrap.dedent(lines) if bare else f"{_WORDS}\n{textwrap.dedent(lines)}\nlive()\n")
    program.chmod(0o644)
    return [sys.executable, str(program)]
