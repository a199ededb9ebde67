"""Checkpoints of a trial: one file each, named by its step, read back without unpickling arbitrary objects.

The newest checkpoint is the one with the highest step, which its name holds. Folder names and times do not count,
because Tune numbers its folders from 0 again when a study is continued. A damaged file is passed over: torch writes a
zip archive, which has a checksum of each of its parts, but torch itself does not look at them when it reads.
"""

import errno
import zipfile
from pathlib import Path
from typing import Any

import torch

from data import atomic

PATTERN = "step_*.pt"


def save(folder: str | Path, state: dict[str, Any]) -> Path:
    """Write ``state`` (tensors, numbers, strings, lists and dicts; ``state['step']`` is an int) into ``folder``."""
    path = Path(folder) / f"step_{state['step']:09d}.pt"
    with atomic.replacing(path) as partial:
        torch.save(state, partial)
    return path


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state in one file. Raises ValueError for a file that is damaged or is no checkpoint.

    What another attempt may read is not damaged: OSError and want of memory are raised as they are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (part := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{part} has another checksum")
        state = torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch and zipfile raise half a dozen types for a damaged archive
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # that of a wrong place in the file
            raise
        raise ValueError(f"checkpoint {path} cannot be read ({type(error).__name__}); delete it") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f"{path} is not a checkpoint of this project; delete it")
    return state


def newest(folder: str | Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The state with the highest step in ``folder`` and the folders below it, or None where there is none."""
    return newest_and_damaged(folder, device)[0]


def newest_and_damaged(
    folder: str | Path, device: torch.device | str = "cpu"
) -> tuple[dict[str, Any] | None, list[str]]:
    """What :func:`newest` returns, and the names of the files with a higher step that cannot be read."""
    damaged: list[str] = []
    for path in sorted(Path(folder).rglob(PATTERN), key=lambda path: path.name, reverse=True):
        try:
            return load(path, device), damaged
        except ValueError:  # cut short when the process was killed, or the disk returns other bits
            damaged.append(path.name)
        except FileNotFoundError:
            continue  # just removed by Tune: take the one before
    return None, damaged


def check_model(state: dict[str, Any], model: str, image_size: int) -> None:
    """Raise ValueError unless ``state`` is a checkpoint of ``model`` at ``image_size`` pixels."""
    for key, wanted in (("model", model), ("image_size", image_size)):
        if state.get(key) != wanted:
            raise ValueError(
                f"the checkpoint's {key} is {state.get(key)!r}, but this study's is {wanted!r}; "
                "give the study another --name or start over with --fresh"
            )
