"""Idempotency keys: one key, one effect, whatever happens to the requests that carry it."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from core import db, idempotency
from core.errors import InvalidInput
from core.idempotency import Claim, FirstAnswer, KeyInUse, KeyReused
from core.identity import Principal
from core.ids import new_id

ONE, OTHER = b"1" * 32, b"2" * 32


def _principal() -> Principal:
    """A principal whose tenant and project are in the database."""
    found = Principal(new_id(), new_id(), new_id())
    with db.connection() as connection:
        connection.execute("INSERT INTO tenant (id, name) VALUES (%s, 't')", (found.tenant_id,))
        connection.execute(
            "INSERT INTO project (id, tenant_id, name) VALUES (%s, %s, 'p')", (found.project_id, found.tenant_id)
        )
    return found


@pytest.fixture
def principal(database_url: str) -> Principal:
    return _principal()


def _claimed(principal: Principal, key: str = "k") -> Claim:
    found = idempotency.claim(principal, key)
    assert isinstance(found, Claim)
    return found


def _rewind(column: str, interval: str) -> None:
    with db.connection() as connection:
        connection.execute(f"UPDATE idempotency_key SET {column} = {column} - interval '{interval}'")


def test_the_second_request_finds_the_first_answer(principal: Principal) -> None:
    # given a request that was answered
    _claimed(principal).finish(201, '{"id": 1}', ONE)
    # when the same key comes again
    found = idempotency.claim(principal, "k")
    # then the first answer is there, for the same request only
    assert found == FirstAnswer(201, '{"id": 1}', ONE)
    found.check(ONE)
    with pytest.raises(KeyReused):
        found.check(OTHER)


def test_a_key_in_flight_is_refused(principal: Principal) -> None:
    _claimed(principal)
    with pytest.raises(KeyInUse):
        idempotency.claim(principal, "k")


def test_of_many_at_once_one_gets_the_key(principal: Principal) -> None:
    # given twelve requests with one key at the same time
    got: list[Claim] = []
    refused: list[KeyInUse] = []
    start = threading.Barrier(12)

    def send() -> None:
        start.wait()
        try:
            found = idempotency.claim(principal, "k")
        except KeyInUse as error:
            refused.append(error)
        else:
            assert isinstance(found, Claim)
            got.append(found)

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # then one holds it
    assert (len(got), len(refused)) == (1, 11)


def test_a_released_key_is_free_again(principal: Principal) -> None:
    _claimed(principal).release()
    assert isinstance(idempotency.claim(principal, "k"), Claim)


def test_an_answer_is_not_released(principal: Principal) -> None:
    # given an answer whose commit's reply was lost, so that its request believes it failed
    held = _claimed(principal)
    held.finish(201, "{}", ONE)
    # when it releases the key
    held.release()
    # then the answer stays
    assert isinstance(idempotency.claim(principal, "k"), FirstAnswer)


def test_work_and_answer_commit_together_or_not_at_all(principal: Principal) -> None:
    # given a transaction that fails after the answer was written in it
    held = _claimed(principal)

    def work() -> None:
        with db.connection() as connection:
            held.finish(201, "{}", ONE, connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    # then the key has no answer
    with pytest.raises(KeyInUse):
        idempotency.claim(principal, "k")


def test_whoever_lost_its_key_must_not_commit(principal: Principal) -> None:
    # given a request so slow that its lock ran out and another took the key
    slow = _claimed(principal)
    _rewind("locked_until", "1 hour")
    _claimed(principal)
    # then the slow one cannot finish, and its transaction goes back
    with pytest.raises(KeyInUse), db.connection() as connection:
        slow.finish(201, "{}", ONE, connection)


def test_whoever_lost_its_key_hears_of_it_in_a_pipeline(principal: Principal) -> None:
    # given two keys, of which one was taken over
    lost, held = _claimed(principal, "lost"), _claimed(principal, "held")
    with db.connection() as connection:
        connection.execute("UPDATE idempotency_key SET locked_until = now() - interval '1 hour' WHERE key = 'lost'")
    _claimed(principal, "lost")
    # when both answers are kept in statements that leave together
    with db.one_trip() as connection:
        with pytest.raises(KeyInUse):
            lost.finish(201, "{}", ONE, connection)
        held.finish(201, "{}", ONE, connection)
    # then one is, and the other knows that it is not
    assert isinstance(idempotency.claim(principal, "held"), FirstAnswer)
    assert (held.finished, lost.finished) == (True, False)


def test_a_sign_of_life_keeps_the_key(principal: Principal) -> None:
    held = _claimed(principal)
    _rewind("locked_until", "1 hour")
    held.extend()
    with pytest.raises(KeyInUse):
        idempotency.claim(principal, "k")


def test_after_a_day_the_key_is_new(principal: Principal) -> None:
    _claimed(principal).finish(201, "{}", ONE)
    _rewind("created_at", "25 hours")
    assert isinstance(idempotency.claim(principal, "k"), Claim)


def test_old_answers_are_forgotten(principal: Principal) -> None:
    _claimed(principal, "old").finish(201, "{}", ONE)
    _rewind("created_at", "25 hours")
    _claimed(principal, "new").finish(201, "{}", ONE)
    with db.connection() as connection:
        assert idempotency.forget_old(connection) == 1


def test_keys_of_projects_are_apart(principal: Principal) -> None:
    _claimed(principal).finish(201, "{}", ONE)
    assert isinstance(idempotency.claim(_principal(), "k"), Claim)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "é", "\0"])
def test_an_odd_key_is_refused(database_url: str, key: str) -> None:
    nobody = Principal(UUID(int=1), UUID(int=2), UUID(int=3))
    with pytest.raises(InvalidInput):
        idempotency.claim(nobody, key)
