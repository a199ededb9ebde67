"""CLEVR6 (Greff et al. 2019): the scenes of CLEVR with masks that have six objects or fewer."""

from data.multi_object import Layout, MultiObjectSource
from data.source import EVERYTHING, FinalSplit


class Source(MultiObjectSource):
    """The same files, splits and final splits as ``clevr``; a scene keeps its number."""

    layout = Layout(
        stem="clevr_with_masks",
        size=(240, 320),
        entities=11,
        splits={"test": range(15_000), "val": range(15_000, 30_000), "train": range(30_000, 100_000)},
        crop=0.8,
    )
    most = 7
    final_splits = (
        FinalSplit("test", "test"),
        FinalSplit("outd", EVERYTHING, variant="outd", data="clevrtex"),
        FinalSplit("camo", "test", variant="camo", data="clevrtex"),
    )
