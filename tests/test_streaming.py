"""Windows over a stream: every frame once, with the halo that exists."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufuse.streaming import chunks_of, windows

HALOS = st.tuples(st.integers(0, 6), st.integers(0, 6))


@settings(derandomize=True, deadline=None, max_examples=120)
@given(chunks=st.lists(st.integers(0, 7), max_size=9), halos=st.lists(HALOS, min_size=1, max_size=3))
def test_each_frame_once_with_the_right_halo(chunks, halos):
    ends = numpy.cumsum([0, *chunks])
    total = int(ends[-1])
    stream = (
        tuple(100 * k + numpy.arange(ends[i], ends[i + 1]) for k in range(len(halos)))
        for i in range(len(chunks))
    )
    reached = 0
    for window in windows(stream, *halos):
        assert window.first == reached
        assert len(window) >= 1
        stop = reached + len(window)
        for k, (piece, (before, after)) in enumerate(zip(window.pieces, halos, strict=True)):
            numpy.testing.assert_array_equal(piece.core, 100 * k + numpy.arange(reached, stop))
            first, last = max(0, reached - before), min(total, stop + after)
            numpy.testing.assert_array_equal(piece.frames, 100 * k + numpy.arange(first, last))
            assert piece.stop - piece.start == len(window)
        reached = stop
    assert reached == total


@pytest.mark.parametrize("halo", [0, 2, 5])
@pytest.mark.parametrize("length", [1, 3, 8])
def test_it_reads_no_further_than_it_must_and_forgets(halo, length):
    read = 0

    def stream():
        nonlocal read
        while read < 200:
            read += length
            yield (numpy.arange(read - length, read),)

    for window in windows(stream(), (halo, halo)):
        done = window.first + len(window)
        assert read <= done + halo + length, "the delay is the halo and one chunk"
        assert len(window.pieces[0].frames) <= len(window) + 2 * halo
        assert len(window) <= length + halo


def test_memory_does_not_grow_with_the_stream():
    alive = []

    class Chunk(numpy.ndarray):
        def __del__(self):
            if self.base is None:
                alive.remove(id(self))

    def stream():
        for _ in range(60):
            chunk = Chunk((4,))
            chunk[...] = 0
            alive.append(id(chunk))
            yield (chunk,)

    most = 0
    for _window in windows(stream(), (3, 3)):
        most = max(most, len(alive))
    assert 2 <= most <= 5


@pytest.mark.parametrize("stream", [[], [(numpy.arange(0),)], [(numpy.arange(0),)] * 3])
def test_streams_without_frames(stream):
    assert list(windows(stream, (2, 2))) == []


def test_a_window_in_one_chunk_is_a_view():
    chunk = numpy.arange(10)
    (window,) = windows([(chunk,)], (0, 0))
    assert numpy.shares_memory(window.pieces[0].frames, chunk)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_each_chunk_is_the_core_of_one_window_and_nothing_is_copied(length):
    chunks = [numpy.arange(i, i + length) for i in range(0, 20, length)]
    found = list(windows(((chunk,) for chunk in chunks), (2, 3)))
    assert len(found) == len(chunks)
    for window, chunk in zip(found, chunks, strict=True):
        (piece,) = window.pieces
        assert piece.core.base is chunk
        assert [part.base is not None for part in piece.parts] == [True] * len(piece.parts)
        assert piece.stack == piece.frames.tolist()
        assert piece.stack[piece.start : piece.stop] == chunk.tolist()


def test_parts_of_windows_have_their_halos():
    chunks = [(numpy.arange(i, i + 3),) for i in range(0, 12, 3)]
    window = list(windows(chunks, (2, 4)))[1]
    first, second = window.halves()
    assert (first.first, second.first) == (3, 4)
    assert first.pieces[0].frames.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert second.pieces[0].frames.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert second.pieces[0].core.tolist() == [4, 5]


def test_halos_do_not_change_what_is_passed_on():
    """Two stages in a row see each frame with its neighbours, whatever the chunks are."""

    def mean_of_three(stream):
        for window in windows(stream, (1, 1)):
            piece = window.pieces[0]
            ends = (int(piece.start == 0), int(piece.stop == len(piece.frames)))
            frames = numpy.pad(piece.frames, ends, mode="edge")
            start = piece.start + ends[0]
            yield (sum(frames[start + k - 1 : start + k - 1 + len(window)] for k in range(3)),)

    values = numpy.arange(23) ** 2
    results = []
    for length in (1, 2, 5, 23):
        stream = ((values[i : i + length],) for i in range(0, 23, length))
        results.append(numpy.concatenate([chunk for (chunk,) in mean_of_three(mean_of_three(stream))]))
    for result in results[1:]:
        numpy.testing.assert_array_equal(result, results[0])


@settings(derandomize=True, deadline=None, max_examples=30)
@given(count=st.integers(0, 30), length=st.integers(1, 9))
def test_chunks_of(count, length):
    chunks = list(chunks_of(iter(range(count)), length))
    assert [item for chunk in chunks for item in chunk] == list(range(count))
    assert all(len(chunk) == length for chunk in chunks[:-1])
    assert all(1 <= len(chunk) <= length for chunk in chunks)
