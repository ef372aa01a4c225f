"""The table of docs/placement.md is what the formulas say today."""

from agrl.marked import read_part
from agrl.placement.document import PART, combinations
from tests.cluster.hosts import PROJECT


def test_the_table_of_sizes_and_clusters_is_current():
    written = read_part(PROJECT / "docs" / "placement.md", PART)
    assert written == combinations(), "python -m agrl.placement.document"
