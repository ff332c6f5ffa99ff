# SPDX-License-Identifier: Apache-2.0
"""
A sequencer at work: turn after turn, in a thread of the application or in a process of its own.

Implements ``spec/evidence-log.md``, section 5. What stops a turn does not stop the next: what waits
is in the inbox, and is sequenced when the reason is gone. Does not sequence
(`lacre.stores.log.sequencer`).
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import final

from lacre.errors import LacreError
from lacre.stores.log.sequencer import Sequencer

__all__ = ["SequencerThread", "run"]

_INTERVAL = 1.0  # seconds between two turns: entries are leaves, and signed, within it
_STANDBY = 5.0  # the same while another sequences

_log = logging.getLogger("lacre.audit")


@final
class SequencerThread:
    """
    Runs *sequencer* in this process, from the first entry on until it is closed.

    Only one process's takes the lease; the others stand by. A child that is forked has its own, which
    begins with the child's own first entry.
    """

    def __init__(self, sequencer: Sequencer, *, interval: float = _INTERVAL) -> None:
        self._sequencer = sequencer
        self._interval = interval
        self._told = ""
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._starting = threading.Lock()
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Begin, unless it runs already. What was handed over is taken within a second."""
        if os.getpid() != self._process:
            self._sequencer.after_fork()
            self._start()
        with self._starting:
            if self._thread is None:
                stop = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(stop,), name="lacre-sequencer", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    return  # the process is ending; whoever comes next sequences what waits
                self._thread, self._stop = thread, stop

    def close(self) -> None:
        """Sequence what waits, and rest. `notify` begins again."""
        if os.getpid() != self._process:
            return
        with self._starting:
            thread, stop, self._thread = self._thread, self._stop, None
        if thread is None or stop is None:
            return
        stop.set()
        if thread is not threading.current_thread():
            thread.join()
        self._sequencer.close()

    def _run(self, stop: threading.Event) -> None:
        wait = self._interval
        while not stop.wait(wait):
            self._guarded(self._sequencer.turn)
            wait = self._interval if self._sequencer.holds else _STANDBY
        self._guarded(self._sequencer.rest)

    def _guarded(self, work: Callable[[], object]) -> None:
        # Nobody waits for this thread: what stopped it is said once, where the application's log is read.
        try:
            work()
        except LacreError as error:
            self._tell(f"{error} ({error.hint})")
        except Exception as error:  # noqa: BLE001 - the next turn may do, and nothing is lost until then
            self._tell(type(error).__name__)
        else:
            self._told = ""

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            _log.error("the evidence log is not sequenced: %s", what)


def run(sequencer: Sequencer, stop: threading.Event, *, interval: float = _INTERVAL) -> None:
    """
    Run *sequencer* until *stop*, then let it rest.

    Raises:
        ConfigurationError, Tampered: what only somebody can set right; it rests as far as it can.
    """
    while True:
        try:
            sequencer.turn()
        except LacreError as error:
            if not error.retryable:
                raise
            _log.warning("%s (%s)", error, error.hint)
        if stop.wait(interval):
            break
    sequencer.rest()
