"""Links that leave ``docs/`` lead to files of the repository, which a site without it has not: they become names."""

import re

_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((?:\.\./)+([^)#\s]+)[^)]*\)")


def on_page_markdown(markdown, **_):
    """The page with ``[text](../path)`` as text and the path in the repository."""
    return _OUTSIDE.sub(r"\1 (`\2`)", markdown)
