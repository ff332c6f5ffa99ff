# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG inside an HTML page. Colours are classes, which the page's style sheet knows; nothing else is in it."""

from html import escape

from lacre.reporting.document import Chart
from lacre.reporting.drawing import Box, Line, Shape, drawn

__all__ = ["svg"]

_WIDE = 720.0


def svg(chart: Chart, name: str) -> str:
    """Return *chart* as an ``<svg>`` element whose ids begin with *name*."""
    drawing = drawn(chart, _WIDE)
    inside = "".join(_shape(shape) for shape in drawing.shapes)
    said = f"{chart.title}. The numbers are in the table below it."
    return (
        f'<svg viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(chart.title)}</title><desc id="{name}-d">{escape(said)}</desc>{inside}</svg>'
    )


def _shape(shape: Shape) -> str:
    if isinstance(shape, Box):
        at = f'x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" height="{shape.height:.2f}"'
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        return f'<rect class="f-{shape.tone}" {at}>{tip}</rect>'
    if isinstance(shape, Line):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
        return (
            f'<polyline class="s-{shape.tone}" points="{points}" stroke-width="{shape.width:g}"/>'
        )
    at = f'x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
    return f'<text class="f-{shape.tone}" {at}>{escape(shape.text)}</text>'
