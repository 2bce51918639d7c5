"""From contents to the page: styles, scripts, libraries and data in one file that asks for nothing else.

The libraries in ``assets/`` are Observable Plot 0.6.17 and D3 7.9.2 (ISC licences beside them and in every page), as
their npm packages have them.
"""

import html
import json
import math
from pathlib import Path
from typing import Any, Dict, Union

from .. import durable
from .errors import PageError

PAGE_FILE = "report.html"  # in the folders of runs and sweeps
_ASSETS = Path(__file__).parent / "assets"
_LIBRARIES = (("d3.min.js", "d3.LICENSE", "D3"), ("plot.umd.min.js", "plot.LICENSE", "Observable Plot"))
_OWN = ("base.js", "memory.js", "layers.js", "timeline.js", "whatif.js", "accuracy.js", "main.js")


def page(contents: Dict[str, Any]) -> str:
    """The HTML of some contents (see ``contents.py``)."""
    scripts = []
    for name, licence, title in _LIBRARIES:
        text = _asset(name)
        first, _, rest = text.partition("\n")  # a comment with the project's address
        terms = _asset(licence).replace("*/", "")
        scripts.append(f"<script>/* {title}\n{terms}*/\n{rest if first.startswith('//') else text}</script>")
    scripts.append("<script>\n" + "\n".join(_asset(name) for name in _OWN) + "</script>")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(contents['title'])}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{_asset('page.css')}</style></head>",
            "<body>",
            '<main id="page"></main>',
            f'<script type="application/json" id="contents">{_json(contents)}</script>',
            *scripts,
            "</body></html>",
            "",
        ]
    )


def write(path: Union[str, Path], contents: Dict[str, Any]) -> Path:
    """Write the page; a reader sees the old one or the new one.

    Raises:
        PageError: it cannot be written.
    """
    place = Path(path)
    try:
        durable.write(place, page(contents))
    except OSError as error:
        raise PageError(f"Cannot write {place}: {error.strerror or error}.") from error
    return place


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _json(contents: Dict[str, Any]) -> str:
    """JSON that may stand in a script element: no ``</script>``, no numbers that JSON does not have."""
    return json.dumps(_plain(contents), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
