"""Bands and the thread count."""

import os
import threading
import time

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpufuse
from gpufuse import threads as policy
from gpufuse.threads import for_bands, get_threads, set_threads


def test_the_default_is_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert policy._available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((7, 7), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert policy._available_cores() == expected


def test_the_count_is_that_of_the_package(threads):
    threads(5)
    assert gpufuse.get_threads() == get_threads() == 5


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_thread(count):
    before = get_threads()
    with pytest.raises(ValueError, match=f"count: expected a whole number of threads from 1, got {count}"):
        set_threads(count)
    assert get_threads() == before


@settings(derandomize=True, deadline=None, max_examples=30)
@given(count=st.integers(0, 50), workers=st.integers(1, 6), minimum=st.integers(0, 20))
def test_each_item_is_in_exactly_one_band(count, workers, minimum):
    before = get_threads()
    set_threads(workers)
    try:
        hits, bands = numpy.zeros(count, int), []

        def kernel(start, stop, step):
            bands.append(stop - start)
            hits[start:stop] += step

        for_bands(kernel, count, 1, minimum=minimum)
    finally:
        set_threads(before)
    assert (hits == 1).all()
    assert len(bands) <= policy._BANDS_PER_THREAD * workers
    assert len(bands) == 1 or min(bands) >= minimum


def test_bands_run_at_the_same_time(threads):
    threads(3)
    barrier = threading.Barrier(3, timeout=20)
    names = set()

    def kernel(start, stop):
        barrier.wait()  # breaks, and so raises, unless all three are here together
        names.add(threading.current_thread().name)

    for_bands(kernel, 3)
    assert len(names) == 3


def test_no_more_bands_at_a_time_than_threads(threads):
    threads(2)
    now, most = [], []

    def kernel(start, stop):
        now.append(start)
        most.append(len(now))
        time.sleep(0.002)
        now.remove(start)

    for_bands(kernel, 100)
    assert len(most) > 2
    assert max(most) == 2


def test_a_thread_that_is_held_up_holds_up_its_band_alone(threads):
    threads(2)
    others_done = threading.Event()
    done = []

    def kernel(start, stop):
        if start == 0:
            assert others_done.wait(20)
        done.append(start)
        if len(done) == policy._BANDS_PER_THREAD * 2 - 1:
            others_done.set()

    for_bands(kernel, 100)
    assert done[-1] == 0


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_in_any_band_comes_out(threads, broken):
    threads(3)

    def kernel(start, stop):
        if start == broken:
            raise ArithmeticError(f"band {start}")

    with pytest.raises(ArithmeticError, match=f"band {broken}"):
        for_bands(kernel, 3)


def test_callers_in_many_threads(threads):
    threads(3)
    total = numpy.zeros((8, 100), int)

    def kernel(start, stop, row):
        row[start:stop] += 1

    callers = [threading.Thread(target=for_bands, args=(kernel, 100, row)) for row in total]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=20)
    assert (total == 1).all()
