"""CLEVR6 (Greff et al. 2019): the scenes of CLEVR with masks that have six objects or fewer."""

from data.sources import clevr


class Source(clevr.Source):
    """The same files, splits and final splits; a scene keeps its number."""

    aliases = ()
    most = 7
