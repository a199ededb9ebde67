"""CLEVR with masks (Kabra et al. 2019; scenes as in Johnson et al. 2017), as published or as npz files."""

from data.multi_object import Layout, MultiObjectSource
from data.source import EVERYTHING, FinalSplit


class Source(MultiObjectSource):
    """100,000 scenes of 3 to 10 objects; splits and crop are those of ClevrTex (Karazija et al. 2021).

    Others train on the first 70,000 scenes: their models have seen the test split. The final stage scores the variants
    ``outd`` and ``camo`` of ClevrTex, too, where they are there.
    """

    aliases = ("clevr_with_masks",)
    layout = Layout(
        stem="clevr_with_masks",
        size=(240, 320),
        entities=11,
        splits={"test": range(15_000), "val": range(15_000, 30_000), "train": range(30_000, 100_000)},
        crop=0.8,
    )
    final_splits = (
        FinalSplit("test", "test"),
        FinalSplit("outd", EVERYTHING, variant="outd", data="clevrtex"),
        FinalSplit("camo", "test", variant="camo", data="clevrtex"),
    )
