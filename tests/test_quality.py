"""The quality report: measures give known answers to planted faults, and the report is whole."""

import json
import math
import sys
from pathlib import Path

import numpy
import pytest
from scipy import ndimage

from gpufuse import Settings
from gpufuse.report import sheet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

pytest.importorskip("skimage", reason="quality figures need scikit-image")

import quality_report  # noqa: E402
from quality import judge, measures, methods, page, pictures, scenes, tables  # noqa: E402

H, W = 96, 160


def as_bytes(levels):
    return numpy.clip(numpy.rint(levels), 0, 255).astype(numpy.uint8)


@pytest.fixture
def texture(rng):
    """A smooth colour picture with edges everywhere, levels 60..180."""
    grey = ndimage.gaussian_filter(rng.normal(0, 1, (H, W, 3)), (2, 2, 0))
    return as_bytes(120 + 60 * grey / abs(grey).max())


@pytest.fixture
def box():
    mask = numpy.zeros((H, W), bool)
    mask[36:60, 60:100] = True
    return mask


def planted(day, place, levels):
    """A day with something added, in grey levels, at a place."""
    return as_bytes(day.astype(float) + levels * numpy.asarray(place, float)[..., None])


# Preservation of edges


def test_equal_edges_are_preserved_as_well_as_can_be(texture, box):
    kept = measures.preservation(texture, texture, texture, box, ~box)
    assert abs(measures.BEST_PRESERVATION - 0.9748) < 1e-4
    for figure in (kept.whole, kept.foreground, kept.background, kept.both):
        assert figure == pytest.approx(measures.BEST_PRESERVATION, abs=1e-6)
    assert kept.invented == 0


def test_a_flat_result_preserves_nothing(texture, box):
    flat = numpy.full_like(texture, 90)
    kept = measures.preservation(flat, texture, texture, box, ~box)
    # G = 0, A = 1.
    least = 0.9994 / (1 + math.exp(15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert kept.whole == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "turn", "expected"),
    [
        (1.0, 0.0, 0.97479),
        (0.5, 0.0, 0.48767),  # half the strength: half of Gamma_g
        (2.0, 0.0, 0.48767),  # twice as strong is as bad
        (1.0, math.pi / 2, 0.0),
        (1.0, math.pi, 0.97479),  # the same orientation, from the other side
        (1.0, 0.1 * math.pi, 0.49338),  # A = 0.8: half of Gamma_a
    ],
)
def test_preservation_of_one_edge_is_that_of_the_paper(ratio, turn, expected):
    one = numpy.ones((1, 1), numpy.float32)
    source = measures.Edges(80 * one, 0.3 * one)
    result = measures.Edges(80 * ratio * one, (0.3 + turn) * one)
    assert measures.edge_preservation(source, result)[0, 0] == pytest.approx(expected, abs=2e-5)


def test_edges_know_strength_and_orientation():
    ramp = numpy.tile(3.0 * numpy.arange(12, dtype=numpy.float32), (9, 1))
    across = measures.edges_of(ramp)
    numpy.testing.assert_allclose(across.strength[2:-2, 2:-2], 8 * 3)
    numpy.testing.assert_allclose(across.angle[2:-2, 2:-2], 0, atol=1e-6)
    numpy.testing.assert_allclose(measures.edges_of(ramp.T).angle[2:-2, 2:-2], numpy.pi / 2, atol=1e-6)


def test_preservation_falls_with_blur(texture, box):
    figures = [
        measures.preservation(
            as_bytes(ndimage.gaussian_filter(texture.astype(float), (s, s, 0))), texture, texture, box, ~box
        ).whole
        for s in (0, 0.7, 1.5, 4)
    ]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] - figures[-1] > 0.3


def test_foreground_is_judged_by_the_night_and_background_by_the_day(rng, texture, box):
    night = texture[::-1, ::-1].copy()
    pasted = numpy.where(box[..., None], night, texture)
    inner = ndimage.binary_erosion(box, iterations=2)
    outer = ~ndimage.binary_dilation(box, iterations=2)
    kept = measures.preservation(pasted, texture, night, inner, outer)
    assert kept.foreground == pytest.approx(measures.BEST_PRESERVATION, abs=1e-6)
    assert kept.background == pytest.approx(measures.BEST_PRESERVATION, abs=1e-6)
    swapped = measures.preservation(pasted, night, texture, inner, outer)
    assert max(swapped.foreground, swapped.background) < 0.5


def test_strong_edges_weigh_more_than_weak_ones():
    day = numpy.full((H, W, 3), 100, numpy.uint8)
    night = day.copy()
    night[:, 40:80] += 60
    night[:, 120:] += 10
    everywhere = numpy.ones((H, W), bool)
    strong, weak = night.copy(), night.copy()
    strong[:, 120:], weak[:, 40:80] = 100, 100
    kept = [measures.preservation(shown, day, night, everywhere, ~everywhere) for shown in (strong, weak)]
    # Two edges of 60 levels and one of 10.
    assert kept[0].foreground == pytest.approx(measures.BEST_PRESERVATION * 120 / 130, abs=1e-3)
    assert kept[1].foreground == pytest.approx(measures.BEST_PRESERVATION * 10 / 130, abs=1e-3)
    assert math.isnan(kept[0].background)


def test_both_is_a_harmonic_mean_and_punishes_one_sidedness():
    assert measures.Preservation(0, 0.9, 0.9, 0).both == pytest.approx(0.9)
    assert measures.Preservation(0, 0.9, 0.1, 0).both == pytest.approx(0.18)
    assert math.isnan(measures.Preservation(0, math.nan, 0.5, 0).both)


def test_a_seam_is_an_invented_edge_and_a_stronger_one_more_so(box):
    flat = numpy.full((H, W, 3), 100, numpy.uint8)
    ramp = as_bytes(100 + 0 * flat + numpy.linspace(0, 30, W)[:, None])
    figures = [
        measures.preservation(planted(ramp, box, step), ramp, flat, box, ~box).invented for step in (0, 5, 40)
    ]
    assert figures[0] == 0
    assert 0 < figures[1] < figures[2]


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (0.0, 0.0)])
def test_contrast_is_the_factor_on_the_nights_gradients(rng, box, factor, expected):
    night = as_bytes(30 + 10 * ndimage.gaussian_filter(rng.normal(0, 6, (H, W, 1)), (2, 2, 0)).repeat(3, 2))
    result = as_bytes(90 + factor * (night.astype(float) - 30))
    assert measures.contrast(result, night, box) == pytest.approx(expected, abs=0.03)


def test_noise_is_no_contrast(rng, box):
    night = as_bytes(30 + 10 * ndimage.gaussian_filter(rng.normal(0, 6, (H, W, 1)), (2, 2, 0)).repeat(3, 2))
    noise = as_bytes(100 + rng.normal(0, 3, (H, W, 3)))
    assert abs(measures.contrast(noise, night, numpy.ones((H, W), bool))) < 0.15


# Halo


def test_no_change_and_a_change_of_all_are_no_halo(texture, box):
    assert measures.halo(texture, texture, box) == pytest.approx(0, abs=1e-5)
    hazy = as_bytes(0.6 * texture.astype(float) + 70)
    assert measures.halo(hazy, texture, box) < 0.1


@pytest.mark.parametrize("size", [5, -12, 30])
def test_a_halo_has_the_size_that_was_planted(texture, box, size):
    distance = ndimage.distance_transform_edt(~box)
    # The ring ends at 16 pixels of a picture 480 wide; there the low-pass sees what lies beyond as well.
    found = measures.halo(planted(texture, distance <= 16 * W / 480, size), texture, box)
    assert 0.7 * abs(size) < found <= 1.01 * abs(size)


def test_halo_grows_with_what_is_planted(texture, box):
    distance = ndimage.distance_transform_edt(~box)
    figures = [measures.halo(planted(texture, distance <= 3, size), texture, box) for size in (0, 4, 8, 16)]
    assert figures == sorted(figures)
    assert figures[3] == pytest.approx(2 * figures[2], rel=0.1)


def test_what_lies_in_the_foreground_or_far_away_or_is_ignored_is_no_halo(texture, box):
    inside = planted(texture, box, 60)
    assert measures.halo(inside, texture, box) < 0.1
    light = numpy.zeros((H, W), bool)
    light[36:60, 104:120] = True
    thrown = planted(texture, light, 80)
    assert measures.halo(thrown, texture, box) > 3
    assert measures.halo(thrown, texture, box, ndimage.binary_dilation(light)) < 0.1
    far = numpy.zeros((H, W), bool)
    far[:6, :6] = True
    assert measures.halo(planted(texture, far, 20), texture, box) < 0.2


def test_halo_does_not_depend_on_the_size_of_the_picture(texture, box):
    distance = ndimage.distance_transform_edt(~box)
    small = measures.halo(planted(texture, distance <= 5, 20), texture, box)
    day, mask = texture.repeat(2, 0).repeat(2, 1), box.repeat(2, 0).repeat(2, 1)
    distance = distance.repeat(2, 0).repeat(2, 1)
    assert measures.halo(planted(day, distance <= 5, 20), day, mask) == pytest.approx(small, rel=0.15)


def test_without_foreground_there_is_no_halo_to_judge(texture):
    assert math.isnan(measures.halo(texture, texture, numpy.zeros((H, W), bool)))


# Colour


def test_colour_difference_agrees_with_another_library(rng):
    colour = pytest.importorskip("colour", reason="colour-science is not installed")
    first, second = (rng.integers(0, 256, (40, 3)).astype(numpy.uint8) for _ in range(2))
    whites = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]
    labs = [colour.XYZ_to_Lab(colour.sRGB_to_XYZ(rgb / 255), whites) for rgb in (first, second)]
    expected = colour.delta_E(*labs, method="CIE 2000")
    found = measures.colour_difference(first[None], second[None])[0]
    numpy.testing.assert_allclose(found, expected, atol=0.05)


def test_colour_shift_is_that_of_the_pixels_asked_for(texture, box):
    assert measures.colour_shift(texture, texture, box) == 0
    red = texture.copy()
    red[box, 0] = numpy.minimum(red[box, 0] + 30, 255)
    inside = measures.colour_shift(red, texture, box)
    assert inside > 5
    assert measures.colour_shift(red, texture, ~box) == 0
    whole = measures.colour_shift(red, texture, numpy.ones((H, W), bool))
    assert whole == pytest.approx(inside * box.mean(), rel=1e-4)
    assert math.isnan(measures.colour_shift(red, texture, numpy.zeros((H, W), bool)))


def test_the_blend_target_is_night_inside_and_day_outside(texture, box):
    target = measures.blend_target(texture, numpy.zeros_like(texture), box)
    assert not target[box].any()
    assert (target[~box] == texture[~box]).all()


# Flicker and noise


def test_flicker_is_the_step_that_was_planted(texture, box):
    still = numpy.broadcast_to(~box, (6, H, W))
    frames = numpy.stack([texture + (4 * (index % 2)) for index in range(6)])
    assert measures.flicker(frames, still) == pytest.approx(4)
    assert measures.flicker(numpy.stack([texture] * 6), still) == 0
    moving = numpy.stack([planted(texture, box, 10 * index) for index in range(6)])
    assert measures.flicker(moving, still) == 0
    assert measures.flicker(moving, numpy.ones((6, H, W), bool)) == pytest.approx(10 * box.mean())
    assert math.isnan(measures.flicker(frames[:1], still[:1]))


def test_flicker_does_not_wrap_around():
    frames = numpy.zeros((2, 4, 4, 3), numpy.uint8)
    frames[1] = 255
    assert measures.flicker(frames, numpy.ones((2, 4, 4), bool)) == 255
    assert measures.flicker(frames[::-1], numpy.ones((2, 4, 4), bool)) == 255


@pytest.mark.parametrize("sigma", [3.0, 8.0])
def test_noise_has_the_standard_deviation_that_was_planted(rng, texture, sigma):
    still = numpy.ones((12, H, W), bool)
    noise = rng.normal(0, sigma, (12, H, W, 1))
    frames = as_bytes(texture + noise)
    assert measures.fine_noise(frames, still) == pytest.approx(sigma, rel=0.03)
    # The variance of 12 samples about their own mean.
    assert measures.temporal_noise(frames, still) == pytest.approx(sigma * math.sqrt(11 / 12), rel=0.03)


def test_slow_brightness_is_change_in_time_but_no_fine_noise(texture):
    still = numpy.ones((9, H, W), bool)
    drifting = numpy.stack([texture + index for index in range(9)])
    assert measures.fine_noise(drifting, still) < 1e-4
    assert measures.temporal_noise(drifting, still) == pytest.approx(numpy.arange(9).std(), rel=1e-4)
    assert measures.fine_noise(drifting[:1], still[:1]) is math.nan


def test_noise_of_a_single_picture_is_found_under_another_brightness(rng, texture):
    everywhere = numpy.ones((H, W), bool)
    darker = 0.3 * texture.astype(float) + 10
    for sigma in (2.0, 6.0):
        noisy = as_bytes(darker + rng.normal(0, sigma, (H, W, 1)))
        assert measures.still_noise(noisy, texture, everywhere) == pytest.approx(sigma, rel=0.06)
    assert measures.still_noise(as_bytes(darker), texture, everywhere) < 0.4


# Scenes and methods


@pytest.fixture(scope="module")
def street():
    return scenes.rendered(width=160, height=90, frames=10)


def test_the_rendered_scene_is_whole(street):
    count, height, width, _ = street.night.shape
    assert (count, height, width) == (10, 90, 160)
    for mask in (street.foreground, street.ignore, street.lamps):
        assert mask.shape == (count, height, width)
        assert mask.any()
    assert not (street.foreground & street.ignore).any()
    assert street.judged_night is street.clean_night
    assert street.public


def test_absent_footage_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUFUSE_DATA", str(tmp_path))
    for name in set(scenes.SCENES) - {"rendered"}:
        with pytest.raises(scenes.MissingFootageError, match=r"relit_highway|amos|lta|oxford"):
            scenes.SCENES[name]()


@pytest.mark.data
def test_the_relit_night_is_the_darkened_day(data_folder):
    scene = scenes.relit()
    still = ~(scene.foreground | scene.ignore)
    night = ndimage.uniform_filter(scene.night.astype(numpy.float32), (5, 3, 3, 1))
    assert abs(night - scene.clean_night).mean(axis=-1)[still].mean() < 4
    # Cars are where they were by day: the frames belong together.
    cars = scene.foreground & ~scene.lamps
    right, early, late = (
        numpy.abs(night - numpy.roll(scene.clean_night, shift, axis=0))[cars].mean() for shift in (0, 3, -3)
    )
    assert right < 0.9 * min(early, late)
    assert not scene.public


@pytest.mark.data
@pytest.mark.parametrize("name", ["amos03", "amos07-dynamic", "lta-dynamic"])
def test_real_stills_are_read_with_a_foreground(data_folder, name):
    scene = scenes.SCENES[name]()
    assert scene.night.shape == (1, *scene.day.shape)
    assert (scene.kind == "dynamic") == (scene.reference is not None)
    assert 0.005 < scene.foreground.mean() < 0.4
    assert not scene.public


@pytest.fixture(scope="module")
def inputs(street):
    return methods.Inputs(street, methods.fused(street, Settings()).importance, Settings())


@pytest.mark.parametrize("name", list(methods.OTHERS))
def test_every_method_gives_pictures_of_the_scene(street, inputs, name):
    if name in methods.BY_OPENCV:
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    frames = methods.by_other_method(name, inputs)
    assert frames.shape == street.night.shape
    assert frames.dtype == numpy.uint8
    assert (frames != street.day).any()
    assert (frames != street.night).any()


def test_other_methods_are_given_our_denoising(street, inputs):
    blend = methods.by_other_method("blend", inputs)
    share = inputs.importance[..., None]
    denoised = numpy.moveaxis(inputs.denoised, 1, -1)
    still = ~(street.foreground | street.ignore)
    assert measures.fine_noise(denoised, still) < 0.6 * measures.fine_noise(street.night, still)
    numpy.testing.assert_allclose(blend, share * denoised + (1 - share) * street.day, atol=0.51)


def test_seamless_clone_puts_the_night_where_it_was(texture):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    mask = numpy.zeros((H, W), bool)
    mask[20:51, 30:80] = True
    mask[60:70, 100:141] = True
    same = methods.seamless_clone(texture, texture, mask, cv2.NORMAL_CLONE)
    assert numpy.abs(same.astype(int) - texture).max() <= 3
    assert (methods.seamless_clone(texture, texture, mask & False, cv2.NORMAL_CLONE) == texture).all()
    everywhere = methods.seamless_clone(texture, texture, mask | True, cv2.MIXED_CLONE)
    assert numpy.abs(everywhere.astype(int) - texture).max() <= 3


# Judging


def test_the_blend_target_itself_gets_the_best_figures(street):
    target = measures.blend_target(street.day, street.clean_night, street.foreground)
    figures = judge.SceneJudge(street).figures(target)
    assert figures["colour"] == pytest.approx(0, abs=1e-3)
    assert figures["bodies"] == pytest.approx(0, abs=1e-3)
    assert figures["flicker"] == 0
    assert figures["noise"] == pytest.approx(0, abs=1e-3)
    assert figures["halo"] == pytest.approx(0, abs=1e-3)
    assert figures["day_kept"] > 95
    # Edges where night meets day are neither's, and many pixels are such at this size.
    assert figures["q_foreground"] > 0.5
    assert figures["body_contrast"] > 1


def test_the_night_itself_passes_all_its_noise_on(street):
    figures = judge.SceneJudge(street).figures(street.night)
    for name in ("flicker_share", "noise", "noise_in_time"):
        assert figures[name] == 1
    assert set(figures) == {measure.key for measure in judge.MEASURES}


def test_frames_of_another_size_are_refused(street):
    with pytest.raises(ValueError, match=r"expected .10, 90, 160, 3. uint8"):
        judge.SceneJudge(street).figures(street.night[:, ::2])


def row(name, value, *, ours=False, key="halo"):
    figures = dict.fromkeys((measure.key for measure in judge.MEASURES), math.nan)
    return judge.Row(name, ours, figures | {key: value}, numpy.empty(0))


def measure_of(key):
    return next(measure for measure in judge.MEASURES if measure.key == key)


def test_the_best_are_marked_and_share_a_place_where_they_look_the_same():
    rows = [row("a", 2.0, ours=True), row("b", 1.004), row("c", 1.0), row("d", math.nan)]
    halo = measure_of("halo")
    assert judge.first(rows, halo) == ["b", "c"]
    assert [judge.place(one, rows, halo) for one in rows] == [3, 1, 1, None]
    higher = [row(one.method, one.figures["halo"], key="q_whole") for one in rows]
    assert judge.first(higher, measure_of("q_whole")) == ["a"]
    assert [judge.place(one, higher, measure_of("q_whole")) for one in higher] == [1, 2, 3, None]
    assert judge.first([row("d", math.nan)], halo) == []


@pytest.fixture
def judgement(street):
    return judge.Judgement(street, [row("gpufuse", 2.0, ours=True), row("blend", 1.0)], None)


def test_tables_show_every_figure_and_mark_the_best(judgement):
    table = tables.scene_table(judgement)
    assert table.splitlines() == [
        "| method | halo ↓ |",
        "| --- | ---: |",
        "| gpufuse | 2.00 |",
        "| blend | **1.00** |",
    ]
    assert tables.text_table(judgement).splitlines()[2].split() == ["blend", "1.00*"]
    assert "| rendered |  |  |  | 2.00 (2) |  |" in tables.places_table([judgement])


def test_the_ideal_is_shown_and_takes_no_place(street):
    rows = [row("gpufuse", 2.0, ours=True), row("blend", 3.0)]
    known = judge.Judgement(street, rows, None, row("", 0.5).figures)
    assert tables.scene_table(known).splitlines()[-1] == "| *ideal* | *0.50* |"
    assert "**2.00**" in tables.scene_table(known)
    assert tables.text_table(known).splitlines()[-1].split() == ["(ideal)", "0.50"]
    assert tables.not_first([known]) == []
    assert tables.as_data([known])[0]["ideal"]["halo"] == 0.5
    assert page.light(known).ideal == known.ideal


def test_where_we_are_not_first_is_told_with_the_picture(street, judgement):
    assert tables.not_first([judgement]) == ["**rendered, halo**: 2.00, blend 1.00 (`quality-rendered.jpg`)"]
    better = judge.Judgement(street, [row("gpufuse", 1.0, ours=True), row("blend", 1.0)], None)
    assert tables.not_first([better]) == []
    alone = judge.Judgement(street, [row("before", 1.0, ours=True), row("after", 2.0, ours=True)], None)
    assert tables.not_first([alone]) == []


def test_changes_count_scenes_that_became_better(street):
    pairs = [(4.0, 1.0), (2.0, 3.0), (5.0, 5.0), (math.nan, 1.0)]
    compared = [
        judge.Judgement(street, [row("before", old, ours=True), row("after", new, ours=True)], None)
        for old, new in pairs
    ]
    assert tables.changes_table(compared, 0, 1).splitlines()[2:] == ["| halo ↓ | 3.67 | 3.00 | 1 | 1 |"]


def test_figures_that_do_not_exist_are_null(judgement):
    text = json.dumps(page.data([judgement], [("gpufuse", Settings(passes=1))], []), allow_nan=False)
    loaded = json.loads(text)
    assert loaded["scenes"][0]["methods"]["gpufuse"]["halo"] == 2.0
    assert loaded["scenes"][0]["methods"]["gpufuse"]["colour"] is None
    assert loaded["settings"] == {"gpufuse": {"passes": 1}}


def test_a_jpeg_keeps_to_its_limit(rng):
    noise = rng.integers(0, 256, (200, 200, 3)).astype(numpy.uint8)
    assert len(pictures.as_jpeg(noise)) > 40_000
    assert len(pictures.as_jpeg(noise, most_bytes=40_000)) <= 40_000


# The command

SMALL = ["--scenes", "rendered", "--size", "96x54x6"]


def test_the_report_is_written(tmp_path, capsys):
    folder = tmp_path / "out"
    rc = quality_report.main(
        [*SMALL, "--methods", "gpufuse,blend", "--set", "night_gain=2", "--output", str(folder)]
    )
    assert rc == 0
    names = [
        "quality-rendered-crop.png",
        "quality-rendered.jpg",
        "quality-rendered.png",
        "quality.json",
        "quality.md",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    figures = json.loads((folder / "quality.json").read_text())
    assert figures["settings"] == {"gpufuse": {"night_gain": 2.0}}
    assert set(figures["scenes"][0]["methods"]) == {"gpufuse", "blend"}
    text = (folder / "quality.md").read_text()
    for heading in ("## Places", "## rendered", "## Where gpufuse is not first", "## Measures"):
        assert heading in text
    assert "blend" in capsys.readouterr().out


def test_settings_are_set_against_each_other(tmp_path):
    words = ["--before", "paper", "--after", "paper", "night_gain=3"]
    words += ["--variant", "gentle", "night_gain=1.2", "passes=1"]
    assert quality_report.main([*SMALL, *words, "--output", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "quality.json").read_text())
    assert figures["settings"]["gentle"] == {"night_gain": 1.2, "passes": 1}
    assert figures["settings"]["before"]["lamp_threshold"] == "inf"
    words = [f"{name}={value}" for name, value in figures["settings"]["after"].items()]
    assert Settings().with_words(words) == Settings.paper(night_gain=3.0)
    found = figures["scenes"][0]["methods"]
    assert set(found) == {"before", "after", "gentle"}
    assert len({figures["body_contrast"] for figures in found.values()}) == 3
    text = (tmp_path / "quality.md").read_text()
    assert "## before and after" in text
    assert "## before and gentle" in text
    assert "## Places" not in text


def test_wrong_words_end_with_a_line(tmp_path, capsys):
    assert quality_report.main([*SMALL, "--set", "nosuch=1", "--output", str(tmp_path)]) == 2
    assert "nosuch" in capsys.readouterr().err
    for words in (["--scenes", "moon"], ["--methods", "magic"], ["--size", "3"]):
        with pytest.raises(SystemExit):
            quality_report.main([*words, "--output", str(tmp_path)])
        assert "expected" in capsys.readouterr().err


def test_without_any_footage_nothing_is_judged(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GPUFUSE_DATA", str(tmp_path / "none"))
    assert quality_report.main(["--scenes", "relit,amos03", "--output", str(tmp_path)]) == 3
    assert "left out: relit" in capsys.readouterr().err


def test_no_picture_of_real_footage_gets_into_the_checkout(street, tmp_path, monkeypatch):
    private = judge.Judgement(
        scenes.Scene(**{**vars(street), "name": "secret", "public": False}),
        [judge.Row("gpufuse", True, row("gpufuse", 1.0).figures, street.night)],
        street.foreground.astype(numpy.float32),
    )
    monkeypatch.setattr(quality_report, "ROOT", tmp_path)
    monkeypatch.setattr(quality_report, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    inside = quality_report._Report(tmp_path / "inside", [("gpufuse", Settings())])
    inside.add(private)
    inside.finish(published="quality")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg")]
    assert (tmp_path / "results" / "quality.md").exists()
    monkeypatch.setattr(quality_report, "ROOT", tmp_path / "elsewhere")
    quality_report._Report(tmp_path / "outside", [("gpufuse", Settings())]).add(private)
    assert (tmp_path / "outside" / "quality-secret.png").exists()


def test_published_results_are_whole_and_show_what_may_be_shown(root):
    results = root / "benchmarks" / "results"
    if not (results / "quality.json").exists():
        pytest.skip("nothing has been published yet")
    figures = json.loads((results / "quality.json").read_text())
    assert set(figures["measures"]) == {measure.key for measure in judge.MEASURES}
    assert figures["settings"] == {"gpufuse": {}}
    names = sorted(path.name for path in results.glob("quality*") if path.suffix in (".png", ".jpg"))
    assert names == ["quality-rendered.jpg"]
    assert (results / "quality-rendered.jpg").stat().st_size <= quality_report.SHEET_BYTES


def test_the_crop_shows_the_busiest_part(street):
    judgement = judge.Judgement(
        street, [judge.Row("gpufuse", True, {}, street.night)], street.foreground.astype(numpy.float32)
    )
    rows, columns = pictures._telling_part(judgement)
    inside = street.foreground[street.shown, rows, columns].sum()
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert (height, width) == (27, 48)
    counts = [
        street.foreground[street.shown, top : top + height, left : left + width].sum()
        for top in range(90 - height)
        for left in range(160 - width)
    ]
    assert inside >= 0.95 * max(counts)
    drawn = pictures.crop_sheet(judgement)
    assert drawn.shape == sheet([("", numpy.zeros((54, 96), numpy.uint8))] * 5, columns=4).shape
