"""What NVIDIA's compiler makes of the kernels for every architecture: no spills, no accidental doubles."""

import functools

import cuemu
import pytest
from cuemu import ptx, source
from cuemu.project import kernel_files

FILES = list(kernel_files())

IN_DOUBLE = {
    "blend_moments": "sums over a frame: float32 would lose the digits that the fit depends on",
    "sum_moments": "as blend_moments",
    "shared_fits": "the closed form subtracts nearly equal products",
}
"""Kernels that compute in double, and why."""

FROM_DOUBLE = {"apply_affine", "affine_pixels"}
"""Kernels that round coefficients given in double, and do nothing else with them."""


@pytest.fixture(autouse=True)
def _compiler():
    cuemu.need(ptx.unavailable())


@functools.cache
def compiled(file, architecture):
    return ptx.resources(file.source, architecture, file.options, file.variants)


@pytest.mark.parametrize("architecture", ptx.ARCHITECTURES)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_resources(file, architecture):
    found = compiled(file, architecture)
    plain = {k.name for k in source.kernels(source.strip(file.source)) if k.template is None}
    assert set(found) == plain | set(file.variants)
    for name, kernel in found.items():
        stem = name.partition("<")[0]
        spilled = (kernel.stack, kernel.spill_stores, kernel.spill_loads)
        assert spilled == (0, 0, 0), f"{name}: bytes of stack, stored and loaded in spills"
        assert kernel.shared <= 48 << 10, name
        assert kernel.threads < 1024 or "1024" in file.text, f"{name}: no launch bound reached the compiler"
        assert ptx.occupancy(architecture, kernel) > 0, name
        doubles = set(kernel.doubles)
        if stem in FROM_DOUBLE:
            doubles = {text for text in doubles if not text.startswith(("ld.", "cvt.rn.ftz.f32.f64", "mov."))}
        if stem not in IN_DOUBLE:
            assert not doubles, f"{name}: double arithmetic that nobody intended: {sorted(doubles)}"


def test_what_is_said_to_need_doubles_has_them():
    for file in FILES:
        for name, kernel in compiled(file, "sm_90").items():
            stem = name.partition("<")[0]
            assert bool(kernel.doubles) == (stem in {*IN_DOUBLE, *FROM_DOUBLE}), name


SPILLING = """extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float* p, int n)
{
    float v[64];
#pragma unroll
    for (int k = 0; k < 64; k++) v[k] = p[k * n + threadIdx.x];
#pragma unroll
    for (int k = 0; k < 64; k++) p[k * n + threadIdx.x] = v[63 - k] * v[(k * 7) % 64];
}
extern "C" __global__ void __launch_bounds__(64) stacked(float* p, int n)
{
    float v[64];
    for (int k = 0; k < 64; k++) v[k] = p[k];
    for (int k = 0; k < n; k++) v[(k * n) & 63] += v[(k + n) & 63];
    for (int k = 0; k < 64; k++) p[k] = v[k];
}
extern "C" __global__ void __launch_bounds__(128) doubled(float* p)
{
    __shared__ float s[256];
    s[threadIdx.x] = p[threadIdx.x];
    __syncthreads();
    p[threadIdx.x] = s[127 - threadIdx.x] * 2.3;
}
"""


def test_spills_stacks_and_doubles_are_seen():
    found = ptx.resources(SPILLING, "sm_90")
    assert found["spilling"].spill_stores > 0
    assert found["spilling"].spill_loads > 0
    assert found["stacked"].stack >= 256
    assert found["doubled"].doubles
    assert not found["spilling"].doubles
    assert (found["doubled"].shared, found["doubled"].threads) == (1024, 128)
    assert found["doubled"].stack == 0


def test_occupancy_of_a_known_case():
    kernel = ptx.Resources(32, 0, 0, 0, 0, 256, ())
    assert ptx.occupancy("sm_90", kernel) == 1.0
    assert ptx.occupancy("sm_90", ptx.Resources(128, 0, 0, 0, 0, 256, ())) == 0.25
    assert ptx.occupancy("sm_75", ptx.Resources(32, 0, 0, 0, 32 << 10, 256, ())) == 0.5
    assert ptx.occupancy("sm_86", kernel) == 1.0


def test_errors_are_the_compilers():
    with pytest.raises(cuemu.CompileError, match="expected an expression"):
        ptx.resources("__global__ void f() { int x = ; }", "sm_90")
