"""What may import what, what is loaded when, and how the compiled kernels live in other processes."""

import ast
import graphlib
import importlib
import inspect
import multiprocessing
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import numpy
import pytest

import gpufuse

PACKAGE = pathlib.Path(gpufuse.__file__).parent
STAGES = {"denoise", "background", "importance", "mixing", "poisson", "normalise", "baselines"}
FUSION = {"fusion", "clipstages", "look", "pictures", "reconstruction", "fusedchunk", "imagepair"}
FOUNDATIONS = {"errors", "_version", "arrays", "threads"}
KERNELS = ("kernels_cpu.", "kernels_cuda.")
HEAVY = ("cupy", "numba", "av", "scipy", "imageio", "PIL", "tqdm")


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(path, *, top_level_only=False):
    """Full names of what a file imports; of ``from x import y`` both x and x.y."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(path):
    """Modules of the package that a file imports, named without ``gpufuse.``."""
    names = {name.removeprefix("gpufuse.") for name in imported(path) if name.startswith("gpufuse.")}
    return {name for name in names if name in FILES}


EDGES = {name: own_imports(path) - {name} for name, path in FILES.items() if name != "__init__"}


def importers(*modules):
    return {name for name, targets in EDGES.items() if targets & set(modules)}


# Direction of imports


def test_the_imports_were_found():
    assert set(EDGES) >= STAGES | FOUNDATIONS | {"fusion", "cli"}
    assert EDGES["fusion"] >= {"clipstages", "look", "pictures", "streaming"}
    assert EDGES["clipstages"] >= {"denoise", "importance", "normalise", "reconstruction", "streaming"}
    assert EDGES["reconstruction"] >= {"mixing", "poisson", "normalise"}
    twins = {"kernels_cpu", "kernels_cpu.susan", "kernels_cuda", "kernels_cuda.susan"}
    assert EDGES["denoise"] == {"arrays"} | twins


def test_no_cycles():
    order = list(graphlib.TopologicalSorter(EDGES).static_order())
    assert order.index("errors") < order.index("arrays") < order.index("fusion") < order.index("cli")


def test_foundations_import_foundations_only():
    for name in FOUNDATIONS:
        assert EDGES[name] <= FOUNDATIONS


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_know_neither_each_other_nor_what_is_above(stage):
    allowed = FOUNDATIONS | {"gradients", "kernels_cpu", "kernels_cuda"}
    assert {name for name in EDGES[stage] if not name.startswith(KERNELS)} <= allowed


def test_only_fusion_and_what_stands_above_it_knows_several_stages():
    several = {name for name, targets in EDGES.items() if len(targets & STAGES) > 1}
    assert several <= FUSION | {"enhance", "pair", "demo", "cli"}
    assert several >= {"clipstages", "look", "pictures", "reconstruction"}


def test_the_order_of_the_stages_of_a_clip_is_known_in_one_module():
    assert importers("clipstages") == {"fusion"}
    assert importers("reconstruction") <= {"fusion", "clipstages", "pictures"}
    assert not EDGES["clipstages"] & {"fusion", "pictures"}


def test_the_top_is_imported_from_above_only():
    assert importers("cli") <= {"__main__"}
    batch = {name for name in FILES if name.startswith("batch")}
    jobs = {"enhance", "clipjob", "segments", "pair", "demo", "bench.job"}
    assert importers("enhance", "demo", "device") <= jobs | batch | {"cli", "__main__"}
    assert importers(*batch) <= batch | {"cli"}
    assert importers("fusion", "pictures") <= jobs | {"fusion", "cli", "batch.pieces"}
    assert importers("delivery") <= {"clipjob"}
    bench = {name for name in FILES if name.startswith("bench")}
    assert importers(*bench) <= bench | {"cli"}


def test_fusion_and_stages_read_and_write_no_files():
    outside = {"video", "clip", "stills", "videofile", "writer", "output", "report", "scene", "overlap"}
    assert not importers(*outside) & (STAGES | FOUNDATIONS | FUSION | {"gradients", "settings", "streaming"})


def test_the_disk_is_changed_in_one_module_alone():
    """So that a test can let any single operation fail. The demo and the benchmarks write to folders of their own."""
    changes = re.compile(
        r"os\.(replace|rename|unlink|remove|mkdir|makedirs|rmdir|link|truncate)\(|"
        r"\.(write_text|write_bytes|unlink|mkdir|rmdir|touch)\(|shutil\.(move|rmtree|copy)|\bopen\([^)]*\"[wax]b?\""
    )
    own = {"files", "demo", "hardware"} | {name for name in FILES if name.startswith("bench")}
    for name, path in FILES.items():
        if name in own:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            allowed = (
                "..." in line or "av.open(" in line or "os.fdopen(os.dup" in line
            )  # examples, our own sinks
            assert allowed or not changes.search(line), f"{name}: {line.strip()}"


def test_kernels_import_numpy_numba_and_the_thread_policy_only():
    kernels = {name: path for name, path in FILES.items() if name.startswith("kernels_cpu")}
    assert len(kernels) >= 5
    for path in kernels.values():
        for name in imported(path):
            own = name.startswith(("gpufuse.kernels_cpu._compile", "gpufuse.threads", "gpufuse.hierarchy"))
            assert own or name.split(".")[0] in {"numpy", "numba", *sys.stdlib_module_names}, (
                f"{path}: {name}"
            )


def test_launchers_import_the_loader_and_foundations_only():
    launchers = {
        name for name in FILES if name.startswith("kernels_cuda.") and name != "kernels_cuda._compile"
    }
    assert len(launchers) >= 7
    for name in launchers:
        assert EDGES[name] <= FOUNDATIONS | {"hierarchy", "kernels_cuda", "kernels_cuda._compile"}, name
    assert EDGES["kernels_cuda._compile"] <= FOUNDATIONS


def test_each_launcher_is_the_twin_of_a_cpu_module():
    cuda = {name.removeprefix("kernels_cuda.") for name in FILES if name.startswith("kernels_cuda.")}
    cpu = {name.removeprefix("kernels_cpu.") for name in FILES if name.startswith("kernels_cpu.")}
    assert cpu == cuda


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("kernels_cpu")])
def test_heavy_libraries_are_imported_where_they_are_needed(name):
    tops = {target.split(".")[0] for target in imported(FILES[name], top_level_only=True)}
    assert not tops & set(HEAVY)


# What is loaded when


def python(script, root, **environment):
    """Run a script in a new interpreter that treats warnings as errors."""
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_importing_the_package_loads_numpy_alone(root):
    out = python(
        f"import sys, gpufuse; print([name for name in {HEAVY!r} if name in sys.modules]); "
        "print('numpy' in sys.modules, gpufuse.__version__)",
        root,
    )
    assert out.split("\n")[:2] == ["[]", f"True {gpufuse.__version__}"]


# Public names and their docstrings

MODULES = ["gpufuse"] + [
    f"gpufuse.{module.name}" for module in pkgutil.iter_modules([str(PACKAGE)]) if module.name != "__main__"
]


def public(module):
    for name in getattr(module, "__all__", []):
        yield name, getattr(module, name)


def sections(docstring):
    """Numpydoc sections: title to text."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("module", MODULES)
def test_public_names_exist_and_are_documented(module):
    module = importlib.import_module(module)
    assert module.__doc__
    for name, value in public(module):
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            summary = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]
            assert summary, name
            assert summary.endswith("."), name


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_have_numpydoc_sections(module):
    module = importlib.import_module(module)
    for name, value in public(module):
        if not inspect.isfunction(value):
            continue
        found, signature = sections(value.__doc__), inspect.signature(value)
        for parameter in signature.parameters:
            assert re.search(rf"\b{parameter}\b", found.get("Parameters", "")), f"{name}: {parameter}"
        if signature.return_annotation not in (None, "None", "NoReturn", inspect.Signature.empty):
            assert "Returns" in found or "Yields" in found, name
        assert list(found) == sorted(found, key=ORDER.index), name


ORDER = [
    "Parameters", "Returns", "Yields", "Raises", "Warns", "See Also", "Notes", "References", "Examples",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["fuse", "fuse_dynamic", "fuse_video", "daytime_background", "to_device", "to_host", "Settings",
     "denoise.susan3d", "gradients.gradient", "gradients.divergence", "importance.static_importance",
     "importance.dynamic_importance", "importance.motion_masks", "importance.temporal_mean",
     "mixing.mix_gradients", "poisson.solve", "normalise.fit_affine", "baselines.average",
     "baselines.maximum", "baselines.blend", "baselines.substitute"],
)  # fmt: skip
def test_the_names_of_the_interface(name):
    value = gpufuse
    for part in name.split("."):
        assert part in value.__all__
        value = getattr(value, part)
    assert callable(value)


def test_keywords_of_the_interface():
    for function, keywords in [
        (gpufuse.fuse, {"importance", "areas", "settings"}),
        (gpufuse.fuse_dynamic, {"areas", "settings"}),
        (gpufuse.fuse_video, {"areas", "settings", "chunk"}),
        (gpufuse.denoise.susan3d, {"sigma", "threshold", "passes"}),
        (gpufuse.mixing.mix_gradients, {"larger_where_zero"}),
        (gpufuse.poisson.solve, {"method"}),
    ]:
        parameters = inspect.signature(function).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} >= keywords


# Kernels in other processes

USE_ALL_KERNELS = """
import numpy, gpufuse
rng = numpy.random.default_rng(0)
day, *night = rng.integers(0, 255, (8, 40, 50, 3)).astype(numpy.uint8)
def used():
    gpufuse.daytime_background(night)
    return numpy.array(list(gpufuse.fuse_video(day, night)))
"""


def test_kernels_in_a_spawned_child(scene):
    expected = gpufuse.fuse(scene.day_image, scene.night_images[3])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(gpufuse.fuse, (scene.day_image, scene.night_images[3])).get(timeout=60)
    numpy.testing.assert_array_equal(found, expected)


def test_kernels_after_a_fork_and_no_threading_layer_of_numba(root):
    python(
        USE_ALL_KERNELS
        + """
import os, signal, numba
def layer():
    try:
        return numba.threading_layer()
    except ValueError:
        return None
gpufuse.set_threads(3)
assert layer() is None
expected = used()                       # threads of the pool are running now
assert layer() is None
child = os.fork()
if child == 0:
    signal.alarm(60)                    # a lock held by a lost thread would wait for ever
    os._exit(0 if (used() == expected).all() and layer() is None else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (used() == expected).all()
""",
        root,
    )


FIT = """
import numpy
from gpufuse import normalise
u = numpy.arange(12, dtype=numpy.float32).reshape(1, 1, 3, 4)
moments = normalise.blend_moments(u, u[0], u, u[0])
assert moments[0, 0, 0] == 66
"""


def test_kernels_where_no_cache_can_be_kept(root):
    python(
        """
from numba.core import caching
caching.CacheImpl._locator_classes = []       # as where every folder is read-only
from gpufuse.kernels_cpu import fit
assert type(fit._add_row._cache).__name__ == "NullCache"
"""
        + FIT,
        root,
    )


def test_kernels_with_a_cache_folder_that_cannot_be_made(root, tmp_path):
    (tmp_path / "file").write_text("")
    python(FIT, root, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache"), HOME=str(tmp_path / "file" / "home"))


def test_kernels_on_a_full_disk(root, tmp_path):
    python(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))     # every write of a byte fails, as on a full disk
"""
        + FIT,
        root,
        NUMBA_CACHE_DIR=str(tmp_path),
    )


def test_kernels_with_a_broken_cache(root, tmp_path):
    python(FIT, root, NUMBA_CACHE_DIR=str(tmp_path))
    indices = list(tmp_path.rglob("*.nbi"))
    assert indices
    for index in indices:
        index.write_bytes(b"")
    python(FIT, root, NUMBA_CACHE_DIR=str(tmp_path))
