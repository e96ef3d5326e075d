"""A plot as SVG: one row each, two dots on a logarithmic axis."""

import math
from collections.abc import Callable, Mapping
from html import escape

_ROW, _LEFT, _WIDTH, _RIGHT, _TOP = 24, 250, 480, 90, 56
_INK, _GRID, _OURS, _OTHERS = "#222", "#ddd", "#c2410c", "#1d4ed8"
_FONT = 'font-family="sans-serif" font-size="12"'


def dots(title: str, rates: Mapping[str, tuple[float | None, float | None]]) -> str:
    """Return it; who has no rate gets a row that says so."""
    known = [rate for pair in rates.values() for rate in pair if rate]
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))

    def across(rate: float) -> float:
        return _LEFT + _WIDTH * (math.log10(rate) - first) / (last - first)

    bottom = _TOP + _ROW * len(rates)
    drawn = [_text(_LEFT, 20, title, weight="bold")]
    for power in range(first, last + 1):
        x = across(10.0**power)
        drawn.append(_line(x, _TOP - 8, x, bottom, _GRID))
        drawn.append(_text(x, _TOP - 14, f"{10**power:,}", anchor="middle"))
    for place, (name, pair) in enumerate(rates.items()):
        drawn += _row(_TOP + _ROW * place + _ROW // 2, name, pair, across)
    width, height = _LEFT + _WIDTH + _RIGHT, bottom + 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *drawn, "</svg>", ""])


def _row(
    y: float, name: str, pair: tuple[float | None, float | None], across: Callable[[float], float]
) -> list[str]:
    colour = _OURS if name.startswith("HotQueue") else _OTHERS
    drawn = [_text(_LEFT - 10, y + 4, name, anchor="end", weight="bold" if colour == _OURS else "normal")]
    known = [(across(rate), full) for rate, full in zip(pair, (False, True), strict=True) if rate]
    if not known:
        return [*drawn, _text(_LEFT + 4, y + 4, "not measured")]
    drawn.append(_line(known[0][0], y, known[-1][0], y, colour))
    for x, full in known:
        fill = colour if full else "white"
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        )
    best = max(rate for rate in pair if rate)
    return [*drawn, _text(max(x for x, _ in known) + 10, y + 4, f"{best:,.0f}")]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'{_FONT} text-anchor="{anchor}" font-weight="{weight}" fill="{_INK}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(text)}</text>'
