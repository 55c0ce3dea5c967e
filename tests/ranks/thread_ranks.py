"""Ranks that are threads of one process: the protocol without an engine, at next to no cost."""

from __future__ import annotations

import threading

import numpy as np

SECONDS = 60
"""What a rank waits for the others at most."""


class Together:
    """Threads that meet at every reduction, and check that all send one kind of vector."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=SECONDS)
        self.sent = [None] * size

    def communicator(self, rank, log=None):
        """Return a communicator `(vector, op) -> vector` of one rank, which may keep a record."""

        def all_reduce(vector, op):
            self.sent[rank] = (op, np.asarray(vector, np.float64))
            if log is not None:
                log.append((op, len(self.sent[rank][1])))
            self.barrier.wait()
            kinds = {(op, values.shape) for op, values in self.sent}
            if len(kinds) > 1:
                self.barrier.abort()
                msg = f"vectors must agree; got {kinds}"
                raise AssertionError(msg)
            columns = [values for _, values in self.sent]
            total = np.max(columns, axis=0) if op == "max" else np.sum(columns, axis=0)
            self.barrier.wait()
            return total

        return all_reduce


def together(size, program):
    """Return what `program(rank, together)` returns on each rank, or the text of its error."""
    met = Together(size)
    found = [None] * size

    def work(rank):
        try:
            found[rank] = program(rank, met)
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            found[rank] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
