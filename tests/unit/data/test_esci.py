"""Import of ESCI: the official two-file layout, on the real subset where present and on a small copy of the layout."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agrl.data.esci import import_esci, segment_of
from agrl.data.esci_rows import EXAMPLES_FILE, PRODUCTS_FILE
from agrl.data.files import read_examples, validate_file
from agrl.errors import DataError
from agrl.relevance.rulebook import load_rulebook

REAL = Path(__file__).parents[4] / "shared/data/esci_us"
real = pytest.mark.skipif(not REAL.exists(), reason="the ESCI subset is not beside this checkout")


def write_layout(folder, examples=(), products=None):
    """Two files in the official layout: one query with a product of each label, and changes to it."""
    rows = [
        {
            "example_id": n,
            "query": "red  cup",
            "query_id": 7,
            "product_id": f"P{n}",
            "product_locale": "us",
            "esci_label": label,
            "small_version": n % 2,
            "large_version": 1,
            "split": "train",
        }
        for n, label in enumerate("ESCI")
    ] + list(examples)
    shelf = [
        {
            "product_id": f"P{n}",
            "product_title": f"title {n}",
            "product_description": "",
            "product_bullet_point": "point",
            "product_brand": "acme",
            "product_color": "None" if n else "Red",
            "product_locale": "us",
        }
        for n in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / EXAMPLES_FILE)
    pq.write_table(pa.Table.from_pylist(shelf if products is None else products), folder / PRODUCTS_FILE)
    return rows, shelf


def test_labels_become_tiers_and_the_verdicts_they_imply(tmp_path):
    write_layout(tmp_path)
    counts = import_esci(tmp_path, tmp_path / "out", seed_share=0).splits
    examples = read_examples(tmp_path / "out/train.parquet")
    assert counts["train"]["tiers"] == {"4": 1, "3": 1, "2": 1, "1": 1}
    assert [(e.tier, e.verdicts) for e in examples] == [
        (4, {"category": "same", "attributes": "met"}),
        (3, {}),
        (2, {"category": "complement"}),
        (1, {"category": "unrelated"}),
    ]


def test_products_are_joined_and_placeholders_dropped(tmp_path):
    write_layout(tmp_path)
    import_esci(tmp_path, tmp_path, seed_share=0)
    first, second, *_ = read_examples(tmp_path / "train.parquet")
    assert (first.query, first.product.title, first.product.brand, first.product.text) == (
        "red cup",
        "title 0",
        "acme",
        "point",
    )
    assert first.product.attributes == {"color": "Red"}
    assert second.product.attributes == {}
    assert first.id == "7-us-P0"


@pytest.mark.parametrize(
    ("share", "files"), [(0.0, ["test", "train"]), (0.5, ["seed", "test", "train"]), (1.0, ["seed", "test"])]
)
def test_training_queries_are_shared_between_start_and_pool(tmp_path, share, files):
    base, _ = write_layout(tmp_path)
    more = [{**base[0], "example_id": 10 + n, "query_id": 20 + n} for n in range(3)]
    write_layout(tmp_path, [*more, {**base[0], "example_id": 9, "query_id": 9, "split": "test"}])
    counts = import_esci(tmp_path, tmp_path / "out", seed_share=share).splits
    assert sorted(counts) == files == sorted(path.stem for path in (tmp_path / "out").iterdir())
    assert counts.get("seed", {"queries": 0})["queries"] == round(4 * share) and counts["test"]["rows"] == 1


def test_every_fifth_row_of_the_start_shows_its_label(tmp_path):
    base, _ = write_layout(tmp_path)
    write_layout(tmp_path, [{**base[0], "example_id": 10 + n, "query_id": 20 + n} for n in range(6)])
    import_esci(tmp_path, tmp_path, seed_share=1.0)
    assert [e.hint_level for e in read_examples(tmp_path / "seed.parquet")] == [3, 0, 0, 0, 0, 3, 0, 0, 0, 0]


def test_one_version_of_the_data_set_can_be_asked_for(tmp_path):
    write_layout(tmp_path)
    assert import_esci(tmp_path, tmp_path / "out", version="small", seed_share=0).splits["train"]["rows"] == 2


def test_a_query_in_two_splits_is_refused(tmp_path):
    base, _ = write_layout(tmp_path)
    write_layout(tmp_path, examples=[{**base[0], "example_id": 9, "product_id": "P5", "split": "test"}])
    with pytest.raises(DataError, match="query_id 7 is in the splits"):
        import_esci(tmp_path, tmp_path / "out")


def test_missing_files_columns_and_locales_are_named(tmp_path):
    with pytest.raises(DataError, match=f"{EXAMPLES_FILE} does not exist"):
        import_esci(tmp_path, tmp_path)
    _, shelf = write_layout(tmp_path)
    with pytest.raises(DataError, match="no rows for locale jp"):
        import_esci(tmp_path, tmp_path, locale="jp")
    write_layout(tmp_path, products=[{k: v for k, v in p.items() if k != "product_title"} for p in shelf])
    with pytest.raises(DataError, match="product_title are missing"):
        import_esci(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("query", "segment"),
    [
        ("wine glasses without stem", "negation"),
        ("bite not collar", "negation"),
        ("gluten-free flour", "negation"),
        ("airpods 2", "numeric"),
        ("black bardot long off the shoulder", "long"),
        ("guitar", "plain"),
        ("knot tying kit", "plain"),
    ],
)
def test_segments_follow_from_the_wording(query, segment):
    assert segment_of(query) == segment


@real
def test_nothing_of_the_real_subset_is_left_out(tmp_path):
    found = import_esci(REAL, tmp_path)
    assert found.left_out.lines() == found.leaks == []


@real
def test_the_real_subset_keeps_its_split_by_query(tmp_path):
    counts = import_esci(REAL, tmp_path).splits
    assert {split: found["queries"] for split, found in counts.items()} == {"seed": 45, "train": 45, "test": 30}
    assert counts["seed"]["rows"] + counts["train"]["rows"] == 3921 and counts["test"]["rows"] == 1355
    assert counts["test"]["tiers"] == {"4": 676, "3": 385, "2": 98, "1": 196}
    seed, train, test = ({e.query for e in read_examples(tmp_path / f"{s}.parquet")} for s in ("seed", "train", "test"))
    assert not (seed & train or seed & test or train & test)


@real
def test_the_real_subset_is_valid_under_its_rule_book(tmp_path):
    counts = import_esci(REAL, tmp_path).splits
    book = load_rulebook("esci")
    assert [validate_file(tmp_path / f"{split}.parquet", book) for split in counts] == [[], [], []]
    unsure = [e for e in read_examples(tmp_path / "test.parquet") if e.tier == 3]
    assert unsure and all(e.verdicts == {} for e in unsure)
    assert not any(e.product.attributes.get("color") == "None" for e in read_examples(tmp_path / "test.parquet"))


@real
def test_the_command_prints_counts_for_machines(tmp_path, capsys):
    from agrl.cli import main

    assert main(["data", "import-esci", str(REAL), "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["test"]["rows"], found["left_out"], found["leaks"]) == (1355, [], [])
