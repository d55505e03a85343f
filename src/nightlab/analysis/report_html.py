"""A session's report as one self-contained HTML page."""

from __future__ import annotations

import html

STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --good: #1a7f37; --accent: #2f6feb }
@media (prefers-color-scheme: dark) { :root { --dim: #9a9a9a; --good: #4cc26a; --accent: #7aa7ff } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 54rem; margin: 2.5rem auto; padding: 0 1.2rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .3rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--dim); font-weight: 500 } blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 4px solid
var(--good) } code, pre { font: .88em ui-monospace, monospace } pre { padding: .8rem 1rem; background: #8881;
overflow-x: auto; border-radius: 6px } a { color: var(--accent) } svg { width: 100%; height: auto; background: #fff;
border-radius: 6px } .wide { overflow-x: auto }
"""


def page(text: str, title: str, chart: str) -> str:
    """The report as a self-contained HTML page; ``chart`` is an SVG, placed below the headline."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    before, mark, after = body.partition("<h2>")
    drawn = f"<figure aria-label='progress of the session'>{chart}</figure>" if chart else ""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{before}{drawn}{mark}{after}</body></html>\n"
    )
