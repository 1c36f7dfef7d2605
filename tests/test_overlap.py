"""Threads behind bounded queues: order, exceptions, and no thread left."""

import threading
import time

import pytest

from gpufuse.overlap import BackgroundWriter, prefetch


@pytest.fixture(autouse=True)
def no_thread_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_all_items_come_in_order(size, count):
    assert list(prefetch(range(count), size)) == list(range(count))


def test_reading_runs_ahead_but_not_far():
    fetched = []

    def items():
        for k in range(100):
            fetched.append(k)
            yield k

    iterator = prefetch(items(), 2)
    assert next(iterator) == 0
    deadline = time.monotonic() + 5
    while len(fetched) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(fetched) == 4  # one taken, two waiting, one in hand
    iterator.close()


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt()])
def test_an_exception_arrives_after_the_items_before_it(error):
    def items():
        yield 1
        yield 2
        raise error

    iterator = prefetch(items())
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(type(error)):
        next(iterator)


@pytest.mark.parametrize("stop", ["break", "close", "raise"])
def test_the_source_is_closed_when_the_consumer_stops(stop):
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    iterator = prefetch(items())
    if stop == "break":
        for _ in iterator:
            break
        del iterator
    elif stop == "close":
        next(iterator)
        iterator.close()
    else:
        next(iterator)
        with pytest.raises(KeyboardInterrupt):
            iterator.throw(KeyboardInterrupt)
    assert closed == ["gpufuse-prefetch"]


def test_an_iterator_that_was_never_used_starts_no_thread():
    before = threading.active_count()
    iterator = prefetch(range(3))
    assert threading.active_count() == before
    del iterator


def test_a_source_that_cannot_be_iterated_is_reported():
    with pytest.raises(TypeError, match="not iterable"):
        list(prefetch(5))


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="size: expected at least 1 item, got 0"):
        prefetch(range(3), 0)
    with pytest.raises(ValueError, match="size: expected at least 1 item, got -1"):
        BackgroundWriter(print, -1)


@pytest.mark.parametrize("size", [1, 3])
def test_all_items_are_written_in_order(size):
    written = []
    with BackgroundWriter(written.append, size) as writer:
        for k in range(40):
            writer.put(k)
    assert written == list(range(40))


def test_a_failing_write_is_raised_once_and_nothing_more_is_written():
    written = []

    def write(item):
        if item == 3:
            raise OSError("no space")
        written.append(item)

    def write_all():
        with BackgroundWriter(write, 1) as writer:
            for k in range(100):
                writer.put(k)

    with pytest.raises(OSError, match="no space"):
        write_all()
    assert written == [0, 1, 2]


def test_a_failure_of_the_last_item_is_raised_at_the_end():
    def write(item):
        time.sleep(0.01)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), BackgroundWriter(write) as writer:
        writer.put(1)


def test_waiting_items_are_dropped_when_the_block_fails():
    written = []
    started, proceed = threading.Event(), threading.Event()

    def write(item):
        started.set()
        proceed.wait(5)
        written.append(item)

    def interrupted():
        with BackgroundWriter(write, 4) as writer:
            for k in range(4):
                writer.put(k)
            started.wait(5)
            timer.start()
            raise KeyboardInterrupt

    timer = threading.Timer(0.05, proceed.set)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    timer.join()
    assert written == [0]


def test_a_closed_writer_refuses_items():
    writer = BackgroundWriter(print)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="put: expected an open writer"):
        writer.put(1)
