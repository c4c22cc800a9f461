"""``pipeline.stdin``: the input of a Test's runner, made from the Test's template for one Model.

The template's language is Jinja2 with the brackets of KIM's developer platform. It comes from the
Test's author, so it is filled in by a program in a sandbox, ``fill.py``. Most templates use just
names and ``path``: these are filled in here, in no time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kimpipeline.errors import ItemError
from kimpipeline.kim.fill import BRACKETS, FUNCTIONS, LACKING, RESULTS
from kimpipeline.kim.kimid import quoted

_OF_JINJA = ("caller", "cycler", "dict", "joiner", "lipsum", "loop", "namespace", "range")
_TAG = re.compile(r"@<(.*?)>@|(@\[|@#|@<)", re.DOTALL)
_NAME = re.compile(r"[A-Z]+")
_PATH = re.compile(r"""path\(\s*(["'])([^"']*)\1\s*\)""")


def is_simple(template: str) -> bool:
    """Whether a template uses just names and ``path``, so that ``render`` can fill it in."""
    words = [(tag[1] or "").strip() for tag in _TAG.finditer(template)]
    return all(_NAME.fullmatch(each) or _PATH.fullmatch(each) for each in words)


def render(template: str, names: Mapping[str, str], paths: Mapping[str, str]) -> str:
    """Fill in a simple template.

    Args:
        template: the content of ``pipeline.stdin.tpl``.
        names: what names stand for.
        paths: what ``path`` gives, by the KIM ids of the items that the Test says it needs.

    Raises:
        ItemError: it names what is not there.
    """

    def fill(tag: re.Match[str]) -> str:
        words = (tag[1] or "").strip()
        path = _PATH.fullmatch(words)
        if path is None:
            if words not in names:
                raise ItemError(f"pipeline.stdin.tpl: {quoted(words)} is undefined")
            return names[words]
        if path[2] not in paths:
            raise ItemError(f"pipeline.stdin.tpl: {quoted(path[2])} is not in kimspec.edn's needs")
        return paths[path[2]]

    return _TAG.sub(fill, template)


def check(template: str, names: Mapping[str, str], *, given: bool) -> None:
    """Read a template that is not simple, without filling it in.

    Args:
        template: the content of ``pipeline.stdin.tpl``.
        names: what names stand for.
        given: whether the job is given results of other Tests.

    Raises:
        ItemError: it is none, or uses a name that is not there.
    """
    import jinja2  # a worker's start need not wait for it
    from jinja2 import nodes

    brackets: dict[str, Any] = BRACKETS
    # Its text is no page.
    environment = jinja2.Environment(autoescape=False, **brackets)  # noqa: S701
    try:
        # Only parsed: a compiler would work out the template's constants, of any size.
        found = [*environment.parse(template).find_all(nodes.Name)]
    except (jinja2.TemplateError, RecursionError) as error:
        line = str(error).partition("\n")[0]
        raise ItemError(f"pipeline.stdin.tpl: {ascii(line)[1:-1]}") from error
    used = {each.name for each in found} - {each.name for each in found if each.ctx != "load"}
    if lacking := sorted(used & set(LACKING)):
        raise ItemError(f"pipeline.stdin.tpl: there is no {lacking[0]} here")
    if not given and (asking := sorted(used & set(RESULTS))):
        why = f"{asking[0]} looks in results that are given to the job: name their Test"
        raise ItemError(f"pipeline.stdin.tpl: {why} in dependencies.edn")
    if unknown := sorted(used - {*names, *FUNCTIONS, *RESULTS, *_OF_JINJA}):
        raise ItemError(f"pipeline.stdin.tpl: {quoted(unknown[0])} is undefined")
