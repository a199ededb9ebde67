"""ClevrTex folders in other forms: of another variant, in parts, in archives."""

import json
import os
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1] / "clevrtex"


def as_variant(folder: Path, variant: str) -> Path:
    """Rename ``folder`` of another variant, names in its descriptions included."""
    old = folder.name.removeprefix("clevrtex_")
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace(old, variant))
    for path in list(folder.rglob("*.*")):
        path.rename(path.with_name(path.name.replace(old, variant)))
    return folder.rename(folder.with_name(f"clevrtex_{variant}"))


def packed(folder: Path, archive: Path, numbers: range, mode: str = "w:gz") -> Path:
    """A tar of the scenes ``numbers`` of ``folder``, with depths as in a download, in an order as a disk gives it."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, folder.name, recursive=False)
        for path in sorted(folder.rglob("*.*"), key=lambda path: path.name[::-1]):
            number = int(path.name.removesuffix("_flat.png").split(".")[0][-6:])
            if number in numbers:
                tar.add(path, f"{folder.name}/{path.relative_to(folder)}")
                if path.name.endswith("_flat.png"):
                    tar.add(path, f"{folder.name}/{path.relative_to(folder)}".replace("flat", "depth_0001"))
    return archive


def add_scene(folder: Path, source: int, number: int) -> None:
    """Add the scene ``number``: pictures of the scene ``source``, as hard links, and a description of its own."""
    names = [f"CLEVRTEX_{folder.name.removeprefix('clevrtex_')}_{each:06d}" for each in (source, number)]
    chunk = folder / str(number // 1000)
    chunk.mkdir(exist_ok=True)
    for ending in (".png", "_flat.png"):
        os.link(folder / "0" / f"{names[0]}{ending}", chunk / f"{names[1]}{ending}")
    scene = json.loads((folder / "0" / f"{names[0]}.json").read_text())
    text = json.dumps(scene | {"image_index": number}).replace(names[0], names[1])
    (chunk / f"{names[1]}.json").write_text(text)
