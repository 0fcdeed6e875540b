"""How a run looks: live on a terminal, plain log lines elsewhere."""

import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType


class ConsoleReporter:
    """Shows progress as rich text on a terminal and as plain lines in a log.

    Args:
        console: Where to.
        progress: Says how far the work of a step is, None when there is nothing to say.
        every: Seconds between two looks; by default a second on a terminal, a minute in a log.
    """

    def __init__(
        self,
        console: Console,
        progress: Callable[[], str | None] | None = None,
        every: float | None = None,
    ) -> None:
        self._console = console
        self._progress = progress
        self._every = every or (1 if console.is_terminal else 60)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that a step is under way, how far it is, and how long it took."""
        started = time.monotonic()
        if self._console.is_terminal:
            with (
                self._console.status(text) as status,
                self._watching(lambda words: status.update(f"{text}: {words}")),
            ):
                yield
        else:
            self._console.print(f"  {text} ...", highlight=False)
            with self._watching(self.say):
                yield
        self._console.print(f"  {text}: {time.monotonic() - started:.1f} s", highlight=False)

    @contextmanager
    def _watching(self, show: Callable[[str], object]) -> Iterator[None]:
        """Show how far the work is, from a thread beside it."""
        done = threading.Event()

        def watch() -> None:
            while self._progress is not None and not done.wait(self._every):
                if words := self._progress():
                    show(words)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def say(self, text: str) -> None:
        """Show one line."""
        self._console.print(f"    {text}", highlight=False, markup=False)

    def heading(self, text: str) -> None:
        """Show the start of a job."""
        self._console.print(text, style="bold", highlight=False, markup=False)

    def show(self, renderable: RenderableType) -> None:
        """Show a table or anything else rich can print."""
        self._console.print(renderable)


@contextmanager
def libraries_to_log(name: str, verbose: bool) -> Iterator[tuple[TextIO, Path | None]]:
    """Keep what Spark, TensorFlow and others write to standard error in a log file.

    They write to the file descriptor itself, from C++ and from the JVM, so that is what moves;
    `--verbose` leaves it where it is.

    Yields:
        Where our own messages go (the true standard error), and the log file, if any.
    """
    if verbose:
        yield sys.stderr, None
        return
    handle, path = tempfile.mkstemp(prefix=f"habitus-{name}-", suffix=".log")
    kept = os.dup(2)
    os.dup2(handle, 2)
    # PySpark logs every error that a caller handles, too.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    try:
        with (
            os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream,
            os.fdopen(handle, "w", encoding="utf-8") as log,
            redirect_stderr(log),
        ):
            yield stream, Path(path)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
