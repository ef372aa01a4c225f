"""The table of docs/placement.md is what the formulas say today."""

from agrl.placement.document import BEGIN, END, combinations
from tests.cluster.hosts import PROJECT


def test_the_table_of_sizes_and_clusters_is_current():
    page = (PROJECT / "docs" / "placement.md").read_text()
    written = page.split(BEGIN)[1].split(END)[0].strip()
    assert written == combinations(), "python -m agrl.placement.document"
