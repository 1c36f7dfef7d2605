"""Skips the tests of a machine that cannot run them; where CI says that it must, they fail."""

from __future__ import annotations

import os

__all__ = ["need"]


def need(obstacle: str | None) -> None:
    """Skip the running test, if there is an obstacle; with GPUFUSE_REQUIRE_EMULATOR=1, let it fail."""
    if obstacle is None:
        return
    import pytest  # here, for ptx.py runs without it

    if os.environ.get("GPUFUSE_REQUIRE_EMULATOR") == "1":
        pytest.fail(f"GPUFUSE_REQUIRE_EMULATOR=1, but {obstacle}", pytrace=False)
    pytest.skip(obstacle)
