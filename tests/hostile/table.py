"""Every trick, and what the host does about it. The one place where a reader sees them all.

What is tried elsewhere, because it needs something else than a trick, stands in `ELSEWHERE`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.hostile import amounts, asking, files, life, rows, schemas, way_out
from tests.hostile.files import THINGS, Act, in_place_of
from tests.hostile.schemas import of_version

_COULD_NOT = "This message could not be answered: "
_TOO_LONG = "it did not answer in time"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the person who asked gets to see, and what is noted.

    `told` is in the chat; `refused` are parts of what `session show` lists; `put_aside`: the file was kept under
    another name and a fresh one took its place; `lives`: the agent was not stopped (None: it may be); `spoils`: it
    leaves what the host can read and the next agent cannot use, so that further messages fail, visibly, until the
    session is begun anew.
    """

    outcome: str
    told: str
    refused: tuple[str, ...] = ()
    put_aside: bool = False
    lives: bool | None = False
    spoils: bool = False


@dataclass(frozen=True, slots=True)
class Trick:
    """What the agent does, and what is expected of the host.

    `otherwise` is what may come of it as well, at other moments or sizes. `alone`: it is measured by itself
    and not together with others. `container`: only tried in one.
    """

    act: Act
    expected: Expected
    alone: bool = False
    container: bool = False
    otherwise: tuple[Expected, ...] = ()


ANSWERED = Expected("completed", "done", lives=True)
"""The file can be read: nothing happens."""
SPOILED = Expected("completed", "done", lives=True, spoils=True)
"""The host can read the file, and the agent that comes next cannot use it."""
PUT_ASIDE = Expected("failed", _COULD_NOT + "what the agent wrote cannot be read and was put aside", (), put_aside=True)
"""The file is no good: the agent is stopped, the file kept, a fresh one made, and the person told."""


def _put_aside(reason: str) -> Expected:
    return Expected(PUT_ASIDE.outcome, PUT_ASIDE.told, (reason,), put_aside=True)


def _refused(*reasons: str) -> Expected:
    return Expected("completed", "done", reasons, lives=True)


def _stopped(because: str) -> Expected:
    return Expected("failed", f"{_COULD_NOT}the agent was stopped because {because}")


def _died(status: int) -> Expected:
    return Expected("failed", f"{_COULD_NOT}the agent died with exit status {status}")


UNREADABLE = _stopped("what it writes cannot be read")
SILENT = _stopped("its heartbeat stopped")
TOO_LONG = _stopped(_TOO_LONG)
TOO_FULL = _stopped("it wrote more than its folder may hold")
NO_FILE = _put_aside("outbound.db")

_THE_REST = ("outbound.db-wal", "outbound.db-shm", ".heartbeat", ".lock", "outbox")
_JOURNALS = {thing: PUT_ASIDE for thing in THINGS} | {
    "nothing": TOO_LONG,
    "a file of the host's under a second name": TOO_LONG,  # it is empty, and so no journal
}


def _value(act: Act) -> Trick:
    """The file cannot be read while a large value is being written, and that may take too long."""
    return Trick(act, _refused("larger than allowed"), alone=True, otherwise=(UNREADABLE,))


def _amount(act: Act) -> Trick:
    """Ten million rows take an agent longer than its turn may, or the host longer than it reads on."""
    return Trick(act, ANSWERED, alone=True, otherwise=(UNREADABLE, TOO_LONG, PUT_ASIDE))


def _many(act: Act) -> Trick:
    return Trick(act, TOO_FULL, alone=True, otherwise=(TOO_LONG,))


TRICKS: dict[str, Trick] = {
    # The file is damaged
    "zero length": Trick(files.zero_length, _put_aside("outbound.db")),
    "cut in the middle": Trick(files.cut_in_the_middle, PUT_ASIDE),
    "random bytes": Trick(files.random_bytes, _put_aside("not a database")),
    "header alone": Trick(files.header_alone, PUT_ASIDE),
    "garbage behind a good header": Trick(files.garbage_behind_a_good_header, PUT_ASIDE),
    "pages in a circle": Trick(files.pages_in_a_circle, PUT_ASIDE),
    "100 GB, sparse": Trick(files.huge_and_sparse, ANSWERED),
    "WAL mode": Trick(files.wal_mode, _put_aside("WAL mode")),
    "a header that says WAL": Trick(files.wal_header, _put_aside("WAL mode")),
    "a journal that is garbage": Trick(files.journal_that_is_garbage, TOO_LONG),
    "a journal that names a super-journal": Trick(
        files.journal_that_names_a_super_journal, _put_aside("names another file")
    ),
    "a journal that names a far page": Trick(files.journal_of_a_far_page, _put_aside("larger than it was")),
    "3 GB, sparse, beside a journal": Trick(
        files.sparse_beside_a_journal, TOO_LONG, otherwise=(PUT_ASIDE, UNREADABLE)
    ),
    "a lease on outbound.db": Trick(files.leased_without_end, UNREADABLE),
    "as many names as a file can have": Trick(
        files.as_many_names_as_a_file_can_have, PUT_ASIDE, alone=True, otherwise=(TOO_FULL, TOO_LONG)
    ),
    "modes that forbid everything": Trick(files.modes_that_forbid_everything, SPOILED, otherwise=(PUT_ASIDE,)),
    # Its schema
    "UTF-16 and pages of 64 KB": Trick(schemas.in_utf_16, ANSWERED),
    "version 0": Trick(of_version(0, answers=True), ANSWERED),
    "version -1": Trick(of_version(-1, answers=True), ANSWERED),
    "one version newer": Trick(of_version(2, answers=True), SPOILED),
    "version 99": Trick(of_version(99, answers=False), _put_aside("schema version 99")),
    "other tables": Trick(schemas.other_tables, _put_aside("is missing")),
    "without a table": Trick(schemas.without_a_table, _put_aside("turns is missing")),
    "views in place of tables": Trick(schemas.views_in_place_of_tables, _put_aside("is missing")),
    "a view without an end": Trick(schemas.view_without_an_end, _put_aside("messages_out is missing")),
    "a view called a table": Trick(schemas.view_called_a_table, PUT_ASIDE),
    "views beside the tables": Trick(schemas.views_beside_the_tables, ANSWERED),
    "triggers on every table": Trick(schemas.triggers_on_every_table, ANSWERED),
    "triggers that refuse": Trick(schemas.triggers_that_refuse, ANSWERED),
    "full text in place of a table": Trick(schemas.full_text_in_place_of_a_table, _put_aside("turns is missing")),
    "full text beside the tables": Trick(schemas.full_text_beside_the_tables, ANSWERED),
    "computed columns": Trick(schemas.computed_columns, _put_aside("computed columns")),
    "slow constraints, defaults and indexes": Trick(schemas.slow_constraints_and_defaults, ANSWERED),
    "columns missing": Trick(schemas.columns_missing, PUT_ASIDE),
    "columns renamed": Trick(schemas.columns_renamed, PUT_ASIDE),
    "columns doubled": Trick(schemas.columns_doubled, PUT_ASIDE),
    "a thousand columns": Trick(schemas.columns_by_the_thousand, PUT_ASIDE),
    "a thousand tables": Trick(schemas.tables_by_the_thousand, ANSWERED),
    "a schema that is no text": Trick(schemas.schema_that_is_no_text, PUT_ASIDE),
    "a schema that is slow to parse": Trick(schemas.schema_of_megabytes, PUT_ASIDE),
    # Its rows
    "every type in every column": Trick(
        rows.every_type_in_every_column,
        Expected("completed", "done", ("out-",), lives=True, spoils=True),
    ),
    "text that is no text": Trick(rows.text_that_is_no_text, _refused("out-")),
    "zero bytes in text": Trick(rows.zero_bytes_in_text, _refused("not a message id")),
    "text that is hard to show": Trick(rows.text_that_is_hard_to_show, ANSWERED),
    "content that is hard to read": Trick(rows.content_that_is_hard_to_read, _refused("not a JSON object")),
    "questions without end": Trick(rows.questions_without_end, _refused("needs a mention")),
    "numbers below zero": Trick(rows.numbers_below_zero, ANSWERED),
    "the largest number": Trick(rows.the_largest_number, _put_aside("its numbers jump")),
    "a jump, and rows below it": Trick(rows.a_jump_and_rows_below_it, ANSWERED),
    "the same number twice": Trick(rows.numbers_twice, _put_aside("has not its key")),
    "ids that are paths": Trick(rows.ids_that_are_paths, _refused("not a message id")),
    "files with odd names": Trick(rows.files_with_odd_names, _refused("file")),
    "messages of other sessions": Trick(rows.ids_of_other_sessions, _refused("not of this session")),
    "answers that flip back": Trick(rows.answers_that_flip_back, ANSWERED),
    "turns that never end": Trick(rows.turns_that_never_end, ANSWERED),
    "usage that cannot be": Trick(rows.usage_that_cannot_be, ANSWERED),
    "impossible times": Trick(rows.impossible_times, _refused("is not a time")),
    "a tool that may take for ever": Trick(rows.a_tool_that_may_take_for_ever, SILENT),
    # What it asks of the host, and the way out
    "requests without end": Trick(asking.requests_without_end, ANSWERED, alone=True),
    "requests about others": Trick(asking.requests_about_others, ANSWERED),
    "requests without a form": Trick(asking.requests_without_a_form, _refused("not a request", "half characters")),
    "a request that changes": Trick(asking.a_request_that_changes, ANSWERED),
    "connections without end": Trick(way_out.connections_without_end, _refused("too many connections"), alone=True),
    "requests full of work": Trick(way_out.requests_full_of_work, _refused("is not on the list"), alone=True),
    # Amounts
    "rows that are refused": Trick(amounts.rows_that_are_refused, _refused("its kind is unknown"), alone=True),
    "rows below the cursor": _amount(amounts.rows_below_the_cursor),
    "messages without end": Trick(amounts.messages_without_end, _put_aside("outbound.db"), alone=True),
    "acknowledgements without end": _amount(amounts.acknowledgements_without_end),
    "turns without end": _amount(amounts.turns_without_end),
    "rows without an index": Trick(amounts.rows_without_an_index, _put_aside("outbound.db"), alone=True),
    "a reply of many": Trick(amounts.a_reply_of_many, ANSWERED, alone=True),
    "messages for later without end": Trick(
        amounts.messages_for_later_without_end, _refused("wait for their time already"), alone=True
    ),
    "a content without end": _value(amounts.a_content_without_end),
    "an id without end": _value(amounts.an_id_without_end),
    "a turn without end": _value(amounts.a_turn_without_end),
    "a state without end": _value(amounts.a_state_without_end),
    "an acknowledgement without end": Trick(amounts.an_acknowledgement_without_end, TOO_LONG, alone=True),
    "more bytes than allowed": Trick(files.more_bytes_than_allowed, TOO_FULL),
    "more files than can be counted": _many(files.more_files_than_can_be_counted),
    "more folders than can be counted": _many(files.more_folders_than_can_be_counted),
    "folders deeper than a path": Trick(files.folders_deeper_than_a_path_is_long, TOO_FULL),
    # Something else in its place, and beside it
    **{
        f"{thing} in place of outbound.db": Trick(in_place_of(("outbound.db",), thing, answers=False), NO_FILE)
        for thing in THINGS
    },
    **{
        f"{thing} in place of the journal": Trick(in_place_of(("outbound.db-journal",), thing, answers=False), expected)
        for thing, expected in _JOURNALS.items()
    },
    **{
        f"{thing} in place of all the rest": Trick(
            in_place_of(_THE_REST, thing, answers=True), Expected("completed", "done", lives=None, spoils=True)
        )
        for thing in THINGS
    },
    "links, pipes and folders in outbox/": Trick(files.outbox_with_links_and_pipes, _refused("file")),
    # While the host looks
    "swapped without end": Trick(files.swapped_without_end, ANSWERED, alone=True, otherwise=(PUT_ASIDE,)),
    "written without end": Trick(files.written_without_end, ANSWERED, alone=True),
    "touched without end": Trick(files.touched_without_end, ANSWERED, alone=True),
    "outbound.db locked for ever": Trick(files.locked_for_ever, UNREADABLE),
    # The person who asks next waits for that long, then the agent is stopped and another one answers.
    "inbound.db read for ever": Trick(files.inbound_read_for_ever, ANSWERED),
    "inbound.db locked for ever": Trick(files.inbound_locked_for_ever, ANSWERED),
    # Life and death
    "beats and does nothing": Trick(life.beats_and_does_nothing, TOO_LONG),
    "stops its heart": Trick(life.stops_its_heart, SILENT),
    "a heart of the year 9999": Trick(life.heart_of(life.YEAR_9999), SILENT),
    "a heart of 1970": Trick(life.heart_of(0), SILENT),
    "dies at once": Trick(life.dies_at_once, _died(7)),
    "deaf": Trick(life.deaf, SILENT),
    "children that go on": Trick(life.children_that_go_on, _died(3)),
    "children that leave home": Trick(life.children_that_leave_home, _died(3)),
    "children without end": Trick(life.children_without_end, ANSWERED, container=True),
}  # fmt: skip


SHORT = frozenset({
    # The file is damaged; its schema; its rows
    "cut in the middle", "WAL mode", "a journal that names a far page", "a lease on outbound.db",
    "modes that forbid everything", "version 99", "views in place of tables", "a view without an end",
    "triggers on every table", "every type in every column", "ids that are paths", "messages of other sessions",
    "text that is hard to show",
    # What it asks of the host, amounts, and what lies in place of its files
    "requests about others", "a request that changes", "more bytes than allowed", "a pipe in place of outbound.db",
    "a device in place of the journal", "a folder in place of all the rest", "links, pipes and folders in outbox/",
    # While the host looks; life and death
    "outbound.db locked for ever", "inbound.db locked for ever", "beats and does nothing", "stops its heart",
    "children that leave home",
    # Done by few at a time
    "connections without end", "messages without end", "a content without end", "swapped without end",
})  # fmt: skip
"""Of every kind one or two: those that `make test` has time for. All others are marked `full`."""

ELSEWHERE = {
    "files named by a row that lie outside of its folder": (
        "tests/faults/test_attachments.py",
        "test_failure_46_nothing_outside_its_outbox_is_sent_for_a_hostile_agent",
    ),
    "a file that is swapped after it was checked": (
        "tests/faults/test_attachments.py",
        "test_failure_46_a_file_changed_after_it_was_checked_is_sent_as_it_was",
    ),
    "the same large file sent again and again": (
        "tests/faults/test_attachments.py",
        "test_what_one_agent_makes_the_host_keep_of_its_files_is_bounded",
    ),
    "each bad value, and its reason": (
        "tests/faults/test_hostile_rows.py",
        "test_each_bad_row_is_refused_for_its_reason_and_the_rows_around_it_are_sent",
    ),
    "generations that are not the session's": (
        "tests/faults/test_hostile_rows.py",
        "test_output_of_a_generation_that_is_not_the_sessions_is_kept_and_not_sent",
    ),
    "a file that looks damaged for a while only": (
        "tests/faults/test_damaged_files.py",
        "test_failure_16_a_file_that_reads_malformed_for_a_while_loses_nothing",
    ),
    "the whole out/ folder removed": (
        "tests/faults/test_damaged_files.py",
        "test_failure_4_a_session_whose_out_folder_is_gone_is_told_and_goes_on",
    ),
    "leases and locks against `/stop`": (
        "tests/faults/test_stop_at_once.py",
        "test_stop_takes_no_longer_than_a_moment",
    ),
    "a death whose file cannot even be linked, with one slot for all": (
        "tests/faults/test_faults.py",
        "test_a_slot_is_free_when_the_agent_is_dead_whatever_becomes_of_its_burial",
    ),
    "an agent that dies at every start": (
        "tests/faults/test_dying_agents.py",
        "test_an_agent_that_dies_at_every_start_fails_what_waits_visibly_and_once",
    ),
    "a heartbeat from before the agent was started": (
        "tests/faults/test_dying_agents.py",
        "test_failure_9_an_agent_without_a_sign_of_life_is_stopped_whatever_an_old_heartbeat_says",
    ),
    "answers to what the host has not asked": (
        "tests/integration/test_control_tasks.py",
        "test_an_agent_cannot_title_or_compress_unasked",
    ),
    "usage that is made up, and budgets": (
        "tests/unit/test_usage.py",
        "test_numbers_that_an_agent_made_up_break_nothing",
    ),
    "connections of one session, beside another one": (
        "tests/gateway/test_hostile.py",
        "test_thousands_of_connections_leave_other_sessions_theirs",
    ),
    "devices, mounts, processes, memory and the network of a container": (
        "tests/docker/test_isolation.py",
        "test_devices_and_mounts_cannot_be_made",
    ),
}
"""What is tried elsewhere: the file and the test."""
