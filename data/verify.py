"""Read all shards of a set again and say whether they are what its index says.

python data/verify.py SPEC|FOLDER [--cache DIR]
"""

import pathlib
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # the checkout, in place of data/

from rich.console import Console

from data import convert, integrity, places, plugins, stop_signals
from data.shards import ShardIndex
from data.spec import parse


def find(what: str, cache: str | None = None) -> ShardIndex:
    """The index in the folder or URI ``what``, or of the newest conversion of that spec in ``cache``.

    Raises ValueError.
    """
    if "://" in what:
        places.check(what)
        return ShardIndex.load(what)
    if pathlib.Path(what).expanduser().is_dir():
        return ShardIndex.load(str(pathlib.Path(what).expanduser().resolve()))
    return convert.find(parse(what), cache)


@stop_signals.obeyed()
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status: 0 intact, 2 damaged or bad input."""
    parser = convert.Parser(
        prog="python data/verify.py",
        description="Read all shards of a data set again and compare them with their index.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "what", metavar="SPEC|FOLDER", help="e.g. 'clevrtex:full-crop-(128,128)', or a folder of shards"
    )
    parser.add_argument("--cache", help=f"folder or URI of the shards (default {convert.DEFAULT_CACHE})")
    parser.add_argument("--plugins", help=convert.PLUGINS)
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        plugins.use_if_given(asked.plugins)
        return integrity.show(integrity.inspect(find(asked.what, asked.cache), console))
    except (ValueError, OSError) as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
