"""Calls under way, and how many of them have not been read."""

from actors.calls import Calls


class Answer:
    """A call whose answer comes when it is told so."""

    def on_done(self, tell) -> None:
        self.come = tell


def test_calls_are_counted_until_they_are_read_or_forgotten():
    calls, answers = Calls(), [Answer() for _ in range(4)]
    for key, answer in zip("aabb", answers, strict=True):
        calls.add(key, answer)
    assert calls.left == 4
    answers[1].come()
    assert calls.next(0) == ("a", answers[1]) and (calls.left, calls.count("a")) == (3, 1)
    calls.forget("b")
    answers[2].come()  # nobody wants it any more
    assert calls.next(0) is None and calls.left == 1
    answers[0].come()
    assert calls.next(0) == ("a", answers[0]) and calls.left == 0
    calls.forget("a")
    assert calls.left == 0
