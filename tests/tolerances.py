"""Every tolerance of the tests, with its reason. Levels are grey levels, 0..255."""

SUSAN_LEVELS = 0.001
"""The CPU filter replaces the exponential by a polynomial; its docstring promises this bound."""

SUSAN_SYMMETRY_LEVELS = 2e-3
"""Flipped frames add the same 44 float32 weights in another order: a few dozen roundings of 255."""

SUSAN_EMPTY_BAND = 0.05
"""Relative distance of a sum of weights from 1e-6 within which the polynomial may decide otherwise
than the exponential between mean and median; such samples are left out of the comparison."""

FLOAT64 = 1e-12
"""A few float64 roundings, relative."""

FLOAT32_LEVELS = 1e-4
"""A few float32 roundings of numbers below 1000 levels (one rounding of 255 is 1.5e-5)."""

ADJOINT = 1e-12
"""Relative to the sum of absolute products: a float64 sum of some thousand terms."""

FIT = 1e-6
"""Closed form in float64 against least squares by an orthogonal decomposition."""

GAUSSIAN = 1e-5
"""Importance is float32 in [0, 1]; the Gaussian sums some dozen terms."""

MULTIGRID_LEVELS = 0.25
"""Promised distance of the multigrid result from the direct solution, after normalisation."""

DIRECT_LEVELS = 0.02
"""Float32 pictures, cosine transform and fit against float64: thousands of roundings of 255."""

UINT8_LEVELS = 1
"""A real number near a half may be rounded up here and down there."""

UINT16_ROUND_TRIP = 0
"""65535 steps need 16 bits, float32 has 24: nothing may be lost."""

DEVICE_EQUAL = 0.999
"""Share of pixels that are equal on the CPU and on a GPU: the rest lie near a half and round otherwise."""
