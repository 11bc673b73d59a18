"""Which signals mean "end in good order"."""

from __future__ import annotations

import signal

from shared_schema.signals import ending_signals

# signal(7): the default is to end the process, or to end it with a core.
FAULTS = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"}
HARMLESS = {"SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"}
ERRORS = {"SIGPIPE", "SIGXFSZ"}


def test_every_signal_that_ends_a_process_and_is_no_fault_is_one_of_them() -> None:
    everything = {number for number in signal.valid_signals() if number != signal.SIGKILL}
    others = {getattr(signal, name) for name in FAULTS | HARMLESS | ERRORS}
    assert ending_signals() == everything - others
