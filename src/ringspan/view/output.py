"""Standard output behind a bounded queue: a reader that does not read must not stop the drain, nor the end."""

from __future__ import annotations

import threading
from collections import deque
from typing import TextIO

QUEUE_BYTES = 64 << 20


class Output:
    """Writes from a thread of its own; what the queue cannot hold is dropped and counted, by rows."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._queue: deque[tuple[str, int]] = deque()
        self._changed = threading.Condition()
        self._bytes = 0
        self._closing = False
        self.rows = 0
        self.written = 0
        self.dropped = 0
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="ringspan-output", daemon=True)
        self._thread.start()

    def put(self, text: str, rows: int) -> None:
        """Queue text that holds so many rows; raises what writing has raised (BrokenPipeError, OSError)."""
        self.rows += rows
        self.check()
        with self._changed:
            if self._bytes + len(text) > QUEUE_BYTES:
                self.dropped += rows
                return
            self._queue.append((text, rows))
            self._bytes += len(text)
            self._changed.notify()

    def check(self) -> None:
        """Raise what writing has raised (BrokenPipeError, OSError)."""
        if self.error:
            raise self.error

    def close(self, deadline_s: float) -> None:
        """Write what is queued for at most deadline_s; what is left is dropped, and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(deadline_s)
        self.dropped = self.rows - self.written

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                text, rows = self._queue.popleft()
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self.error = error if isinstance(error, OSError) else BrokenPipeError(str(error))
                return
            with self._changed:
                self._bytes -= len(text)
                self.written += rows
