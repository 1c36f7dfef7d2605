"""Every parameter, from Python, TOML and words."""

import dataclasses
import math

import pytest

from gpufuse import errors
from gpufuse.settings import Settings

DEFAULTS = {
    "sigma": 15.0,
    "brightness_threshold": 20.0,
    "passes": 2,
    "gradient_threshold": None,
    "intensity_threshold": 200.0,
    "feather": 1.5,
    "difference_threshold": 12.0,
    "difference_span": 24.0,
    "difference_smoothing": 1.5,
    "motion_threshold": None,
    "motion_from": "intensity",
    "c": 5,
    "importance_gain": 2.0,
    "lamp_threshold": 150.0,
    "night_gain": None,
    "larger_where_zero": True,
    "larger_threshold": None,
    "method": "multigrid",
    "cycles": 2,
    "data_weight": None,
    "padding": "none",
    "fit": "channels",
    "fit_window": None,
}

# name, value, as TOML, as word
CHANGES = [
    ("sigma", 3.5, "3.5", "3.5"),
    ("brightness_threshold", 12.0, "12", "12"),
    ("brightness_threshold", math.inf, "inf", "inf"),
    ("passes", 0, "0", "0"),
    ("passes", 3, "3", " 3 "),
    ("gradient_threshold", 33.0, "33", "33"),
    ("gradient_threshold", None, '"auto"', "auto"),
    ("intensity_threshold", 180.5, "180.5", "180.5"),
    ("feather", 0.0, "0", "0"),
    ("difference_threshold", 1.0, "1.0", "1"),
    ("difference_span", 2.0, "2.0", "2"),
    ("difference_smoothing", 0.0, "0.0", "0"),
    ("motion_threshold", 7.0, "7", "7"),
    ("motion_threshold", None, '"auto"', "AUTO"),
    ("motion_threshold", None, '"auto"', "none"),
    ("motion_from", "gradient", '"gradient"', "gradient"),
    ("c", 0, "0", "0"),
    ("importance_gain", 3.0, "3", "3"),
    ("lamp_threshold", 180.0, "180", "180"),
    ("lamp_threshold", math.inf, "inf", "inf"),
    ("night_gain", 1.5, "1.5", "1.5"),
    ("night_gain", None, '"auto"', "auto"),
    ("larger_where_zero", False, "false", "no"),
    ("larger_where_zero", True, "true", "On"),
    ("larger_where_zero", False, "false", "0"),
    ("larger_threshold", 0.0, "0", "0"),
    ("larger_threshold", None, '"auto"', "auto"),
    ("method", "dct", '"dct"', "dct"),
    ("cycles", 4, "4", "4"),
    ("data_weight", 0.0, "0", "0"),
    ("data_weight", 0.01, "1e-2", "0.01"),
    ("data_weight", None, '"auto"', "auto"),
    ("padding", "square", '"square"', "square"),
    ("fit", "luminance", '"luminance"', "luminance"),
    ("fit_window", 1, "1", "1"),
    ("fit_window", None, '"auto"', "auto"),
]

BAD = [
    ("sigma", 0, "a number from 0.01, got 0"),
    ("sigma", -1.0, "a number from 0.01"),
    ("sigma", math.nan, "a number, got nan"),
    ("sigma", "wide", "a number, got 'wide'"),
    ("sigma", None, "a number, got None"),
    ("sigma", True, "a number, got True"),
    ("sigma", [1], "a number"),
    ("brightness_threshold", 0, "from 0.001"),
    ("passes", -1, "a whole number from 0 to 100, got -1"),
    ("passes", 1.5, "a whole number, got 1.5"),
    ("passes", math.inf, "a whole number, got inf"),
    ("passes", None, "a whole number, got None"),
    ("passes", False, "a whole number, got False"),
    ("passes", 10**400, "a whole number"),
    ("gradient_threshold", -3, "a number from 0"),
    ("gradient_threshold", "automatic", "a number"),
    ("intensity_threshold", "", "a number, got ''"),
    ("feather", -0.1, "a number from 0"),
    ("difference_threshold", -1, "from 0"),
    ("difference_span", 0, "from 0.001"),
    ("difference_smoothing", -1, "from 0"),
    ("motion_threshold", -0.5, "from 0"),
    ("motion_from", "flow", "'intensity' or 'gradient', got 'flow'; choose one"),
    ("motion_from", None, "'intensity' or 'gradient'"),
    ("c", -1, "a whole number from 0"),
    ("c", 2.5, "a whole number"),
    ("importance_gain", -1, "from 0"),
    ("lamp_threshold", 0, "a number from 1, got 0"),
    ("lamp_threshold", None, "a number, got None"),
    ("night_gain", -1, "from 0"),
    ("larger_where_zero", "maybe", "true or false, got 'maybe'"),
    ("larger_where_zero", 1, "true or false, got 1"),
    ("larger_threshold", -1, "a number from 0 to 1e"),
    ("method", "fft", "'multigrid' or 'dct', got 'fft'"),
    ("cycles", -1, "from 0"),
    ("data_weight", -0.1, "a number from 0 to 1e"),
    ("data_weight", "much", "a number, got 'much'"),
    ("padding", "mirror", "'none' or 'square', got 'mirror'"),
    ("fit", "hue", "'channels' or 'luminance', got 'hue'"),
    ("fit_window", 0, "a whole number from 1 to 20001, got 0"),
    ("fit_window", 1.5, "a whole number"),
]


def test_defaults():
    assert dataclasses.asdict(Settings()) == DEFAULTS


def test_every_field_is_changed_by_some_test():
    assert {name for name, *_ in CHANGES} == {name for name, *_ in BAD} == set(DEFAULTS)


@pytest.mark.parametrize(("name", "value", "toml", "word"), CHANGES)
def test_python_toml_and_words_agree(tmp_path, name, value, toml, word):
    file = tmp_path / "settings.toml"
    file.write_text(f"{name} = {toml}  # a comment\n")
    expected = DEFAULTS | {name: value}
    for found in (
        Settings(**{name: value}),
        Settings().replace(**{name: value}),
        Settings.from_toml(file),
        Settings.from_toml(str(file)),
        Settings().with_words([f"{name}={word}"]),
        Settings().with_words([f" {name} = {word}"]),
    ):
        assert dataclasses.asdict(found) == expected
        assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize(("name", "value", "text"), BAD)
def test_bad_values(name, value, text):
    for build in (Settings, Settings().replace):
        with pytest.raises(errors.ConfigError, match=f"^{name}: expected .*{text}"):
            build(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "text"), [bad for bad in BAD if isinstance(bad[1], str | float | int)]
)
def test_bad_words(name, value, text):
    if name == "larger_where_zero" and value == 1:
        value = 2  # the words 1 and 0 mean yes and no
    with pytest.raises(errors.ConfigError, match=f"^{name}: expected "):
        Settings().with_words([f"{name}={value}"])


@pytest.mark.parametrize(
    "name", ["night_gain", "importance_gain", "feather", "difference_smoothing", "data_weight"]
)
def test_what_cannot_be_infinite(name):
    with pytest.raises(errors.ConfigError, match=f"^{name}: expected a"):
        Settings(**{name: math.inf})


@pytest.mark.parametrize("name", ["Sigma", "pases", "", "threshold", "replace"])
def test_unknown_names(tmp_path, name):
    text = rf"settings: expected one of sigma, .*, fit_window; got {name!r}; check its spelling"
    with pytest.raises(errors.ConfigError, match=text):
        Settings().replace(**{name: 1})
    with pytest.raises(errors.ConfigError, match=text):
        Settings().with_words([f"{name}=1"])
    file = tmp_path / "settings.toml"
    file.write_text(f'"{name}" = 1')
    with pytest.raises(errors.ConfigError, match=text):
        Settings.from_toml(file)


@pytest.mark.parametrize("word", ["passes", "", "passes:1"])
def test_words_without_a_value(word):
    with pytest.raises(errors.ConfigError, match=f"--set: expected name=value, got {word!r}; for example"):
        Settings().with_words([word])


def test_later_words_win_and_the_rest_stays():
    found = Settings(c=2).with_words(["passes=1", "sigma=4", "passes=3"])
    assert (found.c, found.passes, found.sigma) == (2, 3, 4.0)


def test_the_papers_values():
    paper = dataclasses.asdict(Settings.paper())
    expected = {"night_gain": 1.0, "lamp_threshold": math.inf, "larger_threshold": 0.0, "data_weight": 0.0}
    assert paper == DEFAULTS | expected | {"importance_gain": 1.0}
    assert Settings.paper(c=2, night_gain=1.5) == Settings.paper().replace(c=2, night_gain=1.5)
    with pytest.raises(errors.ConfigError, match="settings: expected one of"):
        Settings.paper(pases=1)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().c = 3
    assert Settings(c=3) == Settings().replace(c=3)
    assert hash(Settings(c=3)) == hash(Settings(c=3))


def test_wrong_files(tmp_path):
    with pytest.raises(errors.ConfigError, match=r"none.toml: expected a readable settings file, found none"):
        Settings.from_toml(tmp_path / "none.toml")
    for content, text in (
        (b"passes 1", "expected TOML, found a mistake .*; write lines like passes = 1"),
        (b"passes = 1\npasses = 2", "expected TOML, found a mistake"),
        (b"# caf\xe9", "expected a readable settings file"),
        (b"[settings]\npasses = 1", "got 'settings'"),
    ):
        file = tmp_path / "settings.toml"
        file.write_bytes(content)
        with pytest.raises(errors.ConfigError, match=text):
            Settings.from_toml(file)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "settings.toml").write_text("")
    assert Settings.from_toml(tmp_path / "settings.toml") == Settings()
