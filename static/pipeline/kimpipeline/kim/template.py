"""``pipeline.stdin``: the input of a Test's runner, made from the Test's template for one Model.

Only the two of KIM's tags are known that need nothing but the items: ``@< MODELNAME >@`` and ``@<
path("KIMID") >@``. The template comes from the Test's author and is filled in outside the sandbox,
so a template language with loops would be a risk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kimpipeline.errors import ItemError
from kimpipeline.kim.kimid import quoted

# KIM's other tags, @[ statement ]@ and @# comment #@, are matched so that they can be refused.
_TAG = re.compile(r"@<(.*?)>@|(@\[|@#|@<)", re.DOTALL)
_PATH = re.compile(r"""path\(\s*(["'])([^"']*)\1\s*\)""")


def render(template: str, model: str, paths: Mapping[str, str]) -> str:
    """Fill in a template.

    Args:
        template: the content of ``pipeline.stdin.tpl``.
        model: the Model's KIM id.
        paths: what ``path`` gives, by the KIM ids of the items that the Test says it needs.

    Raises:
        ItemError: the template has another tag, or names an item that is not in ``paths``.
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
