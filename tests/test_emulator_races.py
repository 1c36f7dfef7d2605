"""The race detector against an oracle that compares all pairs of accesses, on random programs."""

import itertools

import cuemu
import numpy
import pytest


@pytest.fixture(autouse=True)
def _emulator():
    cuemu.need(cuemu.unavailable())


# A thread reads its own list of operations: three epochs between barriers, two phases between __syncwarp.
SOURCE = """
extern "C" __global__ void __launch_bounds__(64) program(const int* operations, float* g, int count)
{
    __shared__ float s[16];
    if (threadIdx.x < 16) s[threadIdx.x] = 0.0f;
    __syncthreads();
    const int* p = operations + (blockIdx.x * blockDim.x + threadIdx.x) * 3 * 2 * count;
    float sum = 0.0f;
    for (int epoch = 0; epoch < 3; ++epoch) {
        for (int phase = 0; phase < 2; ++phase) {
            for (int k = 0; k < count; ++k, ++p) {
                const int operation = *p & 7, a = *p >> 3;
                if (operation == 1) sum += s[a];
                else if (operation == 2) s[a] = sum;
                else if (operation == 3) atomicAdd(&s[a], 1.0f);
                else if (operation == 4) sum += g[a];
                else if (operation == 5) g[a] = sum + 1.0f;
                else if (operation == 6) atomicAdd(&g[a], 1.0f);
            }
            __syncwarp();
        }
        __syncthreads();
    }
    if (sum == 12345.678f) s[0] = sum;
}
"""
READ, ATOMIC = 0, 2
COUNT = 300


def has_race(operations):
    accesses = {}
    for index in zip(*numpy.nonzero(operations), strict=True):
        block, thread, epoch, phase, _ = map(int, index)
        operation, address = int(operations[index]) & 7, int(operations[index]) >> 3
        place = ("shared", block, address) if operation < 4 else ("global", address)
        accesses.setdefault(place, []).append((block, thread, epoch, phase, (operation - 1) % 3))
    return any(conflict(a, b) for group in accesses.values() for a, b in itertools.combinations(group, 2))


def conflict(a, b):
    if a[:2] == b[:2] or a[4] == b[4] == READ or a[4] == b[4] == ATOMIC:
        return False
    same_warp = a[1] // 32 == b[1] // 32
    ordered = a[0] == b[0] and (a[2] != b[2] or (same_warp and a[3] != b[3]))
    return not ordered


def random_program(rng):
    operations = numpy.zeros((int(rng.integers(1, 3)), 64, 3, 2, 2), numpy.int32)
    for _ in range(int(rng.integers(2, 9))):
        thread = rng.choice([0, 1, 33, 40])
        at = (rng.integers(len(operations)), thread, rng.integers(3), rng.integers(2), rng.integers(2))
        operations[at] = rng.integers(1, 7) | rng.integers(2) << 3
    return operations


def test_races_are_found_exactly():
    kernel = cuemu.Module(SOURCE).get_function("program")
    rng = numpy.random.default_rng(5)
    found = 0
    for number in range(COUNT):
        operations = random_program(rng)
        kernel.order, kernel.seed = number % 3, number
        try:
            kernel((len(operations),), (64,), (operations, numpy.zeros(16, numpy.float32), numpy.int32(2)))
            kind = None
        except cuemu.EmuError as error:
            kind = error.kind
        assert kind in (("shared-race", "global-race") if has_race(operations) else (None,)), number
        found += kind is not None
    assert 0.2 * COUNT < found < 0.9 * COUNT
