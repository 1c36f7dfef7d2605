"""The files of a job: checked before any work is done, and none left when the job fails."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufuse import files
from gpufuse.errors import OutputError
from gpufuse.stills import check_still_output
from gpufuse.writer import check_clip_output

__all__ = ["JobFiles"]


@dataclass(frozen=True)
class JobFiles:
    """Names of what a job writes.

    Attributes
    ----------
    result : Path
    comparison, importance : Path or None
        What else is wanted.
    overwrite : bool
        Whether files that exist may be replaced.
    """

    result: Path
    comparison: Path | None
    importance: Path | None
    overwrite: bool

    @classmethod
    def planned(
        cls,
        result: str | Path,
        *,
        compare: bool = False,
        importance: str | Path | None = None,
        inputs: Sequence[str | Path] = (),
        overwrite: bool = False,
        still: bool,
    ) -> JobFiles:
        """Plan the files of a job and check that all can be written.

        Parameters
        ----------
        result : path
        compare : bool
            Also ``<result stem>-compare``.
        importance : path, optional
        inputs : sequence of path
            Files that must not be written to.
        overwrite : bool
        still : bool
            Whether pictures are written, or clips.

        Returns
        -------
        JobFiles

        Raises
        ------
        OutputError
            If a name has a wrong suffix, is used twice or is an input's, or a file exists or cannot be written.
        """
        result = Path(result)
        comparison = result.with_name(f"{result.stem}-compare{result.suffix}") if compare else None
        planned = cls(result, comparison, None if importance is None else Path(importance), overwrite)
        taken = {os.path.realpath(path) for path in inputs}
        for path in (*planned.extras, result):
            real = os.path.realpath(path)
            if real in taken:
                raise OutputError(
                    f"{path.name}: expected a name of its own for each output, found it taken by another file "
                    "of this job; rename it"
                )
            taken.add(real)
            (check_still_output if still else check_clip_output)(path, overwrite=overwrite)
        return planned

    @property
    def extras(self) -> tuple[Path, ...]:
        """All but the result."""
        return tuple(path for path in (self.comparison, self.importance) if path is not None)

    @contextlib.contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Remove what was made so far when the body fails; the result is to be written last."""
        new = [path for path in self.extras if not os.path.lexists(path)]
        try:
            yield
        except BaseException:
            for path in new:
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    files.remove(path)
            raise
