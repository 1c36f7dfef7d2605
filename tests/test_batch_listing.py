"""Clips of a batch: what is found, which day and name each gets, and what is refused."""

import contextlib
import os
import pathlib
import sys

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpufuse.batch.cameras import CameraPattern, filled
from gpufuse.batch.listing import list_items
from gpufuse.batch.lists import read_list
from gpufuse.batch.names import (
    LONGEST_NAME,
    check_distinct,
    checked_output,
    natural_order,
    output_name,
    shown,
)
from gpufuse.batch.sources import VIDEO_SUFFIXES
from gpufuse.errors import ConfigError, InputError
from gpufuse.settings import Settings
from gpufuse.stills import write_still

POSIX = pytest.mark.skipif(os.name == "nt", reason="names that Windows cannot have")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Three cameras with clips, and their days."""
    monkeypatch.chdir(tmp_path)
    for camera in ("cam1", "cam2", "cam10"):
        for name in ("1.mp4", "10.MP4", "9.avi", "notes.txt", ".hidden.mp4", ".trash/old.mp4"):
            touch(f"cams/{camera}/{name}")
        picture(f"days/{camera}.png")
    return tmp_path


def touch(path):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a clip")
    return path


def picture(path):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_still(path, numpy.zeros((2, 2), numpy.uint8))
    return path


def names(source, day="days/cam1.png", **options):
    return [item.name for item in list_items(source, day, **({"folder": "out"} | options)).items]


def refused(error, *words, source="cams", day="days/cam1.png", **options):
    """The line of an error, which must have all of the words in it."""
    with pytest.raises(error) as told:
        list_items(source, day, **({"folder": "out"} | options))
    line = str(told.value)
    assert "\n" not in line
    for word in ("expected", ";", *words):
        assert word in line, (word, line)
    assert "found" in line or "got" in line
    return line


# ------------------------------------------------------------------------------------------- folders


def test_a_folder_is_searched_in_natural_order(archive):
    found = list_items("cams", "days/cam1.png", folder="out")
    wanted = [f"{camera}/{n}-enhanced.mp4" for camera in ("cam1", "cam2", "cam10") for n in (1, 9, 10)]
    assert [item.name for item in found.items] == wanted
    assert found.root == str(archive / "cams")
    assert found.notes == ()
    first = found.items[0]
    assert (first.clip, first.day) == (str(archive / "cams/cam1/1.mp4"), str(archive / "days/cam1.png"))
    assert (first.camera, first.areas, first.settings) == ("", None, Settings())


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".TS", ".Mp4"])
def test_every_video_suffix_is_found(archive, suffix):
    touch(f"one/a{suffix}")
    assert names("one") == ["a-enhanced.mp4"]


def test_digits_that_are_no_decimals_sort(archive):
    assert sorted(["a².mp4", "a10.mp4", "a9.mp4"], key=natural_order) == ["a9.mp4", "a10.mp4", "a².mp4"]


def test_the_batches_folder_parts_and_own_outputs_are_left_out(archive):
    touch("cams/results/cam1/1-enhanced.mp4")
    touch("cams/results/cam1/other.mp4")
    touch("cams/cam1/1-enhanced.mp4")
    touch("cams/cam1/1-enhanced-compare.mp4")
    touch("cams/cam1/1-enhanced.mp4.part-0123abcd")
    touch("cams/cam2/1.mp4.json").write_text('{"some": "other program"}')
    found = list_items("cams", "days/cam1.png", folder="cams/results")
    assert len(found.items) == 9
    assert len(found.notes) == 1
    assert "outputs of gpufuse" in found.notes[0]
    assert "cam1/1-enhanced.mp4" in found.notes[0]


def test_an_output_of_another_name_is_known_by_its_manifest(archive, monkeypatch):
    from gpufuse.batch import manifest

    record = manifest.recorded("cams/cam1/9.avi")
    whole = manifest.Manifest(
        "9.avi", (record,), (record,), (record,), {}, {}, "cpu", "", 1, 1, None, None, (1, 1), "", (), (), (), None,
        1, 1.0, "",
    )  # fmt: skip
    pathlib.Path("cams/cam1/9.avi.json").write_bytes(whole.to_bytes())
    assert "cam1/9-enhanced.mp4" not in names("cams")


@POSIX
def test_links_neither_lead_out_nor_in_circles(archive, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    touch(outside / "x.mp4")
    os.symlink(outside, "cams/outside")
    os.symlink(outside / "x.mp4", "cams/cam1/x.mp4")
    os.symlink("..", "cams/cam1/up")
    os.symlink("itself.mp4", "cams/cam1/itself.mp4")
    os.symlink("gone.mp4", "cams/cam1/dangling.mp4")
    os.symlink("1.mp4", "cams/cam1/latest.mp4")
    touch("cams/.store/kept.mp4")
    os.symlink("../.store/kept.mp4", "cams/cam1/kept.mp4")  # as some archives keep their files
    found = list_items("cams", "days/cam1.png", folder="out")
    assert len(found.items) == 10
    assert "cam1/kept-enhanced.mp4" in [item.name for item in found.items]
    notes = "\n".join(found.notes)
    assert "lead out of the folder are left out: cam1/x.mp4, outside" in notes
    assert "lead nowhere are left out: cam1/dangling.mp4, cam1/itself.mp4" in notes
    assert "listed anyway are left out: cam1/latest.mp4" in notes


@POSIX
def test_two_folders_that_link_to_each_other(archive):
    os.makedirs("cams/a/.h")
    touch("cams/a/.h/x.mp4")
    os.symlink("../a/.h", "cams/cam1/h")
    os.symlink("../../cam1", "cams/a/.h/back")
    assert names("cams").count("cam1/h/x-enhanced.mp4") == 1
    assert len(names("cams")) == 10


@POSIX
def test_pipes_are_left_out(archive):
    os.mkfifo("cams/cam1/live.ts")
    assert (
        "pipes and devices are left out: cam1/live.ts"
        in list_items("cams", "days/cam1.png", folder="out").notes
    )


def test_folders_that_cannot_be_read_are_told(archive, monkeypatch):
    scandir = os.scandir

    def forbid(path):
        if str(path).endswith("cam2"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    found = list_items("cams", "days/cam1.png", folder="out")
    assert found.notes == ("folders that cannot be read are left out: cam2",)
    assert len(found.items) == 6
    refused(InputError, "permission", source="cams/cam2")


def test_nothing_found(archive):
    os.mkdir("empty")
    assert "mjpg" in refused(InputError, "mp4", "empty", source="empty")
    refused(InputError, "'gone'", source="gone")
    refused(InputError, "gone/*.mp4", source="cams/gone/*.mp4")
    refused(InputError, source="\0")
    refused(InputError, "picture", source="days/cam1.png")
    refused(ConfigError, "other than", folder="cams")


# --------------------------------------------------------------------------------------------- globs


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("cams/*/1.mp4", ["cam1/1", "cam2/1", "cam10/1"]),
        ("cams/cam1*/1?.MP4", ["cam1/10", "cam10/10"]),
        ("cams/cam[12]/*", [f"cam{k}/{n}" for k in (1, 2) for n in (1, 9, 10)]),
        ("cams/**/9.avi", ["cam1/9", "cam2/9", "cam10/9"]),
        ("**/cam2/*.avi", ["cams/cam2/9"]),
        ("cams/cam1/**", ["1", "9", "10"]),
        ("./cams/cam1/*.avi", ["9"]),
        ("cams/*/*.txt", ["cam1/notes", "cam2/notes", "cam10/notes"]),  # a suffix that is asked for
    ],
)
def test_globs(archive, pattern, wanted):
    assert names(pattern) == [f"{name}-enhanced.mp4" for name in wanted]


def test_the_root_of_a_glob_is_its_fixed_part(archive):
    assert list_items("cams/cam1/*.mp4", "days/cam1.png", folder="out").root == str(archive / "cams/cam1")
    assert list_items("**/*.mp4", "days/cam1.png", folder="out").root == str(archive)


def test_a_folder_whose_name_looks_like_a_glob(archive):
    touch("cam[1]/a.mp4")
    touch("cam1/b.mp4")
    assert names("cam[1]") == ["a-enhanced.mp4"]


# ---------------------------------------------------------------------------------- cameras and days


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("{camera}/...", "cam1/a/b.mp4", {"camera": "cam1"}),
        ("{camera}/...", "a.mp4", None),
        ("{camera}", "cam1/a.mp4", {"camera": "cam1"}),
        ("{camera}/", "cam1/a.mp4", {"camera": "cam1"}),
        ("**/{camera}_{day}*.mp4", "x/y/c1_0203_9.mp4", {"camera": "c1", "day": "0"}),
        ("{camera}_{day}_*.mp4", "c1_0203_9.mp4", {"camera": "c1", "day": "0203"}),
        ("{site}/*/{camera}.mp4", "north/2024/c1.mp4", {"site": "north", "camera": "c1"}),
        ("{site}/*/{camera}.mp4", "north/2024/x/c1.mp4", None),
        ("{camera}/{camera}-*", "c1/c1-0.mp4", {"camera": "c1"}),
        ("{camera}/{camera}-*", "c1/c2-0.mp4", None),
        ("a.b(c)/{x}", "a.b(c)/d", {"x": "d"}),
        ("a.b/{x}", "aXb/d", None),
        ("{2}/{a b}", "{2}/{a b}/x", {}),
        ("{camera}/...", "a\nb/c.mp4", {"camera": "a\nb"}),
    ],
)
def test_camera_patterns(pattern, path, values):
    assert CameraPattern(pattern).match(path) == values


def test_days_by_camera(archive):
    found = list_items("cams", "days/{camera}.*", folder="out")
    assert {(item.camera, pathlib.Path(item.day).name) for item in found.items} == {
        ("cam1", "cam1.png"), ("cam2", "cam2.png"), ("cam10", "cam10.png"),
    }  # fmt: skip


def test_days_by_several_fields(archive):
    for path in ("in/north/c1/a.mp4", "in/south/c1/a.mp4"):
        touch(path)
    for path in ("days/north-c1/1.png", "days/north-c1/2.png", "days/south-c1/1.png", "days/south-c1/2.png"):
        picture(path)
    found = list_items("in", "days/{site}-{number}", camera="{site}/{number}", folder="out")
    assert [item.camera for item in found.items] == ["north/c1", "south/c1"]
    assert [pathlib.Path(item.day).name for item in found.items] == ["north-c1", "south-c1"]
    stills = list_items("in", "days/{site}-c1/*.png", camera="{site}/...", folder="out")
    assert [item.day for item in stills.items] == [
        str(archive / f"days/{s}-c1/*.png") for s in ("north", "south")
    ]


def test_values_are_no_wildcards(archive):
    touch("odd/[ab]/x.mp4")
    touch("odd/a/x.mp4")
    picture("odays/a.png")
    picture("odays/[ab].png")
    found = list_items("odd", "odays/{camera}.p*", folder="out")
    assert [pathlib.Path(item.day).name for item in found.items] == ["[ab].png", "a.png"]


def test_a_folder_with_wildcards_above_does_not_matter(archive, monkeypatch):
    os.makedirs("w[1]")
    monkeypatch.chdir("w[1]")
    touch("cam1/x.mp4")
    picture("d/cam1/1.png")
    picture("d/cam1/2.png")
    (item,) = list_items("cam1", "d/cam1/*.png", folder="out").items
    from gpufuse.video import open_clip

    with open_clip(item.day) as stills:
        assert stills.frame_count_hint == 2


def test_days_are_no_clips(archive):
    for camera in ("cam1", "cam2", "cam10"):
        touch(f"cams/{camera}/day.mp4")
    found = list_items("cams", "cams/{camera}/day.mp4", folder="out")
    assert len(found.items) == 9
    assert not [item for item in found.items if item.clip.endswith("day.mp4")]
    assert found.notes == ("days are not clips, and left out: cam1/day.mp4, cam2/day.mp4, cam10/day.mp4",)
    assert len(names("cams", "cams/cam1/1.mp4", camera="*")) == 11


def test_days_in_a_folder_of_their_own_within_the_source(archive):
    for camera in ("cam1", "cam2", "cam10", "cam99"):  # one of them of no clip
        touch(f"cams/days/{camera}.mp4")
    assert len(names("cams", "cams/days/{camera}.mp4")) == 9


def test_what_is_wrong_with_days(archive):
    pathlib.Path("days/cam2.png").unlink()
    # One that is missing costs its own clips alone; where all are missing the pattern is wrong.
    found = list_items("cams", "days/{camera}.png", folder="out").items
    assert {item.day for item in found if item.camera == "cam2"} == {str(archive / "days/cam2.png")}
    refused(InputError, "cam1.jpg", "cam2.jpg", day="days/{camera}.jpg")
    refused(InputError, "nowhere.png", day="nowhere.png")
    refused(ConfigError, "{site}", "--camera", day="days/{site}.png")
    refused(ConfigError, "--day", day=None)
    touch("days/cam1.mp4")
    refused(ConfigError, "2 files", "cam1.mp4", day="days/cam1.*")
    touch("cams/loose.mp4")
    refused(ConfigError, "loose.mp4", "{camera}/...", day="days/{camera}.png")
    refused(ConfigError, "and 7 more", camera="other/{camera}/...")
    refused(InputError, "besides the day", source="cams/cam1/1.mp4", day="cams/cam1/1.mp4")


@pytest.mark.parametrize("value", ["..", ".", "a/b", "../x", "a\0b", "/etc"])
def test_values_lead_nowhere_else(value):
    with pytest.raises(ConfigError):
        filled("days/{camera}/x.png", {"camera": value})


def test_dots_that_only_together_lead_elsewhere():
    with pytest.raises(ConfigError):
        filled("days/.{camera}/x.png", {"camera": "."})
    assert filled("days/..{camera}/x.png", {"camera": "."}) == "days/.../x.png"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="./\\a{}*[]\0~ ", max_size=8))
def test_a_value_stays_one_name(value):
    try:
        path = filled("days/{camera}/day.png", {"camera": value})
    except ConfigError:
        return
    assert path.split("/")[0] == "days"
    assert path.split("/")[2:] == ["day.png"]
    assert os.path.normpath(path) == path or not value


# --------------------------------------------------------------------------------------------- names


def test_two_clips_with_one_output(archive):
    touch("cams/cam1/9.MOV")
    refused(ConfigError, "cam1/9.avi", "cam1/9.MOV", "'output'")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.mp4", "a.mp4"),
        ("stra\u00dfe.mp4", "STRASSE.mp4"),
        ("\u00e9.mp4", "e\u0301.mp4"),
        ("a.mp4/b.mp4", "A.MP4"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_names_that_some_file_system_takes_for_one(one, other, turned):
    pairs = [(one, "first"), ("else.mp4", "third"), (other, "second")]
    with pytest.raises(ConfigError, match="first") as told:
        check_distinct(pairs[::-1] if turned else pairs)
    assert "second" in str(told.value)


@POSIX
def test_strange_names(archive):
    strange = [
        b"-rf.mp4",
        b"a\nb.mp4",
        b"\xff\xfe.mp4",
        b"x" * 251 + b".mp4",
        "ü".encode() * 125 + b".avi",
        b"a\\b.mp4",
    ]
    os.makedirs("odd")
    for name in strange:
        with open(os.path.join(b"odd", name), "wb") as file:
            file.write(b"x")
    found = list_items("odd", "days/cam1.png", folder="out")
    assert len(found.items) == len(strange)
    for item in found.items:
        assert os.path.isfile(item.clip)
        assert len(item.name.encode()) <= LONGEST_NAME  # no lone surrogates in it
        assert shown(item.name) == item.name
        assert "\\" not in item.name
        picture(f"out/{item.name}.json.part-01234567.png")  # what else lies beside it fits too
    assert {"-rf-enhanced.mp4", "a%0Ab-enhanced.mp4", "%FF%FE-enhanced.mp4"} <= {
        item.name for item in found.items
    }


def test_long_names_that_begin_alike_stay_apart():
    assert output_name("x" * 240 + "1.mp4") != output_name("x" * 240 + "2.mp4")
    assert output_name("x" * 240 + "1.mp4") == output_name("x" * 240 + "1.avi")


BAD_OUTPUTS = [
    "", ".", "..", "/a.mp4", "../a.mp4", "a/../b.mp4", "a/../../b.mp4", "a\\b.mp4", "C:/a.mp4", "c:a.mp4", "a\0.mp4",
    "a.mp4/", "CON.mp4", "nul/a.mp4", "com1.tar.mp4", "aux .mp4", "a./b.mp4", "a /b.mp4", " a/b.mp4", "a.avi", "mp4",
    ".mp4", ".gpufuse/x.mp4", "a\n.mp4", "x" * 300 + ".mp4", "a.mp4 ", "a.mp4.", "\udcff.mp4", "a\u2028b.mp4", "a?.mp4",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_OUTPUTS)
def test_outputs_that_are_refused(text):
    with pytest.raises(ConfigError, match="output: expected"):
        checked_output(text)


def test_what_is_wrong_with_an_output_is_told():
    for text, found in (
        ("a/../b.mp4", "upwards"),
        ("/a.mp4", "absolute"),
        ("CON.mp4", "device"),
        ("a:b.mp4", "':'"),
    ):
        with pytest.raises(ConfigError, match=found):
            checked_output(text)


@pytest.mark.parametrize("text", ["a.mp4", "./a.MKV", "a//b.m4v", "console/x.mov", "ü 1/-x.mp4", "a..b.mp4"])
def test_outputs_that_are_taken(text):
    assert checked_output(text) == text.removeprefix("./").replace("//", "/")


NAME_PARTS = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "C:",
        "~",
        "a",
        "b.mp4",
        ".mp4",
        "CON",
        "nul",
        " ",
        "\0",
        "\n",
        "%2e%2e",
        "$HOME",
        "*",
    ]
)


@settings(max_examples=1000, deadline=None)
@given(
    st.one_of(st.lists(NAME_PARTS, max_size=7).map("".join), st.text(max_size=20).map(lambda t: t + ".mp4"))
)
@example("a/./../../b.mp4")
def test_no_output_leads_out_of_the_folder(text):
    try:
        name = checked_output(text)
    except ConfigError:
        return
    for module in (__import__("posixpath"), __import__("ntpath")):
        folder = "/batch/out" if module.__name__ == "posixpath" else "D:\\batch\\out"
        path = module.normpath(module.join(folder, name))
        assert path.startswith(folder + module.sep)
        assert module.splitdrive(name)[0] == ""
    assert not any(part.startswith(".") or part != part.strip(" ") for part in name.split("/"))
    assert name.isprintable() or not any(sign < " " for sign in name)


# --------------------------------------------------------------------------------------------- lists


def write_list(text, name="lists/night.csv", encoding="utf-8"):
    path = pathlib.Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


FULL = """\
clip,day,settings,areas,output,camera
../cams/cam1/1.mp4,../days/cam1.png,passes=2 night_gain=1.5,,one.mkv,
# a remark, with "quotes, and commas

"../cams/cam1/10.MP4",,fast.toml,areas.toml,sub/two.mp4,gate
,,,,,
../cams/cam2/9.avi,,,,three.mp4,.../{camera}/9.avi
"""


@pytest.mark.parametrize(("encoding", "ends"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r")])
def test_a_list_in_csv(archive, encoding, ends):
    write_list(FULL.replace("\n", ends), encoding=encoding)
    write_list("passes = 1\nnight_gain = 'auto'\n", "lists/fast.toml")
    write_list("[[area]]\nfill = 'day'\npolygon = [[0, 0], [9, 0], [9, 9]]\n", "lists/areas.toml")
    picture("days/gate.png")
    batch = Settings(c=3, night_gain=2.0)
    found = list_items("lists/night.csv", "days/{camera}.png", settings=batch, folder="out")
    one, two, three = found.items
    assert found.root == str(archive / "lists")
    assert [item.name for item in found.items] == ["one.mkv", "sub/two.mp4", "three.mp4"]
    assert [item.clip for item in found.items] == [
        str(archive / "cams" / name) for name in ("cam1/1.mp4", "cam1/10.MP4", "cam2/9.avi")
    ]
    assert [pathlib.Path(item.day).name for item in found.items] == ["cam1.png", "gate.png", "cam2.png"]
    assert [item.camera for item in found.items] == ["", "gate", "cam2"]
    assert one.settings == batch.replace(passes=2, night_gain=1.5)
    assert two.settings == batch.replace(passes=1, night_gain=None)
    assert three.settings == batch
    assert (one.areas, two.areas) == (None, str(archive / "lists/areas.toml"))


def test_a_list_in_toml(archive):
    write_list(
        "day = '../days/{camera}.png'\ncamera = '.../cams/{camera}/...'\nsettings = {passes = 1}\n"
        "[[clip]]\nclip = '../cams/cam1/1.mp4'\n"
        "[[clip]]\nclip = '../cams/cam2/1.mp4'\nsettings = {c = 2}\noutput = 'x.mp4'\n"
        "[[clip]]\nclip = '../cams/cam10/1.mp4'\nday = '../days/cam1.png'\ncamera = 'gate'\nsettings = 'c=4'\n",
        "lists/night.toml",
    )
    one, two, three = list_items("lists/night.toml", None, folder="out").items
    assert [pathlib.Path(item.day).name for item in (one, two, three)] == ["cam1.png", "cam2.png", "cam1.png"]
    assert [item.camera for item in (one, two, three)] == ["cam1", "cam2", "gate"]
    assert [item.settings for item in (one, two, three)] == [
        Settings(passes=1), Settings(passes=1, c=2), Settings(passes=1, c=4),
    ]  # fmt: skip
    # Outside the list's folder names count from the root, whatever other rows there are.
    assert one.name == "/".join((*(archive / "cams/cam1").parts[1:], "1-enhanced.mp4"))


def test_stills_as_clips_of_a_list(archive):
    for index in range(2):
        picture(f"lists/night.d/{index}.png")
    write_list("clip\nnight.d\ngone.mp4\nnight.d/*.png\n", "lists/l.csv")
    found = list_items("lists/l.csv", "days/cam1.png", folder="out").items
    assert [item.name for item in found] == [
        "night.d-enhanced.mp4", "gone-enhanced.mp4", "night.d/night.d-enhanced.mp4",
    ]  # fmt: skip
    assert found[2].clip == str(archive / "lists/night.d/*.png")
    picture("lists/one.jpg")
    write_list("clip\nnight.d\none.jpg\n", "lists/l.csv")
    with pytest.raises(
        ConfigError,
        match=r"l.csv line 3: clip: expected a clip, or a folder or pattern of stills, found one still; use gpufuse",
    ):
        list_items("lists/l.csv", "days/cam1.png", folder="out")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,day\na.mp4\n", "line 2: expected 2 cells (clip, day), found 1"),
        ("clip,day\na.mp4,b,c\n", "line 2: expected 2 cells"),
        ("clip\n\n# x\na.mp4\nb.mp4,\n", "line 5: expected 1 cells"),
        ("clip,colour\na.mp4,x\n", "line 1: expected a header line|found 'colour'"),
        ("clip;day\na.mp4;x\n", "found 'clip;day'"),
        ("a.mp4\nb.mp4\n", "found 'a.mp4'"),
        ("clip,clip\na,b\n", "found 'clip' twice"),
        ("day\nx.png\n", "with at least clip, found none"),
        ("", "at least clip, found none"),
        ("clip\n", "expected at least one clip, found none"),
        ("clip,day\n,x.png\n", "line 2: expected a clip, found an empty cell"),
        ('clip\n"a.mp4\nb.mp4\n', "line 2: expected cells"),
        ('clip\n"a.mp4" x\n', "line 2: expected cells"),
        ("clip\na\0.mp4\n", "line 2: expected text in 'clip', found a null"),
        ("clip,settings\na.mp4,passes\n", "line 2: settings: expected words|found 'passes'"),
        ("clip,settings\na.mp4,pases=2\n", "line 2: settings: expected one of|got 'pases'"),
        ("clip,settings\na.mp4,passes=-1\n", "line 2: passes: expected"),
        ("clip,settings\na.mp4,gone.toml\n", "line 2:|gone.toml"),
        ("clip,areas\na.mp4,gone.toml\n", "line 2:|gone.toml"),
        ("clip,output\na.mp4,../x.mp4\n", "line 2: output: expected"),
        ("clip,output\na.mp4,x.avi\n", "line 2: output: expected"),
        ("clip,output\na.mp4,x.mp4\nb.mp4,X.mp4\n", "line 2|line 3|'X.mp4'"),
        ("clip,camera\na.mp4,no/{camera}/...\n", "line 2: camera: expected paths like"),
        ("clip,camera,day\na.mp4,a/b,{camera}.png\n", "line 2: camera: expected one part"),
        ("clip,day\nc/a.mp4,{site}.png\n", "line 2: day: expected fields|{site}"),
        ("clip\n.a.mp4\n", "line 2: output: expected a name that does not begin with a dot"),
        ("clip\n../cams/cam1/*\n", "line 2: clip: expected one clip"),
    ],
)
def test_mistakes_in_csv(archive, text, words):
    write_list(text)
    refused(ConfigError, *words.split("|"), "night.csv", source="lists/night.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[clip]\n", "expected TOML|line 1"),
        ("clip = 'a.mp4'\n", "[[clip]] tables"),
        ("[[clip]]\nday = 'x'\n", "clip 1: expected a clip"),
        ("[[clip]]\nclip = 'a.mp4'\n[[clip]]\nclip = 3\n", "clip 2: expected clip to be text, found 3"),
        ("[[clip]]\nclip = 'a.mp4'\nsettings = 1\n", "clip 1: expected settings to be text or a table"),
        ("[[clip]]\nclip = 'a.mp4'\nsettings = {pases = 1}\n", "clip 1: settings: expected one of"),
        ("[[clip]]\nclip = 'a.mp4'\nsetings = {passes = 1}\n", "clip 1: expected clip, day|'setings'"),
        ("output = 'x.mp4'\n[[clip]]\nclip = 'a.mp4'\n", "below [[clip]]"),
        ("settings = {passes = 'x'}\n[[clip]]\nclip = 'a.mp4'\n", "passes: expected"),
        ("", "expected at least one clip"),
        ('[[clip]]\nclip = "a\\u0000.mp4"\n', "null character"),
    ],
)
def test_mistakes_in_toml(archive, text, words):
    write_list(text, "lists/night.toml")
    refused(ConfigError, *words.split("|"), "night.toml", source="lists/night.toml")


def test_lists_that_are_no_utf8(archive):
    write_list("clip\na.mp4\nstraße.mp4\n", encoding="latin-1")
    refused(ConfigError, "line 3", "UTF-8", source="lists/night.csv")


def test_a_day_of_the_command_line_is_relative_to_the_current_folder(archive):
    write_list("clip,day\na.mp4,\nb.mp4,own.png\n")
    picture("lists/own.png")
    one, two = list_items("lists/night.csv", "days/cam1.png", folder="out").items
    assert (one.day, two.day) == (str(archive / "days/cam1.png"), str(archive / "lists/own.png"))
    refused(ConfigError, "line 2: day:", source="lists/night.csv", day=None)


def test_an_output_that_would_be_an_input(archive):
    write_list("clip,output\n../cams/cam1/1.mp4,cam1/1.mp4\n")
    refused(ConfigError, "which is an input", source="lists/night.csv", folder="cams")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from((".csv", ".toml")), st.data())
def test_no_text_brings_a_foreign_error(tmp_path_factory, suffix, data):
    base = "clip,day\na.mp4,x.png\n" if suffix == ".csv" else "day = 'x'\n[[clip]]\nclip = 'a.mp4'\n"
    at = data.draw(st.integers(0, len(base)))
    cut = data.draw(st.integers(0, 6))
    text = base[:at] + data.draw(st.text(max_size=6)) + base[at + cut :]
    path = tmp_path_factory.getbasetemp() / f"mutated{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        assert read_list(path).rows


def test_settings_and_areas_of_the_batch(archive):
    write_list("[[area]]\nfill = 'day'\npolygon = [[0, 0], [9, 0], [9, 9]]\n", "areas.toml")
    found = list_items(
        "cams/cam1/1.mp4", "days/cam1.png", settings=Settings(passes=1), areas="areas.toml", folder="out"
    )
    assert found.items[0].areas == str(archive / "areas.toml")
    assert found.items[0].settings.passes == 1
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        list_items("cams", "days/cam1.png", areas="gone.toml", folder="out")


@pytest.mark.skipif(sys.platform != "linux", reason="counts open descriptors in /proc")
def test_no_descriptor_is_left_open(archive):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        names("cams")
    assert len(os.listdir("/proc/self/fd")) == before
