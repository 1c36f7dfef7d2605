"""The method in plain float64, written from its equations: slow, obvious, without the package's code.

Pictures are levels of shape (C, H, W), clips (T, C, H, W), importance (H, W), as in the package.
"""

import itertools

import numpy
import scipy.fft

RING = [offset for offset in itertools.product((-1, 0, 1), repeat=2) if offset != (0, 0)]
BLOCK = list(itertools.product((-2, -1, 0, 1, 2), (-1, 0, 1), (-1, 0, 1)))
EMPTY_USAN = 1e-6


# Denoising


def susan3d(frames, sigma=15.0, threshold=20.0):
    """One pass of the filter, and the sum of weights of each sample."""
    v = numpy.asarray(frames, numpy.float64)
    count, _, height, width = v.shape
    padded = numpy.pad(v, ((2, 2), (0, 0), (1, 1), (1, 1)), mode="edge")

    def neighbour(dt, dy, dx):
        return padded[2 + dt : 2 + dt + count, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    weights, total = numpy.zeros_like(v), numpy.zeros_like(v)
    for dt, dy, dx in BLOCK:
        if (dt, dy, dx) != (0, 0, 0):
            q = neighbour(dt, dy, dx)
            w = numpy.exp(-(dt**2 + dy**2 + dx**2) / (2 * sigma**2) - ((q - v) / threshold) ** 2)
            weights += w
            total += w * q
    median = numpy.median([neighbour(0, dy, dx) for dy, dx in RING], axis=0)
    mean = total / numpy.where(weights > 0, weights, 1)
    return numpy.where(weights < EMPTY_USAN, median, mean), weights


def susan3d_sample(frames, t, c, y, x, sigma=15.0, threshold=20.0):
    """One sample of one pass, neighbour by neighbour."""
    count, _, height, width = frames.shape
    v = float(frames[t, c, y, x])
    weights = total = 0.0
    for dt, dy, dx in BLOCK:
        if (dt, dy, dx) == (0, 0, 0):
            continue
        tt = min(max(t + dt, 0), count - 1)
        yy = min(max(y + dy, 0), height - 1)
        xx = min(max(x + dx, 0), width - 1)
        q = float(frames[tt, c, yy, xx])
        w = numpy.exp(-(dt**2 + dy**2 + dx**2) / (2 * sigma**2) - ((q - v) / threshold) ** 2)
        weights += w
        total += w * q
    return total / weights


# Gradients and mixing


def gradient(u):
    gx, gy = numpy.zeros_like(u), numpy.zeros_like(u)
    for x in range(u.shape[-1] - 1):
        gx[..., :, x] = u[..., :, x + 1] - u[..., :, x]
    for y in range(u.shape[-2] - 1):
        gy[..., y, :] = u[..., y + 1, :] - u[..., y, :]
    return gx, gy


def divergence(gx, gy):
    """Minus the adjoint: each difference gives to the pixel it starts from and takes from its end."""
    out = numpy.zeros_like(gx)
    for x in range(gx.shape[-1] - 1):
        out[..., :, x] += gx[..., :, x]
        out[..., :, x + 1] -= gx[..., :, x]
    for y in range(gy.shape[-2] - 1):
        out[..., y, :] += gy[..., y, :]
        out[..., y + 1, :] -= gy[..., y, :]
    return out


def lifted(night, lift, span=30.0):
    """Night whose dark pixels have `lift` times the contrast, in grey, one pixel after the other."""
    night = numpy.asarray(night, numpy.float64)
    result = night.copy()
    for y, x in numpy.ndindex(*night.shape[-2:]):
        brightest = max(night[:, y, x].max(), 0.0)
        result[:, y, x] += (lift - 1) * brightest / (1 + brightest / span)
    return result


def mix(
    day, night, importance, larger_where_zero=False, night_gain=1.0, day_only=None, lift=1.0, night_floor=0.0
):
    """Mixed gradient of one pair, pixel by pixel: shape (2, C, H, W), x before y."""
    g_day = numpy.array(gradient(numpy.asarray(day, numpy.float64)))
    g_night = night_gain * numpy.array(gradient(numpy.asarray(night, numpy.float64)))
    g_lifted = night_gain * numpy.array(gradient(lifted(night, lift)))
    mixed = numpy.empty_like(g_night)
    for y, x in numpy.ndindex(*importance.shape):
        d, n, w = g_day[:, :, y, x], g_night[:, :, y, x], float(importance[y, x])
        if day_only is not None and day_only[y, x]:
            mixed[:, :, y, x] = d
        elif w == 0 and larger_where_zero:
            mixed[:, :, y, x] = n if (n**2).sum() > max((d**2).sum(), night_floor**2) else d
        else:
            mixed[:, :, y, x] = w * (g_lifted[:, :, y, x] if w > 0 else n) + (1 - w) * d
    return mixed


# Reconstruction and normalisation


def reconstruct(rhs, data_weight=0.0):
    """Solution of ``laplacian(u) - data_weight u = rhs`` with Neumann border, by cosine transform.

    Without a data weight it is the one of mean 0.
    """
    spectrum = scipy.fft.dctn(numpy.asarray(rhs, numpy.float64), axes=(-2, -1))
    rows, columns = (2 * numpy.cos(numpy.pi * numpy.arange(n) / n) - 2 for n in rhs.shape[-2:])
    eigenvalues = rows[:, None] + columns - data_weight
    if data_weight == 0:
        eigenvalues[0, 0] = numpy.inf
    return scipy.fft.idctn(spectrum / eigenvalues, axes=(-2, -1))


def fit_affine(u, v):
    """Least squares of ``c1 u + c2 = v`` over all samples of one plane (or of several together)."""
    u, v = (numpy.asarray(a, numpy.float64).ravel() for a in (u, v))
    if numpy.ptp(u) < 1e-9:
        return 1.0, float(v.mean() - u.mean())
    (c1, c2), *_ = numpy.linalg.lstsq(numpy.stack([u, numpy.ones_like(u)], axis=1), v)
    return float(c1), float(c2)


def blend(day, night, importance):
    return importance * numpy.asarray(night, float) + (1 - importance) * numpy.asarray(day, float)


# Importance


def dilated_count(mask):
    """How many of the 3x3 pixels around each are set, the border replicated."""
    padded = numpy.pad(mask.astype(int), 1, mode="edge")
    height, width = mask.shape
    return sum(padded[dy : dy + height, dx : dx + width] for dy, dx in itertools.product(range(3), repeat=2))


def clean(mask):
    for _ in range(2):
        mask = dilated_count(mask) >= 4
    return mask


def feathered(weights, sigma):
    """Grown by one sigma, blurred, and never below what it was."""
    if sigma == 0:
        return weights
    grow, reach = int(numpy.ceil(sigma)), int(4 * sigma + 0.5)
    height, width = weights.shape
    padded = numpy.pad(weights, grow, mode="edge")
    grown = numpy.max(
        [
            padded[dy : dy + height, dx : dx + width]
            for dy, dx in itertools.product(range(2 * grow + 1), repeat=2)
        ],
        axis=0,
    )
    bell = numpy.exp(-(numpy.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    padded = numpy.pad(grown, reach, mode="edge")
    rows = sum(w * padded[k : k + height] for k, w in enumerate(bell / bell.sum()))
    both = sum(w * rows[:, k : k + width] for k, w in enumerate(bell / bell.sum()))
    return numpy.clip(numpy.maximum(weights, both), 0, 1)


def static_importance(day, night, gradient_threshold, intensity_threshold, feather):
    """Strong night edges that are stronger than the day's (and no specks), and bright places."""
    energy_day, energy_night = (
        sum((g**2).sum(axis=0) for g in gradient(numpy.asarray(picture, numpy.float64)))
        for picture in (day, night)
    )
    edges = (energy_night >= gradient_threshold**2) & (energy_night > energy_day)
    edges &= dilated_count(edges) >= 3
    bright = numpy.asarray(night).max(axis=0) >= intensity_threshold
    return feathered((edges | bright).astype(float), feather)


def changes(frames):
    """Largest change over the channels; the first frame takes that of the second."""
    v = numpy.asarray(frames, numpy.float64)
    if len(v) == 1:
        return numpy.zeros((1, *v.shape[-2:]))
    later = [abs(v[i] - v[i - 1]).max(axis=0) for i in range(1, len(v))]
    return numpy.array([later[0], *later])


def noise_threshold(changed):
    """Four times the median of what changes at all in the first nine frames, at least 1.5 levels."""
    noisy = changed[:9][changed[:9] > 0.05]
    return max(1.5, 4 * float(numpy.median(noisy))) if noisy.size else 1.5


def motion_masks(frames, threshold):
    return numpy.array([clean(change > threshold) for change in changes(frames)])


def temporal_mean(masks, c):
    return numpy.array(
        [masks[max(0, i - c) : i + c + 1].astype(float).mean(axis=0) for i in range(len(masks))]
    )


# Resampling


def enlarged(image, size):
    """Bilinear, pixel centres aligned with the whole picture, constant beyond the outer centres."""
    image = numpy.asarray(image, numpy.float64)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        known = image.shape[axis]
        centres = (numpy.arange(length) + 0.5) * known / length - 0.5
        image = numpy.apply_along_axis(
            lambda line, at=centres, n=known: numpy.interp(at, numpy.arange(n), line), axis, image
        )
    return image


# Whole algorithms


def padded_to_square(picture):
    height, width = picture.shape[-2:]
    side = 1
    while side < max(height, width):
        side *= 2
    border = [(0, 0)] * (picture.ndim - 2) + [(0, side - height), (0, side - width)]
    return numpy.pad(picture, border, mode="edge")


def reconstructed(day, night, importance, square=False, data_weight=0.0, target_share=None, **mixing):
    height, width = night.shape[-2:]
    target_share = importance if target_share is None else target_share
    if square:
        day, night, importance, target_share = (
            padded_to_square(p) for p in (day, night, importance, target_share)
        )
    gx, gy = mix(day, night, importance, **mixing)
    rhs = divergence(gx, gy) - data_weight * blend(day, night, target_share)
    return reconstruct(rhs, data_weight)[..., :height, :width]


def algorithm_1(day, night, importance, square=False, data_weight=0.0, **mixing):
    """Fused picture in levels, not clipped and not rounded."""
    u = reconstructed(day, night, importance, square, data_weight, **mixing)
    if data_weight:
        return u
    target = blend(day, night, importance)
    fused = []
    for plane, wanted in zip(u, target, strict=True):
        c1, c2 = fit_affine(plane, wanted)
        fused.append(c1 * plane + c2)
    return numpy.array(fused)


def automatic_weight(picture):
    """Data weight of the default settings: a length that is one share of every picture."""
    return min(0.05, 2500 / (picture.shape[-2] * picture.shape[-1]))


def automatic_lift(day, frames):
    """Contrast of the day over that of the night, where the first, fifth and ninth frame are dark."""
    by_day = by_night = 0.0
    strength = numpy.sqrt((numpy.array(gradient(numpy.asarray(day, float))) ** 2).sum(axis=(0, 1)))
    for frame in frames[:9:4]:
        dark = frame.max(axis=0) < 40
        by_day += strength[dark].sum()
        by_night += numpy.sqrt((numpy.array(gradient(frame)) ** 2).sum(axis=(0, 1)))[dark].sum()
    return float(numpy.clip(by_day / by_night, 1, 4)) if by_night > 0 else 1.0


def automatic_floor(frames):
    """Four times the median gradient of the first, fifth and ninth frame, at least 8."""
    strength = [numpy.sqrt((numpy.array(gradient(frame)) ** 2).sum(axis=(0, 1))) for frame in frames[:9:4]]
    return max(8.0, 4 * float(numpy.median(strength)))


def keep_lamps(weights, frame, threshold, gain=1.0):
    """Importance with lamps that move, and how far the picture is drawn to the night."""
    bright = numpy.clip((frame.max(axis=0) - threshold / 2) / (threshold / 2), 0, 1)
    weights = numpy.clip(gain * weights, 0, 1)
    kept = numpy.where(weights > 0, numpy.maximum(weights, bright), weights)
    return kept, kept * bright


def algorithm_2(day, frames, *, c=5, passes=2, threshold=None, fit_window=None, larger_where_zero=True):
    """Fused clip with the paper's settings, in levels, not clipped and not rounded."""
    smooth, weights = weighted(frames, c, passes, threshold)
    u = [
        reconstructed(day, frame, w, larger_where_zero=larger_where_zero)
        for frame, w in zip(smooth, weights, strict=True)
    ]
    targets = [blend(day, frame, w) for frame, w in zip(smooth, weights, strict=True)]
    together = 2 * c + 1 if fit_window is None else fit_window
    before, after = (together - 1) // 2, together // 2
    fused = numpy.empty_like(smooth)
    for i, channel in itertools.product(range(len(smooth)), range(smooth.shape[1])):
        shared = range(max(0, i - before), min(len(smooth), i + after + 1))
        c1, c2 = fit_affine([u[k][channel] for k in shared], [targets[k][channel] for k in shared])
        fused[i, channel] = c1 * u[i][channel] + c2
    return fused


def weighted(frames, c, passes, threshold=None):
    """Denoised frames and their importance."""
    smooth = numpy.asarray(frames, numpy.float64)
    for _ in range(passes):
        smooth, _ = susan3d(smooth)
    if threshold is None:
        threshold = noise_threshold(changes(smooth))
    return smooth, temporal_mean(motion_masks(smooth, threshold), c)


def pulled_clip(
    day, frames, *, c=5, passes=2, importance_gain=2.0, data_weight=None, lamp_threshold=150.0, **mixing
):
    """Fused clip with a pull towards day and lamps, in levels, not clipped and not rounded."""
    smooth, weights = weighted(frames, c, passes)
    mixing.setdefault("lift", automatic_lift(day, smooth))
    mixing.setdefault("night_floor", automatic_floor(smooth))
    weight = automatic_weight(day) if data_weight is None else data_weight
    fused = []
    for frame, w in zip(smooth, weights, strict=True):
        w, share = keep_lamps(w, frame, lamp_threshold, importance_gain)
        fused.append(reconstructed(day, frame, w, False, weight, share, larger_where_zero=True, **mixing))
    return numpy.array(fused)


def to_uint8(levels):
    """Levels (C, H, W) as pixels (H, W, 3) or (H, W)."""
    pixels = numpy.rint(numpy.clip(levels, 0, 255)).astype(numpy.uint8)
    return numpy.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]
