"""Sharing: nobody gets more than it wants, nothing is left over, and weights hold."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scheduler.fairness import Demand, shares

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def test_one_tenant_gets_all_it_wants() -> None:
    assert shares({A: Demand(1, 0, 70)}, capacity=1000, window=1000, startable=100) == {A: 70}


def test_what_one_leaves_goes_to_the_others() -> None:
    assert shares({A: Demand(1, 0, 1000), B: Demand(1, 0, 10)}, capacity=1000, window=1000, startable=100) == {
        A: 90,
        B: 10,
    }


def test_weights() -> None:
    assert shares({A: Demand(3, 0, 1000), B: Demand(1, 0, 1000)}, capacity=1000, window=1000, startable=100) == {
        A: 75,
        B: 25,
    }


def test_a_tenant_that_holds_its_share_waits_for_one_that_holds_nothing() -> None:
    # given: A holds everything with slow calls, twenty of which have just ended
    found = shares({A: Demand(1, 980, 5000), B: Demand(1, 0, 500)}, capacity=1000, window=1000, startable=20)
    # then: B gets all of them
    assert found == {A: 0, B: 20}


def test_a_tenant_that_comes_to_a_full_window_gets_its_part_of_it() -> None:
    # given: A has filled the window
    found = shares({A: Demand(1, 400, 5000, 300), B: Demand(1, 0, 50)}, capacity=10_000, window=300, startable=9600)
    # then: B need not wait until workers have started A's rows, and A gets nothing more meanwhile
    assert found == {A: 0, B: 50}


def test_a_full_window_is_full_for_those_who_filled_it() -> None:
    found = shares(
        {A: Demand(1, 400, 5000, 150), B: Demand(1, 150, 900, 150)}, capacity=10_000, window=300, startable=9000
    )
    assert found == {A: 0, B: 0}


def test_odd_rows_are_given_away_too() -> None:
    found = shares({A: Demand(1, 0, 9), B: Demand(1, 0, 9), C: Demand(1, 0, 9)}, capacity=100, window=100, startable=10)
    assert sum(found.values()) == 10
    assert max(found.values()) - min(found.values()) <= 1


demands = st.dictionaries(
    st.sampled_from([UUID(int=n) for n in range(8)]),
    st.builds(Demand, st.integers(1, 10), st.integers(0, 500), st.integers(0, 500)),
    min_size=1,
)


@given(demands, st.integers(0, 2000), st.integers(0, 1000))
def test_properties(wanted: dict[UUID, Demand], capacity: int, startable: int) -> None:
    found = shares(wanted, capacity=capacity, window=10_000, startable=startable)
    assert sum(found.values()) <= startable
    for tenant, demand in wanted.items():
        assert 0 <= found[tenant] <= demand.wanted
    # nothing is held back without a reason: either all is given out, or everybody is at its wish or its share
    free = capacity - sum(demand.in_flight for demand in wanted.values())
    if free >= sum(demand.wanted for demand in wanted.values()):
        assert sum(found.values()) == min(startable, sum(demand.wanted for demand in wanted.values()))
