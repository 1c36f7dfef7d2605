"""Rules that every CUDA source of the project keeps, and proof that each of its lines was executed."""

import importlib
import pathlib
import re

import cuemu
import pytest
from cuemu import fakecupy, source
from cuemu.project import FOLDER, kernel_files

FILES = list(kernel_files())
TESTS = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("test_kernels_*.py"))

IN_DOUBLE = {"fit"}
"""Files that compute in double on purpose: their literals have no f."""

FORBIDDEN = {
    r"^\s*#\s*include\b": "the loader pastes common.cuh in front; nothing else is included",
    r"\bcooperative_groups\b|\bcub::|\bthrust::|\bstd::": "no library can be emulated",
    r"\btex[123]D\b|\btexture\b|\bsurf[123]D|cudaTextureObject_t": "textures cannot be emulated",
    r"\bcuda::|__pipeline_|\bcp\.async|\bwgmma\b": "copies in the background cannot be emulated",
    r"\bgoto\b": "barriers need structured control flow",
    r"\bprintf\b": "left from a search for a mistake",
    r"^\s*#\s*define\b.*__global__": "a kernel made by a macro is not found",
    r"\b__expf\b|\b__powf\b|\b__logf\b": "approximations go through common.cuh, which states their error",
}

pytestmark = pytest.mark.skipif(not FILES, reason=f"no kernels in {FOLDER}")


@pytest.fixture(autouse=True)
def _emulator():
    cuemu.need(cuemu.unavailable())


def each_file(function):
    return pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)(function)


def emulated(text):
    """The source without what is compiled on a GPU alone."""
    return re.sub(
        r"(#if defined\(__CUEMU__\).*?)#else\n(.*?)#endif",
        lambda match: f"{match[1]}#else\n" + "\n" * match[2].count("\n") + "#endif",
        text,
        flags=re.S,
    )


@each_file
def test_a_launcher_names_the_file(file):
    assert file.launchers, f"no module of gpufuse.kernels_cuda has FILE = {file.name!r}"


@each_file
def test_no_warnings(file):
    assert cuemu.lint(file.source, file.options, instances=file.variants) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.cu*")), ids=lambda path: path.name)
def test_text(path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii()
    assert text.startswith("// "), "the first line says what the file is for"
    long = [
        f"{path.name}:{n}" for n, line in enumerate(text.splitlines(), 1) if len(line) > 110 or "\t" in line
    ]
    assert not long, f"over 110 columns, or tabs: {long}"
    code = source.strip(text)
    for pattern, reason in FORBIDDEN.items():
        assert not re.search(pattern, code, re.M), f"{path.name}: {reason}"
    assert not re.search(r"\basm\b", emulated(code)), (
        f"{path.name}: inline PTX without a way for the emulator"
    )
    assert not re.search(r"\bextern\s+__shared__", source.host_source(code)), (
        "in one line: extern __shared__ T s[];"
    )
    if path.stem not in IN_DOUBLE:
        literals = re.findall(r"(?<![\w.])(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?(?![\w.])", code)
        assert not literals, f"{path.name}: literals of type double: {literals}"


@each_file
def test_each_kernel_is_declared_and_described(file):
    code = source.strip(file.text)
    start = 0
    for kernel in source.kernels(code):
        assert kernel.bound, f"{kernel.name}: __launch_bounds__ is missing"
        end = re.search(rf"\b{kernel.name}\b\s*\(", code).end()
        head, start = code[start:end], end
        if kernel.template is None:
            assert re.search(r'extern "C" __global__[^;{}]*$', head), f'{kernel.name}: not extern "C"'
        parameters = code[end : code.index(")", end)]
        for parameter in parameters.split(","):
            if "*" in parameter and "const" in parameter.split("*")[0]:
                assert "__restrict__" in parameter, f"{kernel.name}: {parameter.strip()} is not __restrict__"
        head_of_file = file.text.partition("\n\n")[0]
        described = head_of_file + file.text[:end].rpartition("\n}\n")[2]
        launchers = re.findall(r"gpufuse[./](kernels_cuda)[./](\w+)", described)
        named = {".".join(("gpufuse", *found)) for found in launchers}
        assert named & set(file.launchers), f"{kernel.name}: no comment names its launcher, {file.launchers}"
        functions = r"gpufuse[./]kernels_cuda[./](\w+)(?:\.py,\s*|\.)(?!py\b|which\b)(\w+)"
        for module, name in re.findall(functions, described):
            launcher = importlib.import_module(f"gpufuse.kernels_cuda.{module}")
            assert hasattr(launcher, name), f"{kernel.name}: there is no {name} in {launcher.__name__}"
        assert re.search(r"\bbytes?\b", described), (
            f"{kernel.name}: no comment predicts the bytes that it moves"
        )


# ---- execution -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed():
    """Launches and coverage of the exercises of all tests of kernels."""
    cuemu.need(cuemu.unavailable())
    missing, before = [], dict(fakecupy.launches)
    with fakecupy.installed(mode="cover") as cupy:
        for name in TESTS:
            exercise = getattr(importlib.import_module(name), "exercise", None)
            if exercise is None:
                missing.append(name)
            else:
                exercise(cupy)
        lines, known = fakecupy.coverage()
    launched = {name for name, count in fakecupy.launches.items() if count > before.get(name, 0)}
    return missing, launched, lines, known


def test_each_test_of_kernels_has_an_exercise(executed):
    assert not executed[0], (
        "these files lack exercise(cp), which reaches every line of the kernels on small inputs"
    )


@each_file
def test_each_kernel_is_launched(executed, file):
    _, launched, _, _ = executed
    names = {name.partition("<")[0] for name in launched}
    idle = {kernel.name for kernel in source.kernels(source.strip(file.text))} - names
    assert not idle, f"kernels/{file.name}.cu: never launched by the exercises: {sorted(idle)}"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.cu*")))
def test_each_line_is_executed(executed, name):
    _, _, lines, known = executed
    path = f"kernels/{name}"
    of_file = {line for file, line in known if file == path}
    assert of_file, f"{path}: nothing of it was compiled by the exercises"
    text = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    idle = sorted(of_file - {line for file, line in lines if file == path})
    assert not idle, "never executed:\n" + "\n".join(
        f"{path}:{line}: {text[line - 1].strip()}" for line in idle
    )
