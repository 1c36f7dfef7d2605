"""Every peer beside this package: the same work, in one run, on this machine.

Competitors are in `poisson`, `denoise`, `plate` and `job`; `run` lets them take turns, each in a process of its own
(`process`, `worker`); `table` and `chart` show what came of it.
"""

from __future__ import annotations

__all__: list[str] = []
