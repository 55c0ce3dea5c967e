"""An engine of ranks on the host that are threads: it goes by the name of this package."""

import numpy as np
import pytest

from agclip.adapters import Engine
from agclip.distributed import _engines
from ranks.thread_ranks import Together, together


class Group:
    """A communicator that is no function, and keeps a record."""

    def __init__(self, call, log, *, host):
        self.call, self.log, self.host = call, log, host


def all_reduce(group, vector, op):
    found = group.call(vector, op)
    group.log.append((op, len(found)))
    return np.asarray(found).tolist()


ENGINE = Engine(lambda x: isinstance(x, Group), all_reduce, host=lambda group: group.host)


@pytest.fixture
def host_engine(monkeypatch):
    """The engine, advertised."""
    monkeypatch.setattr(_engines, "engine_ranks", ENGINE, raising=False)


def on_host(size, program, *, host=True):
    """Return what `program(rank, comm)` returns on each rank, and the vectors, the same on all."""
    logs = [[] for _ in range(size)]

    def work(rank, met: Together):
        return program(rank, Group(met.communicator(rank), logs[rank], host=host))

    found = together(size, work)
    assert all(log == logs[0] for log in logs), (logs, found)
    return found, logs[0]
