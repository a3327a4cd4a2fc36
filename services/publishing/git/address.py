"""Where updates are pushed to, as git takes it, and as it may be shown: without anybody's name, password or token. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_USERINFO = re.compile(r"(\w+://)[^/\s]*@")
_SCP_LIKE = re.compile(r"(?:[^@/:]+@)?(?P<host>[^/:]+):(?P<path>.+)")


@dataclass(frozen=True, repr=False)
class Address:
    """`as_given` may hold a password, so it has no repr."""

    as_given: str

    @property
    def shown(self) -> str:
        return _USERINFO.sub(r"\1", self.as_given)

    def hidden_in(self, text: str) -> str:
        """The text without what logs must not hold, however git has written it."""
        text = _USERINFO.sub(r"\1", text.replace(self.as_given, self.shown))
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return text

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that it names; None where it is elsewhere."""
        if self.as_given.startswith("file://"):
            return Path(unquote(urlsplit(self.as_given).path)).resolve()
        if "://" in self.as_given or _SCP_LIKE.fullmatch(self.as_given):
            return None
        return Path(self.as_given).expanduser().resolve()

    @property
    def place(self) -> str:
        """Host and path alone: equal for the same repository by https, ssh and git's short form."""
        if "://" in self.as_given:
            parts = urlsplit(self.as_given)
            host, path = parts.hostname or "", parts.path
        elif short := _SCP_LIKE.fullmatch(self.as_given):
            host, path = short["host"], short["path"]
        else:
            host, path = "", self.as_given
        return f"{host.lower()}/{path.strip('/').removesuffix('.git').lower()}"

    def _secrets(self) -> list[str]:
        """What stands before the host: of a user alone too, since tokens are given that way."""
        if not self.as_given.startswith(("http://", "https://")):
            return []
        parts = urlsplit(self.as_given)
        told = [parts.password, parts.username if not parts.password else None]
        found = [one for one in told if one and len(one) >= 4]  # what is shorter would be found in any word
        return [*found, *(unquote(one) for one in found)]
