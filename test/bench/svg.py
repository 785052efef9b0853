#
# Copyright (c) 2026 The Bulkhead authors
#
# Distributed under the Boost Software License, Version 1.0. (See accompanying
# file LICENSE_1_0.txt or copy at http://www.boost.org/LICENSE_1_0.txt)
#

"""Bar and line charts as SVG, with nothing but the standard library."""

import math
from html import escape

COLOURS = ("#0b6e4f", "#c44536", "#3d5a80", "#e09f3e", "#7b5ea7", "#6c757d")
WIDTH = 760


def _text(x, y, s, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(str(s))}</text>'


def _line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _document(height, title, parts):
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<title>{escape(title)}</title><rect width="{WIDTH}" height="{height}" fill="white"/>'
    )
    title = _text(WIDTH / 2, 22, title, extra='font-size="15" font-weight="bold"')
    return "\n".join([head, title, *parts, "</svg>\n"])


def number(v):
    """Three significant digits, without an exponent."""
    if v == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(v))))
    return f"{round(v, 2 - math.floor(math.log10(abs(v)))):,.{digits}f}"


def _round_ticks(highest):
    """0 and up to five more round values, in steps of 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(highest / 5))
    step = next(m * power for m in (1, 2, 5, 10) if highest / (m * power) <= 6)
    return [i * step for i in range(int(highest / step) + 1)]


def bars(title, groups):
    """Horizontal bars on a logarithmic axis around 1. groups: [(name, [(label, ratio)])]"""
    values = [v for _, entries in groups for _, v in entries]
    low = 10 ** math.floor(math.log10(min(values + [0.99])))
    high = 10 ** math.ceil(math.log10(max(values + [1.01])))
    left, right, row = 230, 60, 17

    def x(v):
        return left + (WIDTH - left - right) * math.log(v / low) / math.log(high / low)

    parts, y = [], 44
    for name, entries in groups:
        parts.append(_text(8, y + row - 4, name, "start", 'font-weight="bold"'))
        for i, (label, v) in enumerate(entries):
            x0, x1 = sorted((x(1), x(v)))
            parts.append(_text(left - 6, y + row - 4, label, "end"))
            parts.append(
                f'<rect x="{x0:.1f}" y="{y + 3}" width="{max(x1 - x0, 1):.1f}" '
                f'height="{row - 4}" fill="{COLOURS[0 if v >= 1 else 1]}"/>'
            )
            parts.append(_text(x1 + 4, y + row - 4, number(v), "start"))
            y += row
        y += 6
    grid, tick = [], low
    while tick <= high * 1.001:
        grid.append(_line(x(tick), 36, x(tick), y, "#333" if abs(tick - 1) < 1e-9 else "#ddd"))
        grid.append(_text(x(tick), y + 16, f"{tick:g}"))
        tick *= 10
    return _document(y + 28, title, grid + parts)


def lines(title, x_label, y_label, series, log_y=False):
    """series: [(label, [(x, y)], dashed)]"""
    left, right, top, bottom, height = 80, 190, 40, 54, 420  # the legend is on the right
    points = [p for _, ps, _ in series for p in ps]
    x_max = max(p[0] for p in points)
    if log_y:
        y_low = 10 ** math.floor(math.log10(max(min(p[1] for p in points), 0.1)))
        y_high = 10 ** math.ceil(math.log10(max(p[1] for p in points)))
    else:
        y_low, y_high = 0, 1.05 * max(p[1] for p in points)

    def sx(v):
        return left + (WIDTH - left - right) * v / x_max

    def sy(v):
        share = (
            math.log(max(v, y_low) / y_low) / math.log(y_high / y_low)
            if log_y
            else (v - y_low) / (y_high - y_low)
        )
        return height - bottom - (height - bottom - top) * share

    parts = []
    if log_y:
        ticks = [y_low * 10**i for i in range(round(math.log10(y_high / y_low)) + 1)]
    else:
        ticks = _round_ticks(y_high)
    for t in ticks:
        parts.append(_line(left, sy(t), WIDTH - right, sy(t), "#ddd"))
        parts.append(_text(left - 6, sy(t) + 4, f"{t:,.10g}", "end"))
    for t in _round_ticks(x_max):
        parts.append(_text(sx(t), height - bottom + 18, f"{t:,.10g}"))
    parts.append(_text((left + WIDTH - right) / 2, height - 12, x_label))
    middle = height / 2
    parts.append(_text(16, middle, y_label, extra=f'transform="rotate(-90 16 {middle})"'))
    for i, (label, ps, dashed) in enumerate(series):
        colour = COLOURS[i // 2 if any(d for _, _, d in series) else i]
        path = " ".join(f"{sx(px):.1f},{sy(py):.1f}" for px, py in ps)
        dash = 'stroke-dasharray="5 4"' if dashed else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" {dash}/>'
        )
        x, y = WIDTH - right + 10, top + 16 + 16 * i
        parts.append(
            f'<line x1="{x}" y1="{y - 4}" x2="{x + 26}" y2="{y - 4}" '
            f'stroke="{colour}" stroke-width="2" {dash}/>'
        )
        parts.append(_text(x + 32, y, label, "start"))
    return _document(height, title, parts)
