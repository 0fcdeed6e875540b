"""A ring as a picture."""

from xml.etree import ElementTree

import pytest

from habitus.domain.reporting.cases import Ring, Thing
from habitus.domain.reporting.graph import ring_graph

pytestmark = pytest.mark.plain

RING = Ring(
    users=("u1", "<u2>", "a user with a very long name"),
    things=(Thing("device", "d&1", 3, 2), Thing("network", "10.0.0.1", 4, 3)),
    uses=(
        ("u1", "device", "d&1", 1),
        ("<u2>", "device", "d&1", 32),
        ("u1", "network", "10.0.0.1", 2),
    ),
    more_users=1200,
)


def test_users_and_things_are_nodes_and_uses_are_lines() -> None:
    root = ElementTree.fromstring(ring_graph(RING, {"u1": "critical"}))  # noqa: S314 - drawn here

    assert [circle.get("class") for circle in root.iter("circle")] == ["critical", "none", "none"]
    assert len(list(root.iter("rect"))) == 2
    lines = [path for path in root.iter("path") if path.get("class") == "use"]
    assert [line.findtext("title") for line in lines] == [
        "u1: d&1 in 1 event",
        "<u2>: d&1 in 32 events",
        "u1: 10.0.0.1 in 2 events",
    ]
    assert [line.get("stroke-width") for line in lines] == ["1.0", "3.5", "1.5"]
    assert [link.get("data-user") for link in root.iter("a")] == list(RING.users)


def test_long_names_are_cut_and_what_is_left_out_is_counted() -> None:
    root = ElementTree.fromstring(ring_graph(RING, {}))  # noqa: S314 - drawn here

    texts = [text.text for text in root.iter("text")]
    assert texts == [
        "u1",
        "<u2>",
        "a user with a v…",
        "d&1",
        "device, 2 of 3 users",
        "10.0.0.1",
        "network, 3 of 4 users",
        "and 1,200 more",
    ]
    height = float(str(root.get("viewBox")).split()[3])
    assert all(0 < float(str(text.get("y"))) < height for text in root.iter("text"))
