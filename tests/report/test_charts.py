from __future__ import annotations

from xml.etree import ElementTree as ET

from pushserver.report.charts import Bar, rows

LETTER = 8
"""Units that a letter of usual width takes in a label."""


def test_a_long_name_is_cut_to_what_stands_left_of_its_bar() -> None:
    chart = ET.fromstring(rows([Bar("1a216defd2b-0015e4681c4091c0", 1.0)], "Top messages"))
    label = chart.find("g/text")
    assert label is not None
    assert label.text is not None
    assert label.text.endswith("…")
    assert float(label.attrib["x"]) >= LETTER * len(label.text)
