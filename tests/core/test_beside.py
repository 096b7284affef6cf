"""Work beside the caller's own: begun at once, its result and its errors handed over, one ahead and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from core.beside import Beside, ahead


def test_work_goes_on_while_the_caller_does() -> None:
    both = threading.Barrier(2, timeout=10)
    work = Beside(both.wait)
    both.wait()
    assert work.result() in (0, 1)


def test_what_the_work_raised_is_raised_to_whoever_asks_for_its_result() -> None:
    work = Beside(lambda: 1 // 0)
    work.wait()
    with pytest.raises(ZeroDivisionError):
        work.result()


def test_one_is_fetched_ahead_and_no_more() -> None:
    fetched: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            fetched.append(number)
            yield number

    given = ahead(numbers())
    assert fetched == []
    assert next(given) == 0
    assert next(given) == 1
    assert fetched in ([0, 1], [0, 1, 2])
    assert list(given) == [2, 3, 4]


def test_an_error_comes_after_what_was_there_before_it() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    given = ahead(numbers())
    assert next(given) == 1
    with pytest.raises(ValueError, match="no more"):
        next(given)
