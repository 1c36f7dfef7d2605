"""Gradient, divergence and joint gradient magnitude on the pixel grid, with Neumann border."""

from __future__ import annotations

from gpufuse.arrays import Array, array_module

__all__ = ["divergence", "gradient", "squared_magnitude"]


def gradient(image: Array) -> tuple[Array, Array]:
    """Forward differences; the last column of x and the last row of y are 0.

    Parameters
    ----------
    image : ndarray, shape (..., H, W), float, grey levels
        NumPy or CuPy.

    Returns
    -------
    gx, gy : ndarray, shape (..., H, W)
        Same dtype (``float32`` for integers) and device, grey levels per pixel.

    Raises
    ------
    TypeError
        If `image` is no NumPy or CuPy array.
    ValueError
        If it has fewer than two axes.

    See Also
    --------
    divergence : the negative adjoint.

    Notes
    -----
    ``gx(y, x) = u(y, x+1) - u(y, x)``, ``gy(y, x) = u(y+1, x) - u(y, x)``, the discretisation of Fattal,
    Lischinski and Werman (SIGGRAPH 2002). Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> gx, gy = gradient(numpy.array([[0.0, 1.0], [3.0, 5.0]]))
    >>> gx
    array([[1., 0.],
           [2., 0.]])
    >>> gy
    array([[3., 4.],
           [0., 0.]])
    """
    xp = array_module(image)
    _check_planes(image, "image")
    if image.dtype.kind in "uib":
        image = image.astype(xp.float32)  # differences of unsigned numbers would wrap around
    gx, gy = xp.zeros_like(image), xp.zeros_like(image)
    xp.subtract(image[..., :, 1:], image[..., :, :-1], out=gx[..., :, :-1])
    xp.subtract(image[..., 1:, :], image[..., :-1, :], out=gy[..., :-1, :])
    return gx, gy


def divergence(gx: Array, gy: Array) -> Array:
    """Backward differences, the negative adjoint of `gradient`.

    ``<gradient(u), g> = -<u, divergence(g)>`` for every field `g`; what stands in the last column
    of `gx` and the last row of `gy` has no partner in `gradient` and is ignored.

    Parameters
    ----------
    gx, gy : ndarray, shape (..., H, W), float
        A field, NumPy or CuPy.

    Returns
    -------
    ndarray, shape (..., H, W)
        Same dtype and device; each plane sums to 0 up to rounding.

    Raises
    ------
    TypeError
        If the arrays are not on one device.
    ValueError
        If their shapes differ or have fewer than two axes.

    Notes
    -----
    ``divergence(*gradient(u))`` is the 5-point Laplacian with Neumann border. Synchronises: no.

    Examples
    --------
    >>> import numpy
    >>> divergence(*gradient(numpy.array([[0.0, 1.0, 5.0]])))
    array([[ 1.,  3., -4.]])
    """
    xp = array_module(gx, gy)
    _check_planes(gx, "gx")
    if gx.shape != gy.shape:
        raise ValueError(
            f"gx, gy: expected equal shapes, got {tuple(gx.shape)} and {tuple(gy.shape)}; "
            "pass both parts of one field"
        )
    rhs = xp.zeros_like(gx)
    rhs[..., :, :-1] += gx[..., :, :-1]
    rhs[..., :, 1:] -= gx[..., :, :-1]
    rhs[..., :-1, :] += gy[..., :-1, :]
    rhs[..., 1:, :] -= gy[..., :-1, :]
    return rhs


def squared_magnitude(gx: Array, gy: Array) -> Array:
    """Joint squared gradient magnitude of all channels.

    ``|G|^2 = sum over channels of gx^2 + gy^2``: one value per pixel, so that a choice between day and
    night is one choice for all channels.

    Parameters
    ----------
    gx, gy : ndarray, shape (..., C, H, W), float
        Grey levels per pixel.

    Returns
    -------
    ndarray, shape (..., H, W)
        Same dtype and device, grey levels squared.

    Examples
    --------
    >>> import numpy
    >>> squared_magnitude(*gradient(numpy.array([[[0.0, 3.0], [4.0, 4.0]]])))
    array([[25.,  1.],
           [ 0.,  0.]])
    """
    return (gx * gx + gy * gy).sum(axis=-3)


def _check_planes(field: Array, name: str) -> None:
    if field.ndim < 2:
        raise ValueError(f"{name}: expected shape (..., H, W), got {tuple(field.shape)}; reshape it")
