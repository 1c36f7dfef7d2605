"""gpufuse: gives night footage of a fixed camera the context of the day.

Importing the package loads NumPy alone: CuPy, numba, SciPy and PyAV are loaded where they are first needed.
"""

from gpufuse import (
    areas,
    arrays,
    background,
    baselines,
    denoise,
    errors,
    fusion,
    gradients,
    importance,
    mixing,
    normalise,
    poisson,
    settings,
)
from gpufuse._version import __version__
from gpufuse.areas import Area
from gpufuse.arrays import to_device, to_host
from gpufuse.background import daytime_background
from gpufuse.errors import (
    BatchError,
    ConfigError,
    DamagedInputError,
    DeviceError,
    GpufuseError,
    InputError,
    LimitError,
    OutputError,
    PairError,
)
from gpufuse.fusion import fuse_video
from gpufuse.pictures import fuse, fuse_dynamic
from gpufuse.settings import Settings
from gpufuse.threads import get_threads, set_threads

__all__ = [
    "Area",
    "BatchError",
    "ConfigError",
    "DamagedInputError",
    "DeviceError",
    "GpufuseError",
    "InputError",
    "LimitError",
    "OutputError",
    "PairError",
    "Settings",
    "__version__",
    "areas",
    "arrays",
    "background",
    "baselines",
    "daytime_background",
    "denoise",
    "errors",
    "fuse",
    "fuse_dynamic",
    "fuse_video",
    "fusion",
    "get_threads",
    "gradients",
    "importance",
    "mixing",
    "normalise",
    "poisson",
    "set_threads",
    "settings",
    "to_device",
    "to_host",
]
