"""Pools: what is read is what was written, whatever the file is like; an index is never older than its file."""

import json
import pickle
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrl.data import index as index_module
from agrl.data.columns import STORED, as_stored, examples_of, from_examples, id_hashes
from agrl.data.files import read_examples, write_examples
from agrl.data.leaks import leaks_of_pool, normalised, shared_queries
from agrl.data.pool import Pool, check_same, open_pool
from agrl.data.schema import row_problems, to_row
from agrl.errors import DataError
from agrl.relevance.records import Example, Judgement, Product

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
said = text.filter(str.strip)
maps = st.dictionaries(text, text, max_size=3)
examples = st.builds(
    Example,
    id=said,
    query=said,
    product=st.builds(Product, said, text, text, maps, text),
    tier=st.integers(1, 4),
    verdicts=maps,
    reference=st.none() | st.builds(Judgement, st.integers(1, 4), maps, maps),
    segment=said,
    hint_level=st.integers(0, 3),
)


def make(i, **changes):
    return replace(Example(f"e{i}", f"query {i % 3}", Product(f"title {i}"), 1 + i % 4), **changes)


@given(st.lists(examples, min_size=1, max_size=6))
def test_examples_survive_columns_and_slices(found):
    batch = from_examples(found)
    assert examples_of(batch) == found and examples_of(batch.slice(1)) == found[1:]
    assert as_stored(batch) is not None or any(list(row_problems(to_row(example))) for example in found)


odd = st.sampled_from([None, "", " ", "\x1c", "\u2003", "x"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "id": odd,
                "query": odd,
                "product": st.none() | st.fixed_dictionaries({"title": odd, "brand": odd}),
                "tier": st.none() | st.integers(0, 5),
                "verdicts": st.none()
                | st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.just("x")), max_size=3),
                "hint_level": st.none() | st.integers(-1, 2),
                "reference": st.none() | st.fixed_dictionaries({"tier": st.none() | st.integers(0, 4)}),
            }
        ),
        min_size=1,
        max_size=3,
    )
)
def test_what_is_in_order_as_a_whole_is_so_row_by_row(rows):
    batch = pa.RecordBatch.from_pylist(rows, schema=STORED)
    wrong = [problem for row in batch.to_pylist() for problem in row_problems(row)]
    assert (as_stored(batch) is not None) == (not wrong)


def test_other_types_of_the_same_are_read_as_a_whole():
    table = pa.Table.from_pylist([to_row(make(i)) for i in range(3)]).drop_columns(["verdicts", "reference"])
    product = pa.StructArray.from_arrays([pa.array(["a", "b", "c"], pa.large_string())], ["title"])
    table = table.set_column(table.schema.get_field_index("product"), "product", product)
    found = as_stored(table.combine_chunks().to_batches()[0])
    assert [e.product.title for e in examples_of(found)] == ["a", "b", "c"]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_pool_is_its_file_at_any_number(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(index_module, "MOST_ROWS", 7)
    monkeypatch.setattr(index_module, "JSON_ROWS", 7)
    rows = [make(i, product=Product(f"t{i}", attributes={"color": "red", f"a{i % 2}": "x"})) for i in range(40)]
    file = write_examples(tmp_path / f"train.{suffix}", rows)
    pool = open_pool(file)
    assert len(pool) == 40 and list(pool) == rows == read_examples(file)
    assert pool.take([39, 0, 7, 7, 13]) == [rows[i] for i in (39, 0, 7, 7, 13)] and pool[6] == rows[6]
    assert list(pickle.loads(pickle.dumps(pool))) == rows
    assert [path.name for path in tmp_path.iterdir() if path != file] == [f".train.{suffix}.index.arrow"]


def test_structs_of_pandas_take_the_slow_way_to_the_same_rows(tmp_path):
    product, verdicts = {"title": "t", "attributes": {"color": "red"}}, {"category": "same", "brand": None}
    rows = [to_row(make(i)) | {"product": product, "verdicts": verdicts} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert list(open_pool(tmp_path / "train.parquet")) == read_examples(tmp_path / "train.parquet")
    assert open_pool(tmp_path / "train.parquet")[4].verdicts == {"category": "same"}


def test_a_changed_file_gets_a_new_index_and_an_unchanged_one_is_not_read_again(tmp_path, monkeypatch):
    file = write_examples(tmp_path / "train.parquet", [make(i) for i in range(4)])
    before = open_pool(file).digests
    with monkeypatch.context() as patched:
        patched.setattr(index_module, "_write", None)  # not called
        assert open_pool(file).digests == before
    write_examples(file, [make(i, tier=4) for i in range(4)])
    changed = open_pool(file)
    assert changed[0].tier == 4 and changed.digests != before
    with pytest.raises(DataError, match=rf"not the one .*: {file} has changed"):
        check_same(before, changed.digests)
    index = tmp_path / ".train.parquet.index.arrow"
    damaged = index.read_bytes()[:-40]
    index.unlink()  # the old one is still mapped
    index.write_bytes(damaged)  # a damaged index is no index
    assert list(open_pool(file)) == list(changed)


def test_a_pool_that_changes_on_its_way_to_another_process_is_refused(tmp_path):
    file = write_examples(tmp_path / "train.parquet", [make(i) for i in range(4)])
    sent = pickle.dumps(open_pool(file))
    write_examples(file, [make(i, tier=4) for i in range(4)])
    with pytest.raises(DataError, match="has changed"):
        pickle.loads(sent)


def test_several_files_a_folder_and_a_pattern_are_one_pool(tmp_path):
    (tmp_path / "empty").mkdir()
    parts = [[make(i) for i in range(3)], [make(i) for i in range(3, 5)]]
    write_examples(tmp_path / "part-0.parquet", parts[0])
    write_examples(tmp_path / "part-1.jsonl", parts[1])
    for where in (tmp_path, tmp_path / "part-*"):
        pool = open_pool(where)
        assert list(pool) == [*parts[0], *parts[1]] and len(pool.digests) == 2
    with pytest.raises(DataError, match=r"part-2.parquet is new"):
        write_examples(tmp_path / "part-2.parquet", [make(9)])
        check_same(pool.digests, open_pool(tmp_path).digests)
    write_examples(tmp_path / "part-2.parquet", [make(1)])
    with pytest.raises(DataError, match=r"part-2.parquet: id 'e1' is in .*part-0.parquet already"):
        open_pool(tmp_path)
    with pytest.raises(DataError, match="holds no examples files"):
        open_pool(tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere.parquet does not exist"):
        open_pool(tmp_path / "nowhere.parquet")


def test_what_is_wrong_names_file_row_and_field(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "MOST_ROWS", 2)
    rows = [to_row(make(i)) for i in range(5)]
    cases = {
        "row 4, field tier: expected a tier of 4, 3, 2, 1, found 9": (3, "tier", 9),
        "row 5, field query: is empty": (4, "query", " "),
        "row 5, field id: 'e1' is there already .row 2.": (4, "id", "e1"),
    }
    for problem, (row, field, value) in cases.items():
        wrong = [r | {field: value} if i == row else r for i, r in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(wrong, schema=STORED), tmp_path / "train.parquet")
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in wrong))
        for file in (tmp_path / "train.parquet", tmp_path / "train.jsonl"):
            with pytest.raises(DataError, match=rf"{file}: {problem}"):
                open_pool(file)
    assert not list(tmp_path.glob(".*")), "nothing is left of an index that was not made"


def test_a_file_that_is_cut_off_or_has_a_wrong_middle_is_named(tmp_path):
    file = write_examples(tmp_path / "train.parquet", [make(i) for i in range(500)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"train\.parquet is not a readable Parquet file") as error:
        open_pool(file)
    assert "cut off" in error.value.hint
    file.write_bytes(whole[:200] + b"\xff" * 2000 + whole[2200:])
    with pytest.raises(DataError, match=r"train\.parquet is damaged after row 0"):
        open_pool(file)


def test_where_nothing_can_be_written_the_index_goes_to_the_cache(tmp_path, monkeypatch, capsys):
    file = write_examples(tmp_path / "train.parquet", [make(0)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / ".train.parquet.index.arrow").mkdir()  # in the way, for root as well
    opened = pa.OSFile

    def refusing(path, mode):
        if ".train.parquet" in path:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, mode)

    monkeypatch.setattr(index_module.pa, "OSFile", refusing)
    assert open_pool(file)[0] == make(0)
    (index,) = (tmp_path / "cache" / "agrl").iterdir()
    assert f"its index is {index}" in capsys.readouterr().err


@given(st.lists(said, min_size=1, max_size=8))
def test_equal_ids_have_equal_hashes_wherever_they_stand(ids):
    hashes = id_hashes(pa.array(ids)).tolist()
    assert [id_hashes(pa.array([name]))[0] for name in ids] == hashes
    assert id_hashes(pa.array(["before", *ids]).slice(1)).tolist() == hashes
    assert len(set(hashes)) == len(set(ids))


queries = st.text(st.sampled_from("aAß \t1\u3000é"), min_size=1, max_size=4).filter(str.strip)


@given(st.lists(queries, min_size=1, max_size=6), st.lists(queries, min_size=1, max_size=4))
def test_leaks_of_a_pool_are_those_of_its_examples(trained, held_out):
    pool = [make(i, query=query) for i, query in enumerate(trained)]
    sets = {"held": [make(i, query=query) for i, query in enumerate(held_out)]}
    found = leaks_of_pool("data.train", Pool.of(pool), sets)
    assert found == shared_queries({"data.train": pool}, sets)
    assert bool(found) == bool({normalised(q) for q in trained} & {normalised(q) for q in held_out})


def test_pools_in_memory_are_checked_too():
    assert pickle.loads(pickle.dumps(Pool.of([make(0), make(1)])))[1] == make(1)
    with pytest.raises(DataError, match="id 'e0' is in examples already"):
        Pool.of([make(0), make(0)])
    with pytest.raises(DataError, match="empty"):
        Pool.of([])
