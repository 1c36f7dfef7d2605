"""Plates of the days of a batch: made once for each day, kept in the batch's folder, shared by its clips."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpufuse._version import __version__
from gpufuse.batch.manifest import FileRecord, recorded, same_file
from gpufuse.batch.orders import Options
from gpufuse.batch.workspace import Workspace, read_record, write_record
from gpufuse.errors import DamagedInputError, InputError
from gpufuse.plate import Plate, day_plate
from gpufuse.stills import is_still, read_still, write_still

__all__ = [
    "KeptPlate",
    "check_inputs",
    "input_files",
    "keep_plate",
    "kept_plate",
    "plate_key",
    "recorded_plate",
]


@dataclass(frozen=True)
class KeptPlate:
    """A plate that lies in the batch's folder.

    Attributes
    ----------
    picture : str
        Path of the picture; of a day that is a still, the still itself.
    inputs : tuple of FileRecord
        What it was made from.
    damage, notes : tuple of str
        As of `gpufuse.plate.Plate`.
    """

    picture: str
    inputs: tuple[FileRecord, ...]
    damage: tuple[str, ...]
    notes: tuple[str, ...]

    def load(self, options: Options) -> Plate:
        """Read the picture.

        Raises
        ------
        InputError, DamagedInputError, LimitError
        """
        return Plate(read_still(self.picture, max_pixels=options.max_pixels), self.damage, self.notes)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> KeptPlate:
        """Return the plate that `to_json` described."""
        inputs = tuple(FileRecord(**file) for file in record["inputs"])
        return cls(record["picture"], inputs, tuple(record["damage"]), tuple(record["notes"]))


def plate_key(day: str, options: Options) -> str:
    """Return the name under which the plate of a day is kept.

    Examples
    --------
    >>> plate_key("/days/cam1.mp4", Options()) == plate_key("/days/cam2.mp4", Options())
    False
    """
    facts = f"{__version__}\n{day}\n{options.plate_seconds}\n{options.on_damage}"
    return hashlib.blake2b(os.fsencode(facts), digest_size=8).hexdigest()


def input_files(source: str) -> list[Path]:
    """Return the files of a clip or day: itself, or the stills of a folder or glob.

    Raises
    ------
    InputError
        If there is none.
    """
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    elif not path.exists() and glob.has_magic(source):
        found = [Path(name) for name in glob.glob(source) if os.path.isfile(name)]
    else:
        return [path]
    if not found:
        raise InputError(f"{path.name}: expected stills, found none; check the path")
    return sorted(found)


def kept_plate(workspace: Workspace, day: str, options: Options) -> KeptPlate | None:
    """Return the plate of a day if an earlier run has made it, and the day has not changed since.

    Parameters
    ----------
    workspace : Workspace
    day : str
    options : Options

    Returns
    -------
    KeptPlate or None
    """
    kept = recorded_plate(workspace, day, options)
    try:
        present = [str(path) for path in input_files(day)]
    except InputError:
        return None
    if kept is None:
        return None
    as_it_was = present == [file.path for file in kept.inputs]
    if not as_it_was or not all(same_file(file, file.path) for file in kept.inputs):
        return None
    return kept if Path(kept.picture).is_file() else None


def recorded_plate(workspace: Workspace, day: str, options: Options) -> KeptPlate | None:
    """Return the plate of a day as it was recorded; None where it was not, or by another version."""
    record = read_record(workspace.plate(plate_key(day, options)))
    try:
        return None if record is None else KeptPlate.from_json(record)
    except (KeyError, TypeError):
        return None


def keep_plate(
    workspace: Workspace, day: str, options: Options, tell: Callable[[], None], module: Any
) -> KeptPlate:
    """Make the plate of a day and keep it.

    Parameters
    ----------
    workspace : Workspace
    day : str
    options : Options
    tell : callable
        Called now and then.
    module : module
        As of `gpufuse.plate.day_plate`.

    Returns
    -------
    KeptPlate

    Raises
    ------
    InputError, DamagedInputError, LimitError, OutputError
    """
    inputs = tuple(recorded(path, tell=tell) for path in input_files(day))
    record = workspace.plate(plate_key(day, options))
    path = Path(day)
    if path.is_file() and is_still(path):
        read_still(path, max_pixels=options.max_pixels)  # it is looked at once, not by every clip
        kept = KeptPlate(day, inputs, (), ())
    else:
        plate = day_plate(
            day,
            seconds=options.plate_seconds,
            on_damage=options.on_damage,
            limits=_limits(options),
            module=module,
            tell=tell,
        )
        picture = record.with_suffix(".png")
        write_still(picture, plate.pixels, overwrite=True)
        kept = KeptPlate(str(picture), inputs, plate.damage, plate.notes)
    check_inputs(inputs)
    write_record(record, kept.to_json())
    return kept


def check_inputs(inputs: Sequence[FileRecord]) -> None:
    """See that the clip is what it was when its hash was taken.

    Raises
    ------
    DamagedInputError
    """
    for record in inputs:
        if not same_file(record, record.path):
            raise DamagedInputError(
                f"{Path(record.path).name}: expected it to stay as it was, found that it changed while it was read; "
                "wait until it is complete, and run the batch again"
            )


def _limits(options: Options) -> Any:
    """Of a day only the size is limited: of a long one no more is read than is needed."""
    from gpufuse.clip import Limits

    return Limits(options.max_pixels)
