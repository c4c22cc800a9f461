"""``pipeline.stdin``: what a Test's runner reads, made from its template for one Model.

Of KIM's templates the two tags that need nothing but the items themselves are known:
``@< MODELNAME >@`` and ``@< path("KIMID") >@``. The template comes from the Test's author and is
filled outside the sandbox, so it is no place for a language that has loops.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kimpipeline.errors import ItemError
from kimpipeline.kim.kimid import quoted

# KIM's other tags, @[ statement ]@ and @# comment #@, are seen so that they can be refused.
_TAG = re.compile(r"@<(.*?)>@|(@\[|@#|@<)", re.DOTALL)
_PATH = re.compile(r"""path\(\s*(["'])([^"']*)\1\s*\)""")


def render(template: str, model: str, paths: Mapping[str, str]) -> str:
    """The text that the template gives.

    Args:
        template: the content of ``pipeline.stdin.tpl``.
        model: the Model's KIM id.
        paths: by KIM id, what ``path`` gives: of the items that the Test says it needs.

    Raises:
        ItemError: it has another tag, or names an item that the Test does not say it needs.
    """

    def fill(tag: re.Match[str]) -> str:
        words = (tag[1] or "").strip()
        if words == "MODELNAME":
            return model
        path = _PATH.fullmatch(words)
        if path is None:
            raise ItemError(f"pipeline.stdin.tpl: {quoted(tag[0])} is not MODELNAME or path(...)")
        if path[2] not in paths:
            raise ItemError(f"pipeline.stdin.tpl: {quoted(path[2])} is not in kimspec.edn's needs")
        return paths[path[2]]

    return _TAG.sub(fill, template)
