"""Query texts that training and evaluation have in common are found, however they are written."""

from agrl.data.leaks import normalised, shared_queries
from agrl.relevance.records import Example, Product


def asked(*pairs):
    return [Example(str(number), query, Product(title), 4) for number, (query, title) in enumerate(pairs)]


def test_queries_in_common_are_counted_and_named_as_they_are_written():
    train = asked(("red cup", "cup"), ("tent", "tent"))
    test = asked(("Red  Cup", "CUP "), ("red cup", "mug"), ("sofa", "sofa"))
    (leak,) = shared_queries({"train": train}, {"test": test})
    assert (leak.queries, leak.rows, leak.pairs, leak.of) == (("Red  Cup",), 2, 1, 3)
    assert str(leak) == (
        "possible leak: test and train have 1 query text in common ('Red  Cup'): 2 of 3 rows of test, "
        "1 of them with the same title as well"
    )


def test_only_sets_with_something_in_common_are_reported():
    trained = {"seed": asked(("tent", "a")), "train": asked(("sofa", "b"))}
    held_out = {"balanced": asked(("tent", "c")), "wild": asked(("cup", "d"))}
    assert [(leak.trained, leak.held_out) for leak in shared_queries(trained, held_out)] == [("seed", "balanced")]
    assert shared_queries({}, held_out) == shared_queries(trained, {}) == []


def test_a_line_names_a_few_of_many_queries():
    many = asked(*((f"query {n}", "t") for n in range(1200)))
    (leak,) = shared_queries({"a": many}, {"b": many})
    assert "have 1,200 query texts in common ('query 0', 'query 1', 'query 2', ...): 1,200 of 1,200 rows" in str(leak)


def test_case_width_and_white_space_make_no_other_query():
    assert normalised(" STRASSE\t5\u00a0m ") == normalised("straße 5 m") == normalised("ｓｔｒａｓｓｅ ５ ｍ")
    assert normalised("cup") != normalised("cups")
