"""A wheel built from the checkout and installed elsewhere carries all that it needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: building in the checkout would leave folders behind.
    source = folder / "source"
    subprocess.run(["git", "-C", str(ROOT), "checkout-index", "-a", "--prefix", f"{source}/"], check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("gpufuse-*.whl")
    return built


def test_wheel_carries_every_source_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "gpufuse", "kernels"], capture_output=True, text=True, check=True
    ).stdout.split()
    expected = {name.replace("kernels/", "gpufuse/kernels/", 1) if name.startswith("kernels/") else name
                for name in tracked}  # fmt: skip
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "gpufuse/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_installed_wheel_finds_its_kernels_folder_and_runs(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from importlib.resources import files\n"
        "import gpufuse, numpy\n"
        "assert gpufuse.__file__.startswith(sys.argv[1]), gpufuse.__file__\n"
        "assert 'CUDA' in files('gpufuse.kernels').joinpath('README.md').read_text()\n"
        "day = numpy.tile(numpy.arange(0, 160, 10, dtype=numpy.uint8), (12, 1))\n"
        "assert (gpufuse.fuse(day, numpy.zeros_like(day)) == day).all()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(target)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
