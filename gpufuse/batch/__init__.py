"""An archive of clips: all of them enhanced, on one machine or a cluster, resumable, nothing lost.

`run` does what ``gpufuse batch`` does, and `verify_folder` what ``gpufuse verify`` does.
"""

from gpufuse.batch.api import BatchOrder, dry_run, run
from gpufuse.batch.manifest import FileRecord, Manifest, read_manifest
from gpufuse.batch.orders import Item, Options
from gpufuse.batch.results import BatchReport, ClipResult, OnProgress, Progress, WorkerState
from gpufuse.batch.verify import Problem, VerifyReport, verify_folder

__all__ = [
    "BatchOrder",
    "BatchReport",
    "ClipResult",
    "FileRecord",
    "Item",
    "Manifest",
    "OnProgress",
    "Options",
    "Problem",
    "Progress",
    "VerifyReport",
    "WorkerState",
    "dry_run",
    "read_manifest",
    "run",
    "verify_folder",
]
