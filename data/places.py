"""Places of shards: a folder, or a URI such as ``s3://bucket/folder?endpoint_override=HOST:9000&scheme=http``.

What stands behind the ``?`` says how to reach the place. Of the URIs, pyarrow opens those on s3, gs, abfs and hdfs.
This module is also the program that :func:`check` runs. It imports pyarrow late: error messages need only its words.
"""

import functools
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from pyarrow import fs

HERE = "~/.cache/clevrtune"
"""The folder of this machine for what is converted or copied, where no other is given."""

ANSWERS_WITHIN = 15.0
"""Seconds that a remote place has for its first answer. Some libraries try for a quarter of an hour, without a word."""

_LOGIN = re.compile(r"(?<=://)[^/?#@\s]*:[^@\s/]*@")
_KEYS = re.compile(r"(?<=[?&])(access_key|secret_key)=([^&\s'\"]*)")
_ENVIRONMENT = ("AWS_", "GOOGLE_", "AZURE_")
_REMEDIES = {
    "s3": "check the bucket, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the region or the server, which may "
    "stand behind the bucket: ?region=REGION, ?endpoint_override=HOST:PORT&scheme=http",
    "gs": "check the bucket, GOOGLE_APPLICATION_CREDENTIALS and the network",
}


def is_remote(place: str) -> bool:
    """Whether ``place`` is elsewhere than on a disk of this machine."""
    return "://" in place and not place.startswith("file://")


def inside(place: str, *names: str) -> str:
    """The place that has the path of ``place`` and then ``names``; a URI keeps its query."""
    path, mark, query = place.partition("?") if "://" in place else (place, "", "")
    return "/".join([path.rstrip("/"), *names]) + mark + query


def shown(text: str) -> str:
    """``text``, for people: keys that stand in a URI are left out."""
    return _KEYS.sub(r"\1=***", _LOGIN.sub("***@", text))


def filesystem(place: str) -> tuple["fs.FileSystem", str]:
    """The file system of a local path or URI, and the path there.

    Raises ValueError for a URI of an unknown kind, OSError where a bucket's region cannot be found out.
    """
    from pyarrow import fs

    if "://" not in place:
        return fs.LocalFileSystem(), place
    environment = tuple(each for each in sorted(os.environ.items()) if each[0].startswith(_ENVIRONMENT))
    return _opened(place, environment)


@functools.lru_cache(maxsize=64)  # some ask the server for the bucket's region first
def _opened(place: str, environment: tuple[tuple[str, str], ...]) -> tuple["fs.FileSystem", str]:
    import pyarrow as pa
    from pyarrow import fs

    keys = dict(_KEYS.findall(place))
    uri = re.sub("&&+", "&", _KEYS.sub("", place)).replace("?&", "?").rstrip("?&")
    if keys:  # pyarrow wants them before the bucket
        login = ":".join(quote(unquote(keys.get(key, "")), safe="") for key in ("access_key", "secret_key"))
        uri = uri.replace("://", f"://{login}@", 1)
    try:
        return fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        remedy = "give a folder, or a URI on s3:// or gs://"
        raise ValueError(f"{shown(place)} cannot be used ({shown(str(error))}); {remedy}") from None


@functools.cache
def check(place: str) -> None:
    """Raise ValueError within 20 seconds if the remote ``place`` does not answer or refuses; there may be nothing yet.

    Another process asks: some libraries try for longer, or print on their own account.
    """
    if not is_remote(place):
        return
    try:
        asked = subprocess.run(
            [sys.executable, __file__], input=place.encode(), capture_output=True, timeout=ANSWERS_WITHIN
        )
        said = (asked.stdout.strip() or asked.stderr.strip()).decode(errors="replace").splitlines()
        if not asked.returncode:
            return
        why = said[-1] if said else f"status {asked.returncode}"
    except subprocess.TimeoutExpired:
        why = f"no answer within {ANSWERS_WITHIN:.0f} s"
    scheme = place.partition("://")[0]
    remedy = _REMEDIES.get(scheme, "check the address, its credentials and the network")
    raise ValueError(f"{shown(place)} cannot be used ({shown(why)}); {remedy}")


def _look(place: str) -> None:
    """Raise OSError or ValueError if the folder ``place`` cannot be listed, or its bucket is not there."""
    from pyarrow import fs

    files, path = filesystem(place)
    if files.get_file_info(fs.FileSelector(path, allow_not_found=True)) or files.type_name not in ("s3", "gcs"):
        return
    bucket = path.partition("/")[0]  # one that is missing has an empty list as well
    if files.get_file_info(bucket).type == fs.FileType.NotFound:
        raise ValueError(f"there is no bucket {bucket}")


def main() -> int:
    """Look at the place on standard input; returns the exit status, and says in one line why it is not 0."""
    try:
        _look(sys.stdin.read())
    except Exception as error:
        print(next(iter(str(error).strip().splitlines()), type(error).__name__)[:300])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
