"""The page and the record of a batch: all that is to be told, in order, and safe whatever a clip is called."""

import base64
import hashlib
import html
import json
import math
import os
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from gpufuse._version import __version__
from gpufuse.batch.manifest import FileRecord, Manifest
from gpufuse.batch.orders import Item
from gpufuse.batch.page import report_json, report_page
from gpufuse.batch.record import printable_command
from gpufuse.batch.results import BatchReport, ClipResult
from gpufuse.settings import Settings

VOID = {"meta", "img", "br", "input", "rect"}
WEBP, JPEG = b"RIFF1234WEBP<script>", b"\xff\xd8\xff\xe0picture"
HOSTILE = [
    "a<script>alert(1)</script>.mp4",
    "b\"' onmouseover='alert(1).mp4",
    "c\nd\re\x1b[31m.mp4",
    "e\udcff\ud800.mp4",
    "f\u202egpj\u2066.mp4",
    "javascript:alert(1)//.mp4",
    "{{rows}}{{policy}}.mp4",
    "</title></style></dialog><!-- .mp4",
    "100%25 #?&amp;.mp4",
]


def manifest(name="a-enhanced.mp4", **changes):
    described = {
        "name": name,
        "outputs": (FileRecord(name, 1000, 1, "00"),),
        "clip": (FileRecord("/night/a.mp4", 500, 1, "11"),),
        "day": (FileRecord("/day.png", 50, 1, "22"),),
        "order": {"settings": {"passes": 1}},
        "versions": {"gpufuse": "1.2", "av": "18.1.0"},
        "device": "cpu",
        "coders": "",
        "frames_in": 250,
        "frames_out": 250,
        "first_time": 0.0,
        "last_time": 9.96,
        "size": (320, 240),
        "digest": "33",
        "damage": (),
        "notes": (),
        "gaps": (),
        "shift": {"dx": 3.0, "dy": -4.0, "angle": 0.0, "scale": 1.0, "verdict": "measured"},
        "segments": 1,
        "seconds": 50.0,
        "finished": "2026-11-22T10:00:59+00:00",
    }
    return Manifest(**described | changes)


def result(name="a-enhanced.mp4", state="done", *, camera="", clip="/night/a.mp4", changes=None, **others):
    made = manifest(name, **changes or {}) if state in ("done", "skipped") else None
    return ClipResult(Item(name, clip, "/day.png", camera=camera), state, made, **others)


def report(*results, **others):
    return BatchReport(**{"folder": "/archive/out", "frames": 500, "seconds": 20.0, "workers": "2 processes on cpu",
                          "results": results} | others)  # fmt: skip


FAILED = result(
    "bad-enhanced.mp4", "failed", error="bad.mp4: expected a video, found none; convert it", kind="InputError",
    exit_code=3, attempts=3, command="gpufuse enhance /night/bad.mp4 --day /day.png -o 'b & c.mp4'",
)  # fmt: skip
SALVAGED = result("half-enhanced.mp4", changes={"damage": ("half.mp4: cut short",), "frames_out": 17})
WAITING = result("later-enhanced.mp4", "waiting")
SKIPPED = result("old-enhanced.mp4", "skipped")


class Page(HTMLParser):
    """Elements as (tag, attributes), texts by element, and whether every element is closed."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(content.decode("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), attributes
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert tag == self._open.pop()[0]

    def handle_data(self, text):
        if text.strip():
            self.texts.append(([index for _, index in self._open], text))

    def of(self, tag, **wanted):
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def text(self, tag, at=0, **wanted):
        """All text within the at-th such element."""
        found = [
            index
            for index, (name, attributes) in enumerate(self.elements)
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ][at]
        return " ".join(" ".join(text.split()) for above, text in self.texts if found in above)


def page(*results, sheets=None, **others):
    return Page(report_page(report(*results, **others), sheets or {}, made="2026-11-22 12:00 UTC"))


# The page


def test_the_summary():
    found = page(FAILED, SALVAGED, WAITING, SKIPPED, result(), notes=("2 files are no clips",))
    assert found.text("title") == "out: gpufuse batch"
    assert found.text("ul") == (
        "5 Clips 2 Done 1 Salvaged 1 Failed 1 Not finished 500 Frames in this run 25.0 Frames/s 20.0s Time"
    )
    assert found.text("dl") == (
        "Folder /archive/out Workers 2 processes on cpu Outputs made 2026-11-22 10:00 UTC Report made "
        "2026-11-22 12:00 UTC Versions gpufuse 1.2, av 18.1.0 Notes 2 files are no clips"
    )
    widths = [float(part["width"]) for part in found.of("rect")]
    assert widths == [400, 200, 200, 200]


def test_outputs_of_several_versions_are_told():
    other = result("b.mp4", changes={"versions": {"gpufuse": "1.3"}, "finished": "2026-11-23T09:30:00+00:00"})
    text = page(result(), other).text("dl")
    assert "gpufuse 1.2, av 18.1.0 (1 clips) gpufuse 1.3 (1 clips)" in text
    assert "2026-11-22 10:00 to 2026-11-23 09:30 UTC" in text
    assert f"Versions gpufuse {__version__}" in page(WAITING).text("dl")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0s"), (59.44, "59.4s"), (60, "1m 00s"), (3599.6, "1h 00m"), (90000, "25h 00m")],
)
def test_durations(seconds, text):
    assert page(seconds=seconds).text("ul").endswith(f"{text} Time")


def test_failures_come_first_then_salvaged_waiting_done():
    found = page(result(), WAITING, SKIPPED, SALVAGED, result("z.mp4"), FAILED)
    assert [row["data-state"] for row in found.of("tr") if row] == [
        "failed", "salvaged", "waiting", "done", "done", "done",
    ]  # fmt: skip
    names = [cell["data-s"] for cell in found.of("td", **{"class": "clip"})]
    assert names[3:] == ["a-enhanced.mp4", "old-enhanced.mp4", "z.mp4"]  # in the order of the source
    assert found.text("section").startswith("Failed: 1 bad-enhanced.mp4")


def test_a_failure_tells_its_reason_and_how_to_repeat():
    found = page(FAILED)
    assert found.text("article") == (
        "bad-enhanced.mp4 bad.mp4: expected a video, found none; convert it (InputError, exit code 3, 3 attempts) "
        "gpufuse enhance /night/bad.mp4 --day /day.png -o 'b & c.mp4'"
    )
    assert found.text("code") == FAILED.command
    assert found.of("article")[0]["id"] == "failed-1"
    assert found.of("a") == [{"href": "#failed-1"}]  # nothing was made that could be linked
    assert page(result()).of("article") == []


def test_the_row_of_a_clip():
    changes = {
        "damage": ("a.mp4: one thing", "a.mp4: another"), "notes": ("it has sound",), "gaps": ((1.0, 2.5),),
        "frames_out": 243, "segments": 4, "device": "cuda",
        "outputs": (FileRecord("cam 1/a.mp4", 1, 1, "0"), FileRecord("cam 1/a-2.mp4", 1, 1, "0")),
    }  # fmt: skip
    found = page(result("cam 1/a.mp4", camera="cam 1", changes=changes))
    assert [link["href"] for link in found.of("a")] == ["./cam%201/a.mp4", "./cam%201/a-2.mp4"]
    assert found.text("td", **{"class": "clip"}) == (
        "cam 1/a.mp4 cam 1/a-2.mp4 cam 1 2 kinds of damage, 1 note, 1 gap Damage a.mp4: one thing a.mp4: another "
        "Notes it has sound Gaps 1.00 s to 2.50 s Shift +3.00 px to the right, -4.00 px down Night /night/a.mp4 "
        "Day /day.png"
    )
    cells = {cell["data-l"]: cell for cell in found.of("td") if "data-l" in cell}
    numbers = {name: cell["data-s"] for name, cell in cells.items()}
    assert numbers == {
        "In": "250", "Out": "243", "Damage": "2", "Notes": "1", "Gaps": "1", "Shift, px": "5.0", "Frames/s": "4.86",
        "Segments": "4", "Device": "cuda", "Finished": "2026-11-22T10:00:59+00:00",
    }  # fmt: skip
    noticed = {name for name, cell in cells.items() if "warn" in cell["class"]}
    assert noticed == {"Out", "Damage", "Gaps", "Shift, px"}
    shown = found.text("tr", at=1)
    assert shown.endswith("Salvaged 250 243 2 1 1 5.00 4.9 4 cuda 2026-11-22 10:00")


def test_every_row_has_every_column():
    content = report_page(report(FAILED, WAITING, SALVAGED, SKIPPED, result()), {}).decode()
    heads = content.count('<th scope="col"')
    rows = re.findall(r"<tr data-state.*?</tr>", content, re.DOTALL)
    assert len(rows) == 5
    assert {row.count("<td") for row in rows} == {heads} == {13}
    assert content.count("data-sort=") == heads - 1  # all but the pictures


@pytest.mark.parametrize("shift", [None, {}, {"dx": 1.0, "dy": 1.0, "verdict": "unknown"}, {"length": 3}])
def test_a_shift_that_was_not_measured(shift):
    found = page(result(changes={"shift": shift}))
    (cell,) = found.of("td", **{"data-l": "Shift, px"})
    assert "data-s" not in cell
    assert report_json(report(result(changes={"shift": shift})))["clips"][0]["shift_pixels"] is None


def test_work_that_took_no_time():
    found = page(result(changes={"seconds": 0.0}), seconds=0.0)
    (cell,) = found.of("td", **{"data-l": "Frames/s"})
    assert "data-s" not in cell
    assert "0.0 Frames/s" in found.text("ul")


@pytest.mark.parametrize(("sheet", "kind"), [(WEBP, "webp"), (JPEG, "jpeg"), (b"\x89PNG", "png")])
def test_pictures_lie_in_the_page(sheet, kind):
    (picture, _) = page(result(), sheets={"a-enhanced.mp4": sheet}).of("img")
    assert picture["src"] == f"data:image/{kind};base64," + base64.b64encode(sheet).decode()
    assert picture["alt"] == "a-enhanced.mp4: day, night and result"


@pytest.mark.parametrize("sheet", [b"", b"<svg onload='alert(1)'>", b"GIF89a"])
def test_other_pictures_are_left_out(sheet):
    assert len(page(result(), sheets={"a-enhanced.mp4": sheet}).of("img")) == 1  # that of the enlarged one


# Safety


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_clip_is_called_stays_text(name):
    shown = html.escape(name) if name.isprintable() else None
    dirty = [
        result(
            name, camera=name, clip="/" + name, changes={"damage": (name,), "notes": (name,), "device": name}
        ),
        result(name, "failed", error=name, kind=name, command=shlex.join(["gpufuse", "enhance", name])),
    ]
    tame = [
        result("a.mp4", camera="a", clip="/a", changes={"damage": ("a",), "notes": ("a",), "device": "a"}),
        result("a.mp4", "failed", error="a", kind="a", command="gpufuse enhance a"),
    ]
    others = {"folder": f"/x/{name.replace('/', '')}", "workers": name, "notes": (name,)}
    sheets = {name: WEBP, "a.mp4": WEBP}
    content = report_page(report(*dirty, **others), sheets)
    found, expected = Page(content), page(*tame, sheets=sheets, notes=("a",))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in expected.elements]
    assert [set(attributes) for _, attributes in found.elements] == [
        set(each) for _, each in expected.elements
    ]
    assert all(link["href"].startswith(("./", "#failed-")) for link in found.of("a"))
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", content)  # but for line ends
    assert shown is None or shown in content.decode()


def test_a_link_leads_to_the_file():
    import urllib.parse

    name = "cam 1/100%25 #?&\udcff.mp4"
    (link,) = page(result(name)).of("a")
    assert urllib.parse.unquote_to_bytes(link["href"].removeprefix("./")) == os.fsencode(name)


def test_the_page_allows_only_its_own_style_and_script():
    content = report_page(report(FAILED, result()), {"a-enhanced.mp4": WEBP}).decode()
    found = Page(content.encode())
    (policy,) = found.of("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(" ", 1) for rule in policy["content"].split("; "))
    assert rules.keys() == {"default-src", "style-src", "script-src", "img-src", "base-uri", "form-action"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert content.index("Content-Security-Policy") < content.index("<style>")
    assert "\r" not in content
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert not {"srcset", "action", "data", "poster"} & set(attributes)
    assert not found.of("link") + found.of("base") + found.of("iframe")
    assert not re.search(r"https?:|url\(|@import|//[a-z]+\.", content)


def test_a_page_of_5000_clips_would_have_less_than_60_mb():
    results = [result(f"cam/{k:05}-enhanced.mp4", changes={"damage": ("x" * 80,)}) for k in range(1000)]
    sheets = {each.item.name: b"RIFF" + bytes(6996) for each in results}
    assert len(report_page(report(*results), sheets)) < 60e6 / 5


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_command_to_repeat_can_be_pasted():
    words = [
        "gpufuse",
        "it's a 'clip'.mp4",
        *HOSTILE[:3],
        "bytes \udcff\udc80.mp4",
        "\u202ebidi é 夜 ~",
        "$HOME `x`",
    ]
    command = printable_command(shlex.join(words))
    assert command.isprintable()
    assert command.encode()
    completed = subprocess.run(
        ["bash", "-c", command.replace("gpufuse", "printf '%s\\0'", 1)],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert completed.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in words[1:]]


# The record


def test_the_record():
    settings = Settings(passes=2)
    clip = ClipResult(
        Item("c.mp4", "/c.avi", "/d.png", settings, "/areas.toml", "cam"),
        "done",
        manifest("c.mp4"),
        attempts=1,
    )
    record = report_json(report(FAILED, SALVAGED, WAITING, SKIPPED, clip, notes=("a note",)))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {name: record[name] for name in record if name != "clips"} == {
        "format": 1, "gpufuse": __version__, "folder": "/archive/out", "workers": "2 processes on cpu", "frames": 500,
        "seconds": 20.0, "frames_per_second": 25.0, "notes": ["a note"], "exit_code": 11,
        "counts": {"clips": 5, "done": 3, "salvaged": 1, "skipped": 1, "failed": 1, "waiting": 1},
    }  # fmt: skip
    states = [(each["state"], each["salvaged"]) for each in record["clips"]]
    assert states == [
        ("failed", False),
        ("done", True),
        ("waiting", False),
        ("skipped", False),
        ("done", False),
    ]
    failed, last = record["clips"][0], record["clips"][-1]
    assert {name: failed[name] for name in ("error", "kind", "exit_code", "attempts", "command", "manifest")} == {
        "error": FAILED.error, "kind": "InputError", "exit_code": 3, "attempts": 3, "command": FAILED.command,
        "manifest": None,
    }  # fmt: skip
    assert last["settings"]["passes"] == 2
    assert (last["areas"], last["camera"], last["shift_pixels"], last["frames_per_second"]) == (
        "/areas.toml", "cam", 5.0, 5.0,
    )  # fmt: skip
    assert last["manifest"]["outputs"] == [{"path": "c.mp4", "size": 1000, "mtime_ns": 1, "hash": "00"}]
    assert last["bytes"] == {}


def test_the_record_is_as_its_docstring_says():
    record = report_json(report(result()))
    documented = set(re.findall(r"``([a-z_]+)``", report_json.__doc__))
    assert set(record) | set(record["counts"]) | set(record["clips"][0]) <= documented


def test_a_record_of_names_that_are_no_unicode():
    name = "e\udcff.mp4"
    record = report_json(
        report(result(name, clip="/" + name, changes={"notes": (name,), "versions": {name: name}}))
    )
    text = json.dumps(record, ensure_ascii=False)
    assert text.encode()
    (clip,) = record["clips"]
    assert clip["name"] == r"e\udcff.mp4"
    assert {key: bytes.fromhex(raw) for key, raw in clip["bytes"].items()} == {
        "name": b"e\xff.mp4", "clip": b"/e\xff.mp4",
    }  # fmt: skip


def test_numbers_that_are_none_become_null():
    record = report_json(
        report(result(changes={"shift": {"dx": math.nan, "dy": 1.0, "confidence": math.inf}}))
    )
    assert record["clips"][0]["shift_pixels"] is None
    assert record["clips"][0]["manifest"]["shift"] == {"dx": None, "dy": 1.0, "confidence": None}
    json.dumps(record, allow_nan=False)
