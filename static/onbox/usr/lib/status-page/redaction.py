"""Removes private data from text that others wrote, for the page that everybody may read."""

from __future__ import annotations

import re
import unicodedata

_LEFT_OUT = "(left out)"
# Never shown, whatever the source: addresses, accounts, home folders, keys.
_PRIVATE = re.compile(
    r"""
    -----BEGIN.*                                # a key, to the end
    | \b[a-z][a-z0-9+.-]*://\S*                 # a URL
    | \S+@\S+                                   # USER@HOST
    | \b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+)?      # an IPv4 address
    | (?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])   # an IPv6 address
    | /(?:home|root)\b\S*
    | \b(?:pass\w*|secret|token)\s*[=:]\s*\S+
    | [a-z0-9+/]{41,}={0,2}                     # longer than a commit: key material, a hash
    """,
    re.IGNORECASE | re.VERBOSE,
)


def printable(text: str, limit: int = 200) -> str:
    """One line of at most ``limit`` visible characters, without private data."""
    # Categories C and Z: control and format characters, surrogates, separators of all kinds.
    plain = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text)
    line = " ".join(_PRIVATE.sub(_LEFT_OUT, " ".join(plain.split())).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
