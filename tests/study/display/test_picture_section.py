"""Pictures in a page: they are kept small, and never lost in silence."""

from pathlib import Path

import numpy as np

from study.display.picture_section import fitted, pictures, read_pictures
from study.scoring.leaderboard import Row, entry_name, file_stem
from trainables.pictures import encode_png


def noise(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (90, 90, 3), np.uint8))


def test_pictures_are_kept_as_they_are_while_they_fit() -> None:
    pngs = [noise(seed) for seed in range(3)]
    total = sum(map(len, pngs))
    assert fitted(pngs, total) == pngs
    smaller = fitted(pngs, total - 1)
    assert len(smaller) == 3 and sum(map(len, smaller)) < total and all(one[8:12] == b"WEBP" for one in smaller)


def test_what_does_not_fit_at_all_is_said() -> None:
    pngs = [noise(seed) for seed in range(3)]
    one = len(fitted(pngs[:1], len(pngs[0]) - 1)[0])
    by_split = {"test": [("trial 1", pngs[0]), ("base", pngs[1])], "outd": [("trial 1", pngs[2])]}
    html = pictures(by_split, budget=one)
    assert 0 < html.count("<img") < 3
    left = 3 - html.count("<img")
    assert f"{left} of 3 pictures are left out" in html
    assert "left out" not in pictures(by_split) and pictures({}) == ""


def test_a_split_whose_name_ends_like_anothers_has_its_own_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    rows = []
    for split in ("textured", "camo_textured"):
        for kind, entry, stem in (
            *(("trial", "trial 7", "trial_0007"), ("base", "base", "base")),
            ("baseline", "grid 4x4", "baseline_grid_4x4"),
        ):
            (tmp_path / "pictures" / f"{stem}_{split}.png").write_bytes(f"{stem} {split}".encode())
            rows.append(Row(entry, kind, split, 10, 0, {}))
            assert entry_name(file_stem(rows[-1])) == entry
    found = read_pictures(tmp_path, [*rows, Row("trial 7 - base", "gain", "textured", 10, 0, {})])
    for split in ("textured", "camo_textured"):
        stems = ("trial_0007", "base", "baseline_grid_4x4")
        assert [png for _, png in found[split]] == [f"{stem} {split}".encode() for stem in stems]
