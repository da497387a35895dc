"""How the command line ends when it is interrupted, when memory runs out, and when something goes wrong in it.

Always in one line and with an exit code, and through every `finally` on the way: so nothing half written is left.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
LEAST = 2**32
"""Bytes of memory that are always asked for: what counts as free says little where there is little."""
BAD_INPUT = 2


class Interrupted(BaseException):
    """A signal to end has come.  No Exception: nothing that is prepared for any error holds it up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{SIGNALS[signal.Signals(number)]}; what was there before is as it was")
        self.code = 128 + number


@contextmanager
def in_one_line(fail: Callable[[str, int], Any]) -> Iterator[None]:
    """Have `fail` say in one line, with an exit code, what ended the block; click's own exceptions pass, and those it knows."""
    import click

    try:
        with _interruptible(), _limited():
            yield
    except Interrupted as signalled:
        fail(str(signalled), signalled.code)
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):  # nobody reads on: no mistake
        raise
    except MemoryError as error:
        fail(f"it needs more memory than there is ({error or 'a small piece was missing'})", BAD_INPUT)
    except Exception as error:
        if os.environ.get("REPC_TRACEBACK"):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}, {Path(place.filename).name} line {place.lineno}"
        fail(f"a model that repc is not prepared for, or a mistake in repc ({what}); REPC_TRACEBACK=1 shows more", BAD_INPUT)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Signals to end become `Interrupted`; a run of onnxruntime is stopped for it, which would not notice."""
    if current_thread() is not main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # once is enough: cleaning up is not to be interrupted
        raise Interrupted(number)

    def stop_runs() -> None:
        with reader:
            while reader.recv(1):
                from repcompiler.runtime import WATCH

                WATCH.stop()

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = Thread(target=stop_runs, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        writer.close()
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _limited() -> Iterator[None]:
    """No more memory than there is: what asks for more is refused, and the machine goes on."""
    try:
        import resource

        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        free = sum(1024 * int(number) for name, number, *_ in lines if name in ("MemAvailable:", "SwapFree:"))
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, OSError, ValueError):  # another system: it will say so itself
        yield
        return
    most = max(free, LEAST)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (min([most, *limits]), hard))
    try:
        yield
    finally:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
