# SPDX-License-Identifier: Apache-2.0
"""Plots: what they say in words, that they add up, and that they escape; the palette's contrast."""

import re
from importlib.resources import files
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from lacre.dashboard.plots import Bucket, Part, Series, ring, share_bar, spark, stacked

HOSTILE = "<b onclick='x'>\u202e&\"{{"


def parsed(drawn: Markup) -> ET.Element:
    """A plot is well-formed, so that no text of others ended an attribute."""
    return ET.fromstring(str(drawn).replace("&#34;", "&quot;"))


@given(values=st.lists(st.integers(0, 10**9), min_size=1, max_size=90), second=st.integers(0, 10**9))  # fmt: skip
def test_bars_are_as_tall_as_their_values(values: list[int], second: int) -> None:
    """Within the drawing, those with a value are seen, and the tallest is the largest."""
    buckets = [Bucket(short=str(n), full=str(n)) for n in range(len(values))]
    series = [Series(name="a", kind="1", values=values), Series(name="b", kind="2", values=[second] * len(values))]  # fmt: skip
    drawn = parsed(stacked("t", buckets, series, what="x", head="h"))
    bars = drawn.findall(".//svg[@class='bars']/g")
    tall = [sum(float(rect.attrib["height"]) for rect in bar.iter("rect")) for bar in bars]
    tops = [float(rect.attrib["y"]) for bar in bars for rect in bar.iter("rect")]
    totals = [value + second for value in values if value + second]

    assert len(bars) == len(totals)
    assert all(0 < each <= 101.5 for each in tall)
    assert all(0 <= each <= 100 for each in tops)
    if totals:
        assert max(tall) == pytest.approx(tall[totals.index(max(totals))], abs=0.8)
        assert max(tall) >= 49  # the scale is not far above what is shown


@given(values=st.lists(st.integers(0, 10**12), min_size=1, max_size=8))
def test_shares_fill_the_bar_and_no_more(values: list[int]) -> None:
    """A part of one in a million is seen."""
    parts = [Part(name=str(n), kind="1", value=value) for n, value in enumerate(values)]
    drawn = parsed(share_bar("t", parts))
    pieces = drawn.findall("rect")[1:]

    assert len(pieces) == sum(value > 0 for value in values)
    assert all(float(piece.attrib["width"]) >= 0.8 for piece in pieces)
    assert all(float(piece.attrib["x"]) <= 99.2 for piece in pieces)


def test_text_of_others_is_text() -> None:
    """Names, titles and buckets may be anything."""
    bucket = Bucket(short=HOSTILE, full=HOSTILE, href="/?a=1&b=2")
    drawn = [
        stacked(HOSTILE, [bucket], [Series(name=HOSTILE, kind="1", values=[3])], what="x", head=HOSTILE),
        share_bar(HOSTILE, [Part(name=HOSTILE, kind="1", value=1)]),
        spark(HOSTILE, [1, 2]),
        ring(HOSTILE, 50),
    ]  # fmt: skip

    for each in drawn:
        assert "onclick" not in {name for element in parsed(each).iter() for name in element.attrib}
        assert "\u202e" not in each
        assert "\\u202e" in each


def test_a_plot_of_nothing_says_none() -> None:
    """Its description and its table do."""
    drawn = stacked("Looks", [Bucket(short="1", full="1")], [Series(name="a", kind="1", values=[0])], what="looks", head="hour")  # fmt: skip

    assert 'aria-label="Looks: none."' in drawn
    assert "Nothing to count" in drawn


def test_a_ring_without_a_score_is_not_a_zero() -> None:
    """What was not assessed looks and reads other than 0."""
    assert "ring-none" in ring("not assessed", None)
    assert ">0</text>" in ring("0 of 100", 0)
    assert "ring-poor" in ring("0 of 100", 0)


def _palettes() -> list[tuple[str, dict[str, str]]]:
    text = files("lacre.dashboard").joinpath("static", "lacre.css").read_text("utf-8")
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)]  # fmt: skip
    return [("light", found[0]), ("dark", found[1])]


def _light(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two colours."""
    darker, lighter = sorted((_light(one), _light(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("name", "palette"), _palettes())
def test_the_palette_has_contrast(name: str, palette: dict[str, str]) -> None:
    """Text 4.5 on all that is behind it, plots and controls 3, in light and in dark."""
    text = [("ink", back) for back in ("page", "card", "inset")]
    text += [("quiet", back) for back in ("page", "card", "inset")] + [("link", "card"), ("link", "page")]  # fmt: skip
    text += [(each, f"{each}-back") for each in ("good", "fair", "poor", "info")]
    text += [("accent-ink", "accent"), ("page", "ink")]
    drawn = [(each, "card") for each in palette if each.startswith("p-")]
    drawn += [("control", "card"), ("focus", "card"), ("focus", "page"), ("accent", "card"), ("good", "card")]  # fmt: skip

    assert not {pair for pair in text if contrast(palette[pair[0]], palette[pair[1]]) < 4.5}
    assert not {pair for pair in drawn if contrast(palette[pair[0]], palette[pair[1]]) < 3}
    assert len(drawn) > 12
