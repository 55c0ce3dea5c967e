"""Calls of the fused CUDA kernels: tables, workspaces, captures, and what is refused."""

import numpy as np
import pytest

import fused_host
from agclip_backends._cuda import recent
from agclip_backends._cuda import table as _table
from agclip_backends._cuda.described import Described
from agclip_backends._cuda.fused import Room
from agclip_backends._cuda.fused_source import INLINE
from agclip_backends._cuda.source import CHUNK
from agclip_backends._cuda.table import Terms
from fused_cases import EACH, entries

pytest_plugins = ["fused_fixtures"]


def test_what_the_kernels_cannot_have_is_left_alone(room, host_library):
    x = np.ones((6, 8), np.float32)
    whole = np.ones(10, np.float32)
    for leaves in (
        [],
        [x[:, ::2]],
        [x.astype(np.int32)],
        [whole[:6], whole[5:]],
    ):
        assert room.clip(leaves, None, Terms(), 1.0) is None
        assert not room.within(leaves, None, (0.0,) * 4, (0.0,) * 4)
    assert room.clip([x], [np.ones(47, np.float32)], Terms(), 1.0) is None
    assert room.clip([x], None, Terms(), np.ones(3)) is None
    assert host_library.launches == []


def test_leaves_without_entries_have_a_norm_of_zero(room, host_library):
    done = room.clip([np.ones(0, np.float32)] * 2, None, Terms(), 1.0)
    assert done.norm == 0
    assert host_library.launches == ["agclip_norm_2"]


@pytest.mark.parametrize("terms", [Terms(), EACH], ids=["joint", "each"])
def test_a_leaf_without_entries_has_no_sum_of_an_earlier_call(room, terms):
    room.clip([np.ones(3 * CHUNK, np.float32)], None, terms, 1e9)
    x = np.full(4, 3.0, np.float32)
    done = room.clip([np.ones(0, np.float32), x], None, terms, 6.0)
    assert done.record[0] == (6.0 if terms.joint else 0.0)
    assert x.tolist() == [3.0] * 4


def test_a_short_table_is_never_uploaded_and_a_long_one_once(room, host_library):
    leaves = [entries("float32", 9, i) for i in range(INLINE + 1)]
    room.clip(leaves[:-1], None, Terms(), 1.0)
    assert host_library.uploads == 0
    for _ in range(3):
        room.clip(leaves, None, Terms(), 1.0)
    assert host_library.uploads == 1
    room.clip([x.copy() for x in leaves], None, Terms(), 1.0)
    assert host_library.uploads == 2
    host_library.stream += 16
    room.clip(leaves, None, Terms(), 1.0)
    assert host_library.uploads == 3


def test_tables_are_not_kept_for_ever(room, monkeypatch):
    monkeypatch.setattr(recent, "MOST_LISTS", 20)
    leaves = [np.ones(3, np.float32) for _ in range(29)]
    for x in leaves:
        room.clip([x], None, Terms(), 1.0)
    assert len(room._ordered.tables) == 20


def test_streams_have_workspaces_of_their_own_whose_counters_end_at_zero(room, host_library):
    small = [entries("float32", 10)]
    large = [entries("float32", 1 + i % 7, i) for i in range(1100)]
    large.append(entries("float32", 3 * CHUNK))
    for stream in (7, 23):
        host_library.stream = stream
        for leaves in (small, large, small):
            room.clip(leaves, None, Terms(), 1.0)
    spaces = list(room._ordered.workspaces.values())
    assert len({w.address for w in spaces}) == 2
    for w in spaces:
        assert not w.memory.view(np.uint32)[: w.leaves + 3].any()


@pytest.mark.parametrize(("count", "terms"), [(3, Terms()), (300, Terms()), (120, EACH)])
def test_what_is_captured_can_be_replayed(library, count, terms):
    host_library = fused_host.HostLibrary(library)
    room = Room(host_library)
    sizes = [1 + 37 * i % 300 for i in range(count)]
    sizes[1] = 5 * CHUNK + 3
    static = [entries("float32", n) for n in sizes]
    room.clip(static, None, terms, 1e9)
    host_library.capturing = True
    host_library.recorded.clear()
    done = room.clip(static, None, terms, 1.0)
    host_library.capturing = False
    replayed = list(host_library.recorded)
    for turn in range(3):
        new = [entries("float32", n, turn + 1) for n in sizes]
        for x, y in zip(static, new, strict=True):
            x[...] = y
        eager = room.clip(new, None, terms, 1.0)
        host_library.recorded = replayed
        host_library.replay()
        host_library.recorded = []
        assert [x.tobytes() for x in static] == [x.tobytes() for x in new]
        assert done.record[:7].tobytes() == eager.record[:7].tobytes()


def test_sizes_beyond_32_bits_are_passed_on_whole(room):
    far = Described((1 << 48, 1 << 50), (1 << 41, 5), (2, 2))
    table = room._new_table(_table.Place(0, 7, False), far, far, None)
    assert table.chunks == (1 << 27) + 1
    first = _table.LEAF.unpack_from(table.template, 200)
    second = _table.LEAF.unpack_from(table.template, 200 + _table.LEAF.size)
    assert first == (1 << 48, 1 << 48, 1 << 41, 0, 2, 1.0)
    assert second == (1 << 50, 1 << 50, 5, 1 << 27, 2, 1.0)


def test_a_table_that_a_graph_reads_is_no_part_of_the_graph_and_stays(
    room, host_library, monkeypatch
):
    monkeypatch.setattr(recent, "MOST_LISTS", 4)
    leaves = [entries("float32", 9, i) for i in range(INLINE + 1)]
    room.clip(leaves, None, Terms(), 1.0)
    host_library.capturing = True
    host_library.recorded.clear()
    for _ in range(2):
        room.clip(leaves, None, Terms(), 1.0)
    host_library.capturing = False
    assert host_library.uploads == 2
    assert [step[0] for step in host_library.recorded] == ["run"] * 4
    for i in range(5):
        room.clip([entries("float32", 9, i)], None, Terms(), 1.0)
    assert len(room._captured) == 1


def test_only_a_launch_that_waits_by_itself_may_begin_early(library):
    class Watched(fused_host.HostLibrary):
        def launch(self, place, function, grid, parameters, *, follows):
            early.append((function, follows))
            super().launch(place, function, grid, parameters, follows=follows)

    early = []
    room = Room(Watched(library))
    room.clip([np.ones(5)], None, Terms(), 1.0)
    room.within([np.ones(5)], None, (0.0,) * 4, (1.0,) * 4)
    assert early == [
        ("agclip_norm_2", False),
        ("agclip_norm_2_again", True),
        ("agclip_product", True),
        ("agclip_within", False),
    ]
