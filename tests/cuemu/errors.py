"""What the emulator raises."""

__all__ = ["CompileError", "EmuError", "LaunchError"]


class EmuError(AssertionError):
    """A mistake in a kernel or in its launch.

    Attributes
    ----------
    kind : str
        Such as ``"shared-race"`` or ``"out-of-bounds"``.
    where : str
        ``"file:line"``, or empty.
    """

    kind = ""
    where = ""


class CompileError(EmuError):
    """A source that g++ refuses."""

    kind = "compile"


class LaunchError(EmuError):
    """A launch that the driver would refuse, or arguments that the kernel does not declare."""

    kind = "launch"
