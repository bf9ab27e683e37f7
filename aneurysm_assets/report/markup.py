"""HTML of the report whatever it says: its style, tables, and text from anywhere.

What stands on the page belongs to `page`.
"""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aneurysm_assets.report import plots

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #5c6670; --rule: #d8dde2;
  --tint: #f4f6f8; --c1: #3a76b0; --c2: #d9762b; --c3: #4d9160; --c4: #a860a0; --c5: #96833a;
  --c6: #2b8a99; --c7: #b5485a; --bad: #a3261f;
  --n1: #4a5763; --n2: #aeb8c1;
  --l1: #1f4e79; --l2: #6f9bd1; --l3: #0b7a75; --l4: #45b5ac; --l5: #b3261e; --l6: #ee8078;
  --l7: #d99a00; --l8: #557f1c; --l9: #9cc653; --l10: #6f3a98; --l11: #bb8ce0;
  --l12: #8a5a2b; --l13: #d6408f; --l14: #8a939c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #14171a; --faint: #a3adb7;
  --rule: #3a4148; --tint: #1d2125; --c1: #6aa5df; --c2: #eb9a57; --c3: #79bd8b; --c4: #cf94c9;
  --c5: #c9b66c; --c6: #67c3cf; --c7: #e08293; --bad: #ff8a80;
  --n1: #b9c3cc; --n2: #66717b;
  --l1: #5f93d6; --l2: #a9c9f0; --l3: #2fb0a8; --l4: #93e0d9; --l5: #e5544b; --l6: #f7aaa4;
  --l7: #f2c14e; --l8: #86b83c; --l9: #c6e694; --l10: #a86fd0; --l11: #d9b8ef;
  --l12: #bf8a55; --l13: #f07ab8; --l14: #8a939c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 72rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.45 system-ui, sans-serif;
  -webkit-text-size-adjust: 100%; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
p { margin: .3rem 0 .8rem; } .faint { color: var(--faint); } .bad { color: var(--bad); }
.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .6rem;
  margin: 1rem 0 1.6rem; padding: 0; }
.key div { background: var(--tint); border: 1px solid var(--rule); border-radius: .4rem;
  padding: .5rem .7rem; }
.key dt { color: var(--faint); font-size: .85rem; } .key dd { margin: 0; font-size: 1.4rem; }
.columns { columns: 26rem 2; column-gap: 2.5rem; }
section { break-inside: avoid; padding-bottom: 1.8rem; }
figure { margin: 0 0 .6rem; } figcaption { font-size: .85rem; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; }
h3 { font-size: .95rem; margin: 0; font-weight: 600; }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
.three use { opacity: .8; }
.marks { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr));
  margin: .5rem 0; padding: 0; list-style: none; font-size: .88rem; }
.crops { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; }
.crops figure { margin: 0; break-inside: avoid; } .crops figcaption { overflow-wrap: anywhere; }
.crops img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: #0e1013; border-radius: .3rem; margin-bottom: .3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .22rem .6rem .22rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; } th { font-weight: 600; } caption { text-align: left; }
@media (max-width: 30rem) { table { font-size: .82rem; } th, td { padding-right: .3rem; } }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
@media (min-width: 30rem) { td.n { white-space: nowrap; } }
code { font-size: .85em; overflow-wrap: anywhere; }
td:last-child, th:last-child { padding-right: 0; }
a { color: inherit; text-decoration-color: var(--faint); text-underline-offset: .15em; }
tr:target td { background: var(--tint); } tr { scroll-margin-top: 3rem; }
.named { display: block; color: var(--faint); }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --faint: #444;
  --rule: #bbb; --tint: #fff; --c1: #3a76b0; --c2: #d9762b; --c3: #4d9160; --c4: #a860a0;
  --c5: #96833a; --c6: #2b8a99; --c7: #b5485a; --bad: #a3261f;
  --n1: #4a5763; --n2: #aeb8c1;
  --l1: #1f4e79; --l2: #6f9bd1; --l3: #0b7a75; --l4: #45b5ac; --l5: #b3261e; --l6: #ee8078;
  --l7: #d99a00; --l8: #557f1c; --l9: #9cc653; --l10: #6f3a98; --l11: #bb8ce0;
  --l12: #8a5a2b; --l13: #d6408f; --l14: #8a939c; }
  html { font-size: 10.5px; } body { padding: 0; } .columns { columns: 2; column-gap: 2rem; }
  .scroll { overflow: visible; } tr, figure, .three > div { break-inside: avoid; }
  h2, h3, thead { break-after: avoid; } svg, .mark, img { print-color-adjust: exact; }
  .three { grid-template-columns: repeat(3, 1fr); } .marks { break-inside: avoid; }
  .crops { grid-template-columns: repeat(6, 1fr); gap: .6rem; } }
"""

_NAME = re.compile(r"`([^`]+)`")

_PERCENT = re.compile(r"[\d.]+%( to [\d.]+%)?")


@dataclass(frozen=True)
class Html:
    """A cell that is HTML already."""

    text: str


def table_of(
    header: Sequence[str], rows: Iterable[Sequence[object]], ids: Sequence[str] = ()
) -> str:
    """Return a table that scrolls by itself where it is wide; columns of numbers stand right.

    Parameters
    ----------
    header : sequence of str
        What each column is.
    rows : iterable of sequences
        Cells: None, numbers, texts from anywhere, or `Html`.
    ids : sequence of str
        By which a link finds each row; none where none does.
    """
    rows = list(rows)
    opened = [f'<tr id="{name}">' for name in ids] or ["<tr>"] * len(rows)
    numeric = [n for n in range(len(header)) if all(_is_number(row[n]) for row in rows)]

    def line(cells: Iterable[str], tag: str) -> str:
        classes = (' class="n"' if n in numeric else "" for n in range(len(header)))
        name = tag.partition(" ")[0]
        return "".join(f"<{tag}{c}>{cell}</{name}>" for cell, c in zip(cells, classes, strict=True))

    head = line(map(escaped, header), 'th scope="col"')
    body = "\n".join(
        f"{tag}{line(map(_cell, row), 'td')}</tr>" for tag, row in zip(opened, rows, strict=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or bool(_PERCENT.fullmatch(str(value)))


def _cell(value: object) -> str:
    if isinstance(value, Html):
        return value.text
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{plots.mark_of(value)}{escaped(str(value or ''))}"


def prose(text: str) -> str:
    """Return a sentence as HTML, with its names of columns as code."""
    return _NAME.sub(r"<code>\1</code>", escaped(text))


def escaped(text: str) -> str:
    """Return text from anywhere as HTML."""
    return html.escape("".join(c if c.isprintable() else "�" for c in text))
