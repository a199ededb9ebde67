"""The URL of a database, with its password kept apart: what is printed or recorded shows none."""

import os
import re
from typing import Any
from urllib.parse import quote

PASSWORD_FROM = "CLEVRTUNE_STORAGE_PASSWORD"
"""The environment variable that holds the password where ``--storage`` leaves it out. Drivers have their own ways
besides, such as PGPASSWORD and ``~/.pgpass``."""

_LOGIN = re.compile(r"(?<=://)(?P<user>[^:/?#@\s]*):(?P<password>[^@\s]*)@")  # as SQLAlchemy splits it
_OPTION = re.compile(r"(?<=[?&])(?P<key>\w*passw(?:or)?d)=(?P<password>[^&\s'\"]*)", re.IGNORECASE)


def redacted(text: str) -> str:
    """``text`` without the passwords of the URLs in it."""
    return _OPTION.sub(r"\g<key>=", _LOGIN.sub(r"\g<user>@", text))


class StorageURL(str):
    """A URL. As text it has no password; :attr:`secret` has the one that it came with."""

    secret: str
    """The URL as it was given."""

    def __new__(cls, url: str) -> "StorageURL":
        """``url`` with its password kept apart; a StorageURL as it is."""
        if isinstance(url, StorageURL):
            return url
        made = super().__new__(cls, redacted(url))
        made.secret = url
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return StorageURL, (self.secret,)

    def complete(self) -> str:
        """The URL to connect to: where it names a user and no password, with that of :data:`PASSWORD_FROM`."""
        password = os.environ.get(PASSWORD_FROM)
        login = re.match(r"(?P<before>[\w+]+://[^:/?#@]+)@", self.secret)
        if password is None or login is None:
            return self.secret
        return f"{login['before']}:{quote(password, safe='')}{self.secret[login.end() - 1 :]}"

    def hides(self, text: str) -> str:
        """``text``, which may quote the complete URL or its password, without the latter."""
        found = [match["password"] for pattern in (_LOGIN, _OPTION) for match in pattern.finditer(self.complete())]
        for password in filter(None, found):
            text = text.replace(password, "***")
        return redacted(text)
