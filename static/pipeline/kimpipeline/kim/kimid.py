"""Names: the extended id of a KIM item, and the id of a job, which its results have too."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator

from kimpipeline.errors import ItemError

# PREFIX__KIND_twelve digits_version; no character of it is special in a shell or a path.
_EXTENDED = re.compile(r"[A-Za-z][A-Za-z0-9_]*__((MO|MD|SM|TE|TD|VC)_\d{12}_\d{3})", re.ASCII)
_PATTERN = re.compile(r"[A-Za-z0-9_*?]+", re.ASCII)
_JOB = re.compile(r"(TE|VC)_\d{12}_\d{3}-and-(MO|SM)_\d{12}_\d{3}-[0-9a-f]{12}", re.ASCII)
_LONGEST = 200  # a file name has at most 255 bytes, and temporary names add some

MODELS = ("MO", "SM")
TESTS = ("TE", "VC")


def _find(text: str) -> re.Match[str] | None:
    return _EXTENDED.fullmatch(text) if len(text) <= _LONGEST else None


def _match(kimid: str) -> re.Match[str]:
    found = _find(kimid)
    if found is None:
        raise ItemError(f"{quoted(kimid)} is no KIM id such as NAME__TE_000000000111_000")
    return found


def check_kimid(kimid: str) -> str:
    """Return the text if it is a KIM item's extended id.

    Raises:
        ItemError: it is not.
    """
    _match(kimid)
    return kimid


def is_kimid(text: str) -> bool:
    """Whether a text is a KIM item's extended id."""
    return _find(text) is not None


def kind(kimid: str) -> str:
    """``MO``, ``MD``, ``SM``, ``TE``, ``TD`` or ``VC``; raises ItemError for what is no KIM id."""
    return _match(kimid)[2]


def code(kimid: str) -> str:
    """The id without its prefix, as ``TE_000000000111_000``; raises ItemError as ``kind`` does."""
    return _match(kimid)[1]


def item_key(kimid: str) -> str:
    """What all versions of an item share, as ``TE_000000000111``; raises ItemError as ``kind``."""
    return code(kimid)[:-4]


def check_pattern(pattern: str) -> str:
    """Return the text if it can name items: a KIM id, or a part of one, with ``*`` and ``?``.

    Raises:
        ItemError: it cannot.
    """
    if len(pattern) > _LONGEST or not _PATTERN.fullmatch(pattern):
        raise ItemError(f"{quoted(pattern)} is no KIM id, and no part of one with * and ?")
    return pattern


def is_named(kimid: str, pattern: str) -> bool:
    """Whether a pattern names an item: by its whole KIM id, without prefix, version, or both."""
    names = (kimid, kimid[:-4], code(kimid), item_key(kimid))
    return any(fnmatchcase(name, pattern) for name in names)


def job_id(test: str, model: str, others: Iterable[str]) -> str:
    """The id of a pair, which differs for each version of an item that takes part.

    Args:
        test: the Test's KIM id.
        model: the Model's KIM id.
        others: the KIM ids of the items that those two need.
    """
    versions = "\n".join([test, model, *sorted(others)])
    digest = hashlib.sha256(versions.encode()).hexdigest()
    return f"{code(test)}-and-{code(model)}-{digest[:12]}"


def quoted(text: str) -> str:
    """A text of unknown origin, for a message: quoted, on one line, at most 80 characters."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def _valid_by(check: Callable[[str], str]) -> AfterValidator:
    """As pydantic wants it: what is no such name is a ValueError."""

    def valid(text: str) -> str:
        try:
            return check(text)
        except ItemError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(valid)


def _valid_job(job: str) -> str:
    if not _JOB.fullmatch(job):
        raise ValueError(f"{quoted(job)} is no id of a job")
    return job


KimId = Annotated[str, _valid_by(check_kimid)]
KimIdPattern = Annotated[str, _valid_by(check_pattern)]
JobId = Annotated[str, AfterValidator(_valid_job)]
