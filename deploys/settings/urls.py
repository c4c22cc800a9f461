"""URLs in the settings: what git and Vagrant take, with no word that a shell or ssh would read.

All of them land in files that everybody may read, on the box and in what is shipped.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from deploys.settings.quantities import shown

# runsetup takes the same, in its check_hostname.
_TAKEN = re.compile(r"[][A-Za-z0-9._~:/@+,=-]*")
_PREFIX = re.compile(r"(git|https?|ssh)://[A-Za-z0-9[].*|file:///.+|/.*")
# Only ssh has accounts that are no secret. With the others, what stands before @ is a password, or
# a token in its place.
_SECRET = re.compile(r"ssh://.*:.*@|(git|https?|ftp)://.*@", re.DOTALL)
_OPTION = re.compile(r"://-|@-|://.*:-")
_PORT = re.compile(r"[a-z]+://[^/]*:([0-9]+)(?:/.*)?", re.DOTALL)
_PACKAGES = re.compile(r"(https|file)://[A-Za-z0-9._~:/+,=%-]+/")


def url_fault(url: str) -> str:
    """Why a URL may not stand in the settings, whatever it is for; empty if it may."""
    if _SECRET.match(url):
        return "write no password in it, as it lands in files that everybody may read"
    port = _PORT.fullmatch(url)
    if port and not (len(port[1]) <= 5 and 0 < int(port[1]) < 2**16):
        return f"{shown(url)} has no port from 1 to 65535"
    return ""


def _check_hostname(url: str) -> str:
    fault = url_fault(url)
    if not fault and url and not (_TAKEN.fullmatch(url) and _PREFIX.fullmatch(url)):
        fault = (
            f"{shown(url)}: write a git URL prefix, as https://HOST/PATH, or an absolute path, of "
            "letters, digits and [].:/@_~+,=-"
        )
    if not fault and _OPTION.search(url):
        fault = f"{shown(url)} has a part that begins with a dash"
    if fault:
        raise ValueError(fault)
    return url


def _check_folder(url: str) -> str:
    fault = url_fault(url)
    if not fault and url and not _PACKAGES.fullmatch(url):
        fault = (
            f"{shown(url)}: write the URL of a folder, as https://HOST/PATH/; over http:// anybody "
            "on the way could give another box"
        )
    if fault:
        raise ValueError(fault)
    return url


Hostname = Annotated[str, AfterValidator(_check_hostname), Field(max_length=400)]
FolderUrl = Annotated[str, AfterValidator(_check_folder), Field(max_length=400)]
