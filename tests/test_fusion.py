"""The whole algorithms: against float64, and independent of chunks, layouts and threads."""

import hashlib
import itertools

import numpy
import oracles
import pytest
import tolerances

import gpufuse
from gpufuse import Area, Settings, fusion
from gpufuse.streaming import chunks_of

DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]
SQUARE = [(5, 4), (14, 4), (14, 11), (5, 11)]
PLAIN = Settings(passes=0)


def as_dtype(image, dtype):
    """8-bit pixels in another depth."""
    if dtype == "uint8":
        return image
    if dtype == "uint16":
        return image.astype(numpy.uint16) * numpy.uint16(257)
    return (image / 255).astype(dtype)


def as_levels(image):
    """Floating pixels back in levels, as float64."""
    return image.astype(float) * (255 if image.dtype.kind == "f" else 1)


def planes(image):
    return numpy.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]


def digest(*arrays):
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]


def video(*args, **options):
    return list(gpufuse.fuse_video(*args, **options))


@pytest.fixture(scope="module")
def tiny(make_street):
    """A day image and seven night frames, small enough for slow checks."""
    street = make_street(23, 29, 7)
    return street.day_image, street.night_images


# Algorithm 1


@pytest.mark.parametrize("padding", ["none", "square"])
@pytest.mark.parametrize("method", ["multigrid", "dct"])
@pytest.mark.parametrize("night_gain", [1.0, 1.7])
def test_algorithm_1_against_the_oracle(scene, padding, method, night_gain):
    options = {"gradient_threshold": 40.0, "intensity_threshold": 180.0, "feather": 1.2}
    night = scene.night[20]
    w = oracles.static_importance(scene.day, night, **options)
    expected = oracles.algorithm_1(scene.day, night, w, square=padding == "square", night_gain=night_gain)
    settings = Settings.paper(padding=padding, method=method, night_gain=night_gain, **options)
    found = gpufuse.fuse(scene.day_image, scene.night_images[20], settings=settings)
    difference = found.astype(int) - oracles.to_uint8(expected)
    assert abs(difference).max() <= tolerances.UINT8_LEVELS
    assert abs(difference).mean() < 0.1
    exact = gpufuse.fuse(scene.day_image, as_dtype(scene.night_images[20], "float32"), settings=settings)
    limit = tolerances.MULTIGRID_LEVELS if method == "multigrid" else tolerances.DIRECT_LEVELS
    assert abs(planes(as_levels(exact)) - expected.clip(0, 255)).max() <= limit


@pytest.mark.parametrize("padding", ["none", "square"])
@pytest.mark.parametrize("data_weight", [None, 0.004, 0.3])
def test_a_picture_is_pulled_towards_day_and_night(scene, padding, data_weight):
    night = scene.night_images[20]
    settings = Settings(padding=padding, data_weight=data_weight)
    w = fusion.pair_importance(scene.day_image, night, settings=settings)
    weight = oracles.automatic_weight(scene.day) if data_weight is None else data_weight
    expected = oracles.algorithm_1(scene.day, scene.night[20], w, padding == "square", weight)
    found = gpufuse.fuse(scene.day_image, as_dtype(night, "float32"), settings=settings)
    assert abs(planes(as_levels(found)) - expected.clip(0, 255)).max() <= tolerances.MULTIGRID_LEVELS


def test_without_a_pull_luminance_may_choose_the_scale(scene):
    night = scene.night_images[20]
    w = fusion.pair_importance(scene.day_image, night)
    u = oracles.reconstructed(scene.day, scene.night[20], w)
    target = oracles.blend(scene.day, scene.night[20], w)
    luma = numpy.array([0.299, 0.587, 0.114])
    scale, _ = oracles.fit_affine(numpy.tensordot(luma, u, 1), numpy.tensordot(luma, target, 1))
    expected = scale * (u - u.mean((1, 2), keepdims=True)) + target.mean((1, 2), keepdims=True)
    found = gpufuse.fuse(
        scene.day_image, as_dtype(night, "float32"), settings=Settings.paper(fit="luminance")
    )
    assert abs(planes(as_levels(found)) - expected.clip(0, 255)).max() <= tolerances.MULTIGRID_LEVELS
    other = gpufuse.fuse(scene.day_image, as_dtype(night, "float32"), settings=Settings.paper())
    assert abs(as_levels(found) - as_levels(other)).max() > 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 13), (17, 1), (2, 2), (23, 37), (16, 16)])
@pytest.mark.parametrize("colour", [False, True])
def test_algorithm_1_on_every_size(rng, shape, colour):
    shape = (*shape, 3) if colour else shape
    day, night = rng.integers(0, 256, (2, *shape)).astype(numpy.uint8)
    importance = rng.integers(0, 256, shape[:2]).astype(numpy.uint8)
    expected = oracles.algorithm_1(planes(day), planes(night), importance / 255.0)
    found = gpufuse.fuse(day, night, importance=importance, settings=Settings.paper())
    assert found.shape == shape
    assert abs(found.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS
    weight = oracles.automatic_weight(importance)
    expected = oracles.algorithm_1(planes(day), planes(night), importance / 255.0, data_weight=weight)
    found = gpufuse.fuse(day, night, importance=importance)
    assert abs(found.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS


def test_importance_one_is_the_night_and_zero_the_day(scene):
    day, night = scene.day_image, scene.night_images[20]
    for value, expected in ((255, night), (0, day)):
        importance = numpy.full(day.shape[:2], value, numpy.uint8)
        found = gpufuse.fuse(day, night, importance=importance)
        assert abs(found.astype(int) - expected).max() <= tolerances.UINT8_LEVELS


def test_importance_may_have_any_depth(scene):
    day, night = scene.day_image, scene.night_images[20]
    importance = numpy.zeros(day.shape[:2], numpy.uint8)
    importance[5:20, 10:30] = 255
    expected = gpufuse.fuse(day, night, importance=importance)
    for dtype in ("uint16", "float32", "float64"):
        numpy.testing.assert_array_equal(
            gpufuse.fuse(day, night, importance=as_dtype(importance, dtype)), expected
        )
    numpy.testing.assert_array_equal(
        gpufuse.fuse(day, night, importance=importance[..., None].repeat(3, axis=2)), expected
    )


def test_importance_can_be_asked_for_and_given_back(scene):
    day, night = scene.day_image, scene.night_images[20]
    w = fusion.pair_importance(day, night)
    assert w.shape == day.shape[:2]
    assert w.dtype == numpy.float32
    assert 0 == w.min() < w.max() == 1
    found = gpufuse.fuse(day, night, importance=w).astype(int)
    assert abs(found - gpufuse.fuse(day, night)).max() <= tolerances.UINT8_LEVELS


def test_a_black_night_returns_the_day(scene):
    day, black = scene.day_image, numpy.zeros_like(scene.day_image)
    numpy.testing.assert_array_equal(gpufuse.fuse(day, black), day)
    numpy.testing.assert_array_equal(gpufuse.fuse_dynamic(day, black, black), day)
    for passes in (0, 1):
        for frame in gpufuse.fuse_video(day, [black] * 3, settings=Settings(passes=passes)):
            numpy.testing.assert_array_equal(frame, day)


@pytest.mark.parametrize("dtype", DTYPES)
def test_night_equal_to_day_returns_it(scene, dtype):
    image = as_dtype(scene.day_image, dtype)
    limit = 0.5 if dtype == "float16" else tolerances.MULTIGRID_LEVELS
    for found in (gpufuse.fuse(image, image), *gpufuse.fuse_video(image, [image] * 2, settings=PLAIN)):
        scale = 257 if dtype == "uint16" else 1
        assert abs(as_levels(found) - as_levels(image)).max() <= limit * scale


# Dynamic scene


def test_dynamic_scene_shows_what_moved(scene):
    day, night = scene.day_image, scene.night_images[12]
    reference = scene.night_images[0]
    settings = Settings.paper(difference_threshold=25.0)
    w = fusion.pair_importance(day, night, reference=reference, settings=settings)
    car = numpy.abs(scene.night[12] - scene.night[0]).max(axis=0) > 60
    assert w[car].mean() > 0.9
    assert (w[:10] == 0).all()
    found = gpufuse.fuse_dynamic(day, night, reference, settings=settings)
    expected = oracles.algorithm_1(scene.day, scene.night[12], w.astype(float), larger_where_zero=True)
    assert abs(found.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS
    switched = gpufuse.fuse_dynamic(day, night, reference, settings=settings.replace(larger_where_zero=False))
    expected = oracles.algorithm_1(scene.day, scene.night[12], w.astype(float))
    assert abs(switched.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS
    weight = oracles.automatic_weight(scene.day)
    pulled = gpufuse.fuse_dynamic(day, night, reference, settings=Settings(difference_threshold=25.0))
    expected = oracles.algorithm_1(
        scene.day, scene.night[12], w.astype(float), data_weight=weight, larger_where_zero=True,
        night_floor=oracles.automatic_floor([scene.night[12]]),
    )  # fmt: skip
    assert abs(pulled.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS


def test_a_grey_reference_for_a_colour_night(scene):
    day, night = scene.day_image, scene.night_images[12]
    grey = numpy.repeat(night[..., :1], 3, axis=2)
    expected = gpufuse.fuse_dynamic(day, grey, numpy.zeros_like(grey))
    numpy.testing.assert_array_equal(
        gpufuse.fuse_dynamic(day, grey, numpy.zeros_like(grey[..., 0])), expected
    )


# Algorithm 2


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize(("c", "fit_window"), [(5, None), (0, 1), (2, 2)])
def test_algorithm_2_against_the_oracle(tiny, passes, c, fit_window):
    day, night = tiny
    settings = Settings.paper(passes=passes, c=c, fit_window=fit_window)
    options = {"c": c, "passes": passes, "fit_window": fit_window}
    expected = oracles.algorithm_2(planes(day), numpy.moveaxis(night, -1, 1), **options)
    for found, frame in zip(video(day, night, settings=settings), expected, strict=True):
        assert abs(found.astype(int) - oracles.to_uint8(frame)).max() <= tolerances.UINT8_LEVELS
    exact = video(day, as_dtype(night, "float64"), settings=settings)
    for found, frame in zip(exact, expected, strict=True):
        assert abs(planes(as_levels(found)) - frame.clip(0, 255)).max() <= tolerances.MULTIGRID_LEVELS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lamp_threshold": 90.0},
        {"lamp_threshold": 1e9},
        {"data_weight": 0.002},
        {"night_gain": 1.0},
        {"importance_gain": 1.0},
        {"larger_threshold": 30.0},
    ],
)
def test_a_clip_is_pulled_towards_the_day_and_its_lamps(tiny, changes):
    day, night = tiny
    names = {"night_gain": "lift", "larger_threshold": "night_floor"}
    options = {names.get(name, name): value for name, value in changes.items()}
    expected = oracles.pulled_clip(planes(day), numpy.moveaxis(night, -1, 1), **options)
    exact = video(day, as_dtype(night, "float64"), settings=Settings(**changes))
    for found, frame in zip(exact, expected, strict=True):
        assert abs(planes(as_levels(found)) - frame.clip(0, 255)).max() <= tolerances.MULTIGRID_LEVELS


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("larger_where_zero", [False, True])
def test_short_clips_against_the_oracle(tiny, count, larger_where_zero):
    day, night = tiny[0], tiny[1][:count]
    expected = oracles.algorithm_2(
        planes(day), numpy.moveaxis(night, -1, 1), larger_where_zero=larger_where_zero
    )
    settings = Settings.paper(larger_where_zero=larger_where_zero)
    for chunk in (None, 1, 2):
        found = video(day, night, settings=settings, chunk=chunk)
        assert len(found) == count
        for frame, wanted in zip(found, expected, strict=True):
            assert abs(frame.astype(int) - oracles.to_uint8(wanted)).max() <= tolerances.UINT8_LEVELS


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("c", [5, 0])
@pytest.mark.parametrize("fit_window", [1, 2, None, "no fit"])
def test_the_result_does_not_depend_on_the_chunk_length(scene, passes, c, fit_window):
    settings = Settings.paper(passes=passes, c=c, fit_window=fit_window if fit_window != "no fit" else None)
    if fit_window == "no fit":
        settings = Settings(passes=passes, c=c)
    night = scene.night_images
    expected = video(scene.day_image, night, settings=settings, chunk=len(night))
    assert len(expected) == len(night)
    for chunk in (1, 2, 7, 32):
        found = video(scene.day_image, night, settings=settings, chunk=chunk)
        numpy.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"motion_threshold": 6.0},
        {"motion_from": "gradient"},
        {"padding": "square"},
        {"method": "dct"},
        {"importance_gain": 3.0},
        {"fit_window": 60, "data_weight": 0.0},
        {"fit": "luminance", "data_weight": 0.0},
        {"night_gain": 2.0},
        {"lamp_threshold": 60.0},
    ],
)
def test_no_option_depends_on_the_chunk_length(tiny, changes):
    day, night = (as_dtype(a, "float32") for a in tiny)  # in which the smallest difference shows
    settings = Settings(passes=1, c=2).replace(**changes)
    expected = video(day, night, settings=settings, chunk=7)
    for chunk in (1, 3):
        numpy.testing.assert_array_equal(video(day, night, settings=settings, chunk=chunk), expected)
    assert not numpy.array_equal(expected, video(day, night, settings=Settings(passes=1, c=2)))


def test_levels_and_importance_do_not_depend_on_the_chunks_of_a_stream(scene):
    def stream(lengths):
        start = 0
        for length in lengths:
            yield scene.night[start : start + length], numpy.arange(start, start + length) / 25
            start += length

    def all_of(lengths):
        chunks = list(fusion.fuse_stream(scene.day, stream(lengths), settings=Settings(passes=1)))
        assert [chunk.first for chunk in chunks] == [0, *itertools.accumulate(len(c.levels) for c in chunks)][
            :-1
        ]
        return [numpy.concatenate([getattr(c, name) for c in chunks]) for name in ("levels", "importance")]

    expected = all_of([40])
    assert expected[1].min() == 0
    assert expected[1].max() > 0.5
    for lengths in ([1] * 40, [3, 0, 1, 17, 19], [39, 1]):
        for found, wanted in zip(all_of(lengths), expected, strict=True):
            numpy.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("chunk", [1, 4, 20])
def test_the_noise_is_measured_in_the_first_nine_frames(rng, chunk):
    rising = numpy.linspace(1, 12, 20)[:, None, None, None]
    night = numpy.rint(100 + rising * rng.normal(0, 1, (20, 1, 30, 40))).astype(numpy.float32)
    stream = [(part, numpy.zeros(len(part))) for part in map(numpy.array, chunks_of(night, chunk))]
    chunks = fusion.fuse_stream(night[0], stream, settings=Settings.paper(passes=0, c=1))
    masks = oracles.motion_masks(night, oracles.noise_threshold(oracles.changes(night)))
    assert 0.01 < masks.mean() < 0.9
    found = numpy.concatenate([fused.importance for fused in chunks])
    numpy.testing.assert_allclose(found, oracles.temporal_mean(masks, 1), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_bits_do_not_depend_on_threads(tiny, threads, count):
    threads(1)
    expected = video(*tiny)
    picture = gpufuse.fuse(tiny[0], tiny[1][3])
    threads(count)
    numpy.testing.assert_array_equal(video(*tiny), expected)
    numpy.testing.assert_array_equal(gpufuse.fuse(tiny[0], tiny[1][3]), picture)


def test_generators_and_streams_without_end(scene):
    taken = 0

    def camera():
        nonlocal taken
        for frame in itertools.cycle(scene.night_images):
            taken += 1
            yield frame

    fused = gpufuse.fuse_video(scene.day_image, camera(), chunk=2)
    first = next(fused)
    # 2 frames a pass, 1 for the change, 9 for the noise, 5 of hysteresis, 5 of the fit, chunks.
    assert taken <= 40
    numpy.testing.assert_array_equal(first, video(scene.day_image, scene.night_images)[0])
    fused.close()


def test_frames_may_share_the_memory_of_a_decoder(tiny):
    day, night = tiny
    buffer = numpy.empty_like(night[0])

    def decoder():
        for frame in night:
            buffer[...] = frame
            yield buffer

    numpy.testing.assert_array_equal(video(day, decoder(), chunk=3), video(day, night))


def test_no_frames(tiny):
    assert video(tiny[0], []) == []
    assert video(tiny[0], iter(())) == []
    assert video(tiny[0], tiny[1][:0]) == []


def test_the_car_is_kept_and_the_street_comes_from_the_day(scene):
    fused = numpy.array(video(scene.day_image, scene.night_images)).astype(float)
    car = scene.night[12].min(axis=0) > 180
    car[:20] = False
    assert car.any()
    assert fused[12][car].mean() > scene.day_image[car].mean() + 30
    wall = (slice(9, 20), slice(12, 44))
    contrast = [picture[wall].std() for picture in (scene.night_images[12], fused[12], scene.day_image)]
    assert contrast[1] > 5 * contrast[0]
    assert contrast[1] > 0.4 * contrast[2]


def test_the_longer_fit_flickers_less(scene):
    def flicker(settings):
        fused = numpy.array(video(scene.day_image, scene.night_images, settings=settings), float)
        return abs(numpy.diff(fused[:, :18].mean(axis=(1, 2, 3)))).mean()

    paper = Settings.paper(passes=1)
    assert flicker(paper) < 0.9 * flicker(paper.replace(fit_window=1))
    assert flicker(Settings(passes=1)) < flicker(paper)


# Areas


@pytest.mark.parametrize("as_file", [False, True])
def test_areas_in_pictures(tmp_path, scene, as_file):
    day, night = scene.day_image, scene.night_images[20]
    areas = [{"fill": "night", "polygon": [(20, 3), (40, 3), (40, 18), (20, 18)]}]
    if as_file:
        path = tmp_path / "areas.toml"
        path.write_text("[[area]]\nfill = 'night'\npolygon = [[20, 3], [40, 3], [40, 18], [20, 18]]\n")
        areas = path
    w = fusion.pair_importance(day, night)
    w[3:19, 20:41] = 1
    expected = gpufuse.fuse(day, night, importance=w).astype(int)
    assert abs(gpufuse.fuse(day, night, areas=areas) - expected).max() <= tolerances.UINT8_LEVELS
    assert abs(gpufuse.fuse(day, night) - expected).max() > 10


def test_areas_filled_from_the_day_take_its_gradient_though_the_night_has_more(tiny):
    day, night = tiny
    everywhere = Area("day", polygon=[(-1, -1), (99, -1), (99, 99), (-1, 99)])
    for frame in video(day, night, areas=[everywhere]):
        assert abs(frame.astype(int) - day).max() <= tolerances.UINT8_LEVELS
    assert abs(gpufuse.fuse(day, night[3], areas=[everywhere]).astype(int) - day).max() <= 1
    still = gpufuse.fuse_dynamic(day, night[3], night[0], areas=[everywhere])
    assert abs(still.astype(int) - day).max() <= tolerances.UINT8_LEVELS
    assert abs(video(day, night)[3].astype(int) - day).max() > 30


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_areas_for_some_frames(tiny, chunk):
    day, night = tiny
    everywhere = Area("day", polygon=[(-1, -1), (99, -1), (99, 99), (-1, 99)], frames=(2, 4))
    settings = Settings(passes=0, fit_window=1)
    plain = video(day, night, settings=settings)
    found = video(day, night, settings=settings, areas=[everywhere], chunk=chunk)
    for k, (frame, without) in enumerate(zip(found, plain, strict=True)):
        if 2 <= k <= 4:
            assert abs(frame.astype(int) - day).max() <= tolerances.UINT8_LEVELS
        else:
            numpy.testing.assert_array_equal(frame, without)


def test_areas_in_seconds_need_times(tiny):
    area = Area("day", polygon=SQUARE, seconds=(0, 1))
    with pytest.raises(
        gpufuse.ConfigError, match=r"clip without times, got seconds; use frames = \[first, last\]"
    ):
        video(*tiny, areas=[area])


def test_seconds_are_those_of_the_stream(tiny):
    from gpufuse.areas import AreaMasks

    day, night = (numpy.moveaxis(a, -1, -3).astype(numpy.float32) for a in tiny)
    size = day.shape[-2:]
    masks = AreaMasks([Area("night", polygon=SQUARE, seconds=(0.25, 0.5))], size, size)
    stream = [(night[:4], numpy.arange(4) / 8), (night[4:], numpy.arange(4, 7) / 8)]
    chunks = fusion.fuse_stream(day, stream, settings=Settings(passes=0), areas=masks)
    w = numpy.concatenate([chunk.importance for chunk in chunks])
    assert [bool((frame[4:12, 5:15] == 1).all()) for frame in w] == [2 <= k <= 4 for k in range(7)]


# Forms of the arguments


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("colour", [False, True])
def test_dtypes(tiny, dtype, colour):
    day, night = tiny if colour else (tiny[0][..., 1], tiny[1][..., 1])
    expected = video(day, night, settings=PLAIN)
    given = as_dtype(night, dtype)
    found = video(as_dtype(day, dtype), given, settings=PLAIN)
    still = gpufuse.fuse(as_dtype(day, dtype), given[3])
    assert still.dtype == dtype
    assert still.shape == night[0].shape
    for frame, wanted in zip(found, expected, strict=True):
        assert frame.dtype == dtype
        assert frame.shape == night[0].shape
        scale = 1 / 257 if dtype == "uint16" else 1
        # float16 has steps of 1/8 level, from which other decisions may follow at few pixels.
        off = abs(as_levels(frame) * scale - wanted)
        assert off.max() <= 1 if dtype != "float16" else off.mean() < 2


def test_days_and_nights_of_different_depth(tiny):
    day, night = tiny[0], tiny[1][3]
    expected = gpufuse.fuse(day, night)
    for dtype in ("uint16", "float32", "float64"):
        numpy.testing.assert_allclose(gpufuse.fuse(as_dtype(day, dtype), night), expected, atol=1)


def test_grey_day_and_colour_night(tiny):
    day, night = tiny
    grey = day[..., 0]
    found = video(grey, night)
    numpy.testing.assert_array_equal(found, video(numpy.repeat(grey[..., None], 3, axis=2), night))
    assert found[0].shape == night[0].shape


def test_colour_day_and_grey_night(tiny):
    day, night = tiny[0], tiny[1][..., 0]
    found = gpufuse.fuse(day, numpy.zeros_like(night[0]))
    luma = day @ [0.299, 0.587, 0.114]
    assert found.shape == night[0].shape
    numpy.testing.assert_allclose(found, luma, atol=0.51)
    assert video(day, night)[0].shape == night[0].shape


def layouts(array):
    wide = numpy.zeros([2 * n for n in array.shape], array.dtype)
    strided = wide[tuple(slice(1, None, 2) for _ in array.shape)]
    strided[...] = array
    yield array.copy()
    yield strided
    yield numpy.asfortranarray(array)
    yield array[::-1].copy()[::-1]
    if array.dtype.itemsize > 1:
        yield array.astype(array.dtype.newbyteorder(">"))
        yield array.astype(array.dtype.newbyteorder("<"))


@pytest.mark.parametrize(
    "dtype",
    [
        "uint8",
        "uint16",
        "float32",
    ],
)
def test_any_layout_and_no_write_into_the_arguments(tiny, dtype):
    day, night = (as_dtype(a, dtype) for a in tiny)
    reference, importance = night[0], as_dtype(tiny[0][..., 0], dtype)
    still = gpufuse.fuse(day, night[3], importance=importance)
    dynamic = gpufuse.fuse_dynamic(day, night[3], reference)
    clip = video(day, night)
    for forms in zip(*(layouts(a) for a in (day, night, reference, importance)), strict=True):
        for form in forms:
            form.flags.writeable = False
        before = digest(*forms)
        a_day, a_night, a_reference, an_importance = forms
        found = gpufuse.fuse(a_day, a_night[3], importance=an_importance)
        assert found.dtype == night.dtype
        numpy.testing.assert_array_equal(found, still)
        numpy.testing.assert_array_equal(gpufuse.fuse_dynamic(a_day, a_night[3], a_reference), dynamic)
        numpy.testing.assert_array_equal(video(a_day, a_night), clip)
        assert digest(*forms) == before


def test_results_are_the_caller_s_own(tiny):
    day, night = tiny
    found = video(day, night, chunk=7)
    kept = [frame.copy() for frame in found]
    found[0][...] = 0
    for frame, expected in zip(found[1:], kept[1:], strict=True):
        numpy.testing.assert_array_equal(frame, expected)
    assert all(frame.flags.writeable for frame in found)
    assert not numpy.shares_memory(gpufuse.fuse(day, night[0]), day)


# Larger days


@pytest.mark.parametrize("factor", [2, 3])
def test_larger_days(make_street, factor):
    large = make_street(24 * factor, 30 * factor, 1, noise=0).day_image
    night = make_street(24, 30, 5).night_images
    frames = [numpy.moveaxis(oracles.enlarged(planes(frame), large.shape[:2]), 0, -1) for frame in night]
    importance = numpy.zeros(night.shape[1:3], numpy.uint8)
    importance[3:15, 5:20] = 255
    w = oracles.enlarged(importance / 255.0, large.shape[:2])
    weight = oracles.automatic_weight(w)
    expected = oracles.algorithm_1(planes(large), planes(frames[3]), w, data_weight=weight)
    found = gpufuse.fuse(large, night[3], importance=importance)
    assert found.shape == large.shape
    assert abs(found.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS
    # Importance of the day's size is taken as it is.
    found = gpufuse.fuse(large, night[3], importance=w)
    assert abs(found.astype(int) - oracles.to_uint8(expected)).max() <= tolerances.UINT8_LEVELS
    clip = video(large, night, chunk=2)
    assert {frame.shape for frame in clip} == {large.shape}
    numpy.testing.assert_array_equal(clip, video(large, night, chunk=5))
    assert gpufuse.fuse_dynamic(large, night[3], night[0]).shape == large.shape
    assert gpufuse.fuse(large, night[3]).shape == large.shape


def test_areas_are_in_pixels_of_the_night(make_street):
    large = make_street(48, 60, 1, noise=0).day_image
    night = make_street(24, 30, 3).night_images
    area = Area("night", polygon=[(4, 4), (19, 4), (19, 19), (4, 19)])
    mask = numpy.zeros((24, 30), bool)
    mask[4:20, 4:20] = True
    w = fusion.pair_importance(large, night[1])
    share = oracles.enlarged(mask.astype(float), (48, 60))
    expected = gpufuse.fuse(large, night[1], importance=w + share * (1 - w)).astype(int)
    assert abs(gpufuse.fuse(large, night[1], areas=[area]) - expected).max() <= tolerances.UINT8_LEVELS


# Real footage


@pytest.mark.data
def test_real_pairs_reach_the_direct_solution(data_folder):
    iio = pytest.importorskip("imageio.v3")
    folders = sorted(path.parent for path in data_folder.glob("amos/*/pair_day.jpg"))
    if not folders:
        pytest.skip(f"no pairs below {data_folder}")
    for folder in folders[:2]:
        day, night = (as_dtype(iio.imread(folder / f"pair_{k}.jpg"), "float32") for k in ("day", "night"))
        found, direct = (gpufuse.fuse(day, night, settings=Settings(method=m)) for m in ("multigrid", "dct"))
        assert abs(as_levels(found) - as_levels(direct)).max() <= tolerances.MULTIGRID_LEVELS
        assert abs(as_levels(found) - as_levels(day)).max() > 10


# Measured


def test_the_solver_is_compared_with_the_direct_solution_where_asked(tiny):
    day, night = (numpy.moveaxis(a, -1, -3).astype(numpy.float32) for a in tiny)
    stream = [(frames, numpy.zeros(len(frames))) for frames in map(numpy.array, chunks_of(night, 2))]

    def errors(**options):
        chunks = fusion.fuse_stream(day, stream, settings=Settings(**options), measure_solver=True)
        return [chunk.solver_error for chunk in chunks]

    measured = errors()
    assert 0 < measured[0] < tolerances.MULTIGRID_LEVELS
    assert numpy.isnan(measured[1:]).all()
    assert errors(method="dct")[0] == 0
    assert errors(cycles=0)[0] > measured[0]


def test_longer_chunks_for_smaller_pictures():
    shapes = [(1, 1, 1), (3, 240, 320), (3, 480, 640), (3, 1080, 1920), (3, 2160, 3840), (3, 10000, 10000)]
    lengths = [fusion.chunk_length(shape) for shape in shapes]
    assert lengths == sorted(lengths, reverse=True)
    assert 1 <= lengths[-1] < lengths[0] <= 16


# Errors


@pytest.mark.parametrize("call", ["fuse", "fuse_dynamic", "fuse_video"])
def test_sizes_that_do_not_belong_together(call):
    day, night = numpy.zeros((30, 40), numpy.uint8), numpy.zeros((31, 20), numpy.uint8)
    more = {"fuse": (night,), "fuse_dynamic": (night, night), "fuse_video": ([night],)}[call]
    with pytest.raises(
        gpufuse.PairError, match=r"expected 20x31 like the night, .* got 40x30; crop or resize"
    ):
        list(getattr(gpufuse, call)(day, *more))


def test_a_larger_reference():
    night = numpy.zeros((6, 8), numpy.uint8)
    with pytest.raises(ValueError, match="reference: expected 8x6 like the night, got 16x12; crop or resize"):
        gpufuse.fuse_dynamic(night, night, numpy.zeros((12, 16), numpy.uint8))


def test_a_reference_of_another_shape_is_named():
    night = numpy.zeros((6, 8), numpy.uint8)
    with pytest.raises(ValueError, match=r"reference: expected .*8x6.* got 9x5"):
        gpufuse.fuse_dynamic(night, night, numpy.zeros((5, 9), numpy.uint8))


@pytest.mark.parametrize("reference", [[[1]], None, numpy.zeros(5, numpy.uint8)])
def test_a_reference_that_is_no_image(reference):
    night = numpy.zeros((6, 8), numpy.uint8)
    with pytest.raises((TypeError, ValueError), match="expected"):
        gpufuse.fuse_dynamic(night, night, reference)


def test_importance_of_another_size():
    night = numpy.zeros((6, 8), numpy.uint8)
    with pytest.raises(ValueError, match="importance: expected 8x6 like the night, got 6x8; resize it"):
        gpufuse.fuse(night, night, importance=night.T)
    with pytest.raises(ValueError, match="importance: expected finite values"):
        gpufuse.fuse(night, night, importance=numpy.full((6, 8), numpy.nan))


CALLS = {
    "fuse day": lambda bad, good: gpufuse.fuse(bad, good),
    "fuse night": lambda bad, good: gpufuse.fuse(good, bad),
    "dynamic day": lambda bad, good: gpufuse.fuse_dynamic(bad, good, good),
    "dynamic night": lambda bad, good: gpufuse.fuse_dynamic(good, bad, good),
    "dynamic reference": lambda bad, good: gpufuse.fuse_dynamic(good, good, bad),
    "video day": lambda bad, good: video(bad, [good]),
    "video frame": lambda bad, good: video(good, [bad]),
    "video later frame": lambda bad, good: video(good, [good.astype(bad.dtype)] * 3 + [bad]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_that_are_not_finite(call, value, dtype):
    good = numpy.zeros((6, 8, 3), dtype)
    bad = good.copy()
    bad[2, 3, 1] = value
    name = {"d": "day", "n": "night", "r": "reference", "f": "(night|frames)", "l": r"frames\[3\]"}[
        call.split()[1][0]
    ]
    with pytest.raises(ValueError, match=f"^{name}: expected finite values, got 1 NaN or infinite"):
        CALLS[call](bad, good)


@pytest.mark.parametrize("call", [name for name in CALLS if name != "video later frame"])
@pytest.mark.parametrize(
    ("bad", "kind", "text"),
    [
        (numpy.zeros((6, 8), int), TypeError, "expected uint8, uint16 or float"),
        (numpy.zeros((6, 8), bool), TypeError, "expected uint8, uint16 or float"),
        (numpy.zeros((6, 8), complex), TypeError, "expected uint8, uint16 or float"),
        (numpy.full((6, 8), 2.0), ValueError, r"expected float values in \[0, 1\], got 2 to 2"),
        (numpy.zeros((6, 8, 4), numpy.uint8), ValueError, r"expected shape \(H, W\) or \(H, W, 3\)"),
        (numpy.zeros((6, 8, 3, 1), numpy.uint8), ValueError, r"expected shape"),
    ],
)
def test_wrong_dtypes_and_shapes(call, bad, kind, text):
    with pytest.raises(kind, match=text):
        CALLS[call](bad, numpy.zeros((6, 8), numpy.uint8))


@pytest.mark.parametrize("call", [name for name in CALLS if not name.endswith(("later frame", "reference"))])
def test_what_is_no_array(call):
    with pytest.raises(TypeError, match="expected NumPy or CuPy arrays, got list; convert"):
        CALLS[call]([[1, 2]], numpy.zeros((6, 8), numpy.uint8))


def test_frames_of_two_forms():
    frame = numpy.zeros((6, 8), numpy.uint8)
    for other in (frame.T, frame.astype(numpy.uint16), numpy.zeros((6, 8, 3), numpy.uint8)):
        with pytest.raises(
            ValueError, match=r"frames\[2\]: expected \(6, 8\) uint8 like the first, got .*one clip"
        ):
            video(frame, [frame, frame, other])


@pytest.mark.parametrize("other", [None, [[1]]])
def test_frames_that_become_no_array(other):
    frame = numpy.zeros((6, 8), numpy.uint8)
    with pytest.raises(TypeError, match="expected"):
        video(frame, [frame, other])


def test_a_first_frame_that_is_no_array():
    with pytest.raises(TypeError, match="expected"):
        video(numpy.zeros((6, 8), numpy.uint8), [None])


@pytest.mark.parametrize("chunk", [0, -3])
def test_wrong_chunk(tiny, chunk):
    with pytest.raises(
        gpufuse.ConfigError,
        match=f"chunk: expected a whole number of frames from 1, got {chunk}; leave it out",
    ):
        gpufuse.fuse_video(*tiny, chunk=chunk)


def test_a_wrong_day_is_told_before_the_first_frame():
    with pytest.raises(TypeError, match="got list"):
        gpufuse.fuse_video([1], [])


def test_wrong_areas(tiny):
    with pytest.raises(gpufuse.ConfigError, match="area: expected fill"):
        gpufuse.fuse(tiny[0], tiny[1][0], areas=[{"polygon": SQUARE}])
    with pytest.raises(gpufuse.ConfigError, match="area mask: expected 29x23 like the night, got 2x2"):
        video(*tiny, areas=[Area("day", mask=numpy.zeros((2, 2), numpy.uint8))])
