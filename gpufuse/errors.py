"""What can go wrong, as one tree of exceptions; each class knows its exit code.

Every message is one line that says what was expected, what was found and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BatchError",
    "ConfigError",
    "DamagedInputError",
    "DeviceError",
    "GpufuseError",
    "InputError",
    "LimitError",
    "OutputError",
    "PairError",
]


class GpufuseError(Exception):
    """Base of every error that gpufuse raises on purpose."""

    exit_code: ClassVar[int] = 70


class ConfigError(GpufuseError, ValueError):
    """Wrong usage or settings."""

    exit_code = 2


class InputError(GpufuseError, OSError):
    """Input that is missing, unreadable, not a video or image, or without a single frame."""

    exit_code = 3


class DamagedInputError(GpufuseError):
    """Input that is damaged or cut short; there is no output under the final name."""

    exit_code = 4


class LimitError(GpufuseError):
    """Input over the limit on pixels, frames or seconds."""

    exit_code = 5


class PairError(GpufuseError, ValueError):
    """Day and night that do not belong together."""

    exit_code = 6


class OutputError(GpufuseError, OSError):
    """Output that cannot be written: no space, read-only, exists already."""

    exit_code = 7


class DeviceError(GpufuseError, RuntimeError):
    """A GPU was demanded but cannot be used."""

    exit_code = 8


class BatchError(GpufuseError):
    """Some clips of a batch could not be made; all others are complete."""

    exit_code = 11
