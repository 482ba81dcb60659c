import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compute.flops import ModelShape
from bench.compute.ledger import ACCOUNTS, ADAPTATION, Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent, Meter, OverBudget

SHAPE = ModelShape(
    layers=2, hidden_size=8, heads=2, kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32, tied=True
).profile()
TOKEN = Meter(SHAPE).flops(Work(prefill_tokens=1))
BILLED: tuple[AdaptationAccount, ...] = ADAPTATION
UNBILLED = tuple(name for name in ACCOUNTS if name not in ADAPTATION)

WORK = st.builds(Work, prefill_tokens=st.integers(0, 20), decode_tokens=st.integers(0, 5), attended=st.integers(0, 50))
BLOCK = st.tuples(
    st.sampled_from(ACCOUNTS), st.none() | st.integers(0, 20 * TOKEN), st.lists(WORK, min_size=1, max_size=5)
)


def tokens(n: int) -> Work:
    return Work(prefill_tokens=n)


def state(meter: Meter) -> tuple[object, ...]:
    return meter.ledger.accounts(), meter.spent, meter.opened


@given(st.integers(0, 60 * TOKEN), st.lists(BLOCK, max_size=12))
def test_no_sequence_of_reservations_exceeds_a_budget(
    limit: int, blocks: list[tuple[Account, int | None, list[Work]]]
) -> None:
    meter = Meter(SHAPE, limit)
    stopped = False
    for account, allowance, steps in blocks:
        booked = Work()
        with meter.account(account, allowance):
            for work in steps:
                before = state(meter)
                cost = meter.flops(work)
                fits = account not in ADAPTATION or (not stopped and cost <= meter.remaining)
                allowed = allowance is None or cost + meter.flops(booked) <= allowance
                if fits and allowed:
                    meter.reserve(work)
                    booked += work
                else:
                    with pytest.raises(OverBudget if allowed else AllowanceSpent):
                        meter.reserve(work)
                    assert state(meter) == before
                    stopped = stopped or allowed
                assert meter.spent == meter.flops(meter.ledger.adaptation()) <= limit
                assert meter.remaining == limit - meter.spent
                assert meter.opened == booked
                assert meter.tripped == stopped


@given(st.integers(0, 30), st.sampled_from(BILLED))
def test_a_budget_can_be_spent_to_the_last_flop_and_no_further(n: int, account: AdaptationAccount) -> None:
    meter = Meter(SHAPE, n * TOKEN)
    with meter.account(account):
        meter.reserve(tokens(n))
        assert meter.remaining == 0
        with pytest.raises(OverBudget):
            meter.reserve(tokens(1))


@pytest.mark.parametrize("account", BILLED)
def test_a_step_one_flop_beyond_the_budget_is_refused(account: AdaptationAccount) -> None:
    meter = Meter(SHAPE, 3 * TOKEN - 1)
    with meter.account(account), pytest.raises(OverBudget, match="are left"):
        meter.reserve(tokens(3))
    assert meter.spent == 0
    assert meter.ledger.accounts() == {}


def test_once_tripped_even_free_work_is_refused_in_every_billed_account() -> None:
    meter = Meter(SHAPE, TOKEN)
    with meter.account("sample"), pytest.raises(OverBudget):
        meter.reserve(tokens(2))
    for account in BILLED:
        for work in (tokens(1), Work(weight_moves=1), Work()):
            with meter.account(account), pytest.raises(OverBudget):
                meter.reserve(work)
    assert meter.tripped
    assert meter.ledger.accounts() == {}


@pytest.mark.parametrize("account", UNBILLED)
def test_unbilled_accounts_are_recorded_and_do_not_spend(account: Account) -> None:
    meter = Meter(SHAPE, TOKEN)
    with meter.account(account):
        meter.reserve(tokens(1000))
    assert meter.ledger[account] == tokens(1000)
    assert (meter.spent, meter.remaining, meter.tripped) == (0, TOKEN, False)


def test_unbilled_accounts_continue_after_the_budget_is_exceeded() -> None:
    meter = Meter(SHAPE, 0)
    with meter.account("sample"), pytest.raises(OverBudget):
        meter.reserve(tokens(1))
    with meter.account("evaluation"):
        meter.reserve(tokens(5))
    assert meter.ledger["evaluation"] == tokens(5)


def test_an_allowance_is_checked_before_the_budget() -> None:
    meter = Meter(SHAPE, TOKEN)
    with meter.account("select", allowance=TOKEN), pytest.raises(AllowanceSpent):
        meter.reserve(tokens(2))
    assert not meter.tripped


def test_a_spent_allowance_does_not_trip_the_budget() -> None:
    meter = Meter(SHAPE, 10 * TOKEN)
    with meter.account("select", allowance=3 * TOKEN):
        meter.reserve(tokens(2))
        with pytest.raises(AllowanceSpent):
            meter.reserve(tokens(2))
        meter.reserve(tokens(1))
    assert (meter.tripped, meter.spent) == (False, 3 * TOKEN)


def test_available_is_the_smaller_of_allowance_and_remaining_budget() -> None:
    meter = Meter(SHAPE, 5 * TOKEN)
    with meter.account("select", allowance=9 * TOKEN):
        meter.reserve(tokens(1))
        assert meter.available == 4 * TOKEN
        assert (meter.covers(tokens(4)), meter.covers(tokens(5))) == (True, False)
    with meter.account("gate", allowance=3 * TOKEN):
        meter.reserve(tokens(1))
        assert meter.available == 2 * TOKEN
        with pytest.raises(AllowanceSpent) as spent:
            meter.reserve(tokens(3))
        assert spent.value.refused == tokens(3)
    with meter.account("evaluation"):
        assert meter.available is None
        assert meter.covers(tokens(1000))


def test_an_allowance_ends_with_its_block() -> None:
    meter = Meter(SHAPE, 10 * TOKEN)
    with meter.account("select", allowance=0):
        pass
    with meter.account("select"):
        meter.reserve(tokens(10))
    assert meter.remaining == 0


def test_an_allowance_holds_in_unbilled_accounts_too() -> None:
    meter = Meter(SHAPE)
    with meter.account("inference", allowance=TOKEN), pytest.raises(AllowanceSpent):
        meter.reserve(tokens(2))


def test_accounts_do_not_nest() -> None:
    meter = Meter(SHAPE)
    with meter.account("sample"):
        with pytest.raises(RuntimeError, match="do not nest"), meter.account("setup"):
            pass
        meter.reserve(tokens(1))
    assert meter.ledger.accounts() == {"sample": tokens(1)}


def test_work_outside_an_account_is_refused() -> None:
    meter = Meter(SHAPE)
    with pytest.raises(RuntimeError, match="outside any account"):
        meter.reserve(tokens(1))
    with meter.account("sample"):
        pass
    with pytest.raises(RuntimeError, match="outside any account"):
        meter.reserve(tokens(1))
    assert meter.ledger.accounts() == {}


def test_an_error_inside_a_block_closes_its_account() -> None:
    meter = Meter(SHAPE, 2 * TOKEN)
    with pytest.raises(OverBudget), meter.account("sample"):
        meter.reserve(tokens(3))
    with meter.account("setup"):
        meter.reserve(tokens(1))
    assert meter.ledger.accounts() == {"setup": tokens(1)}


def test_work_of_a_block_is_available_until_the_next_one_opens() -> None:
    meter = Meter(SHAPE)
    with meter.account("sample"):
        meter.reserve(tokens(2))
        meter.reserve(Work(weight_moves=1))
    assert meter.opened == Work(prefill_tokens=2, weight_moves=1)
    with meter.account("sample"):
        assert meter.opened == Work()


@given(st.lists(st.tuples(st.sampled_from(ACCOUNTS), WORK), max_size=20))
def test_replaying_gives_the_same_ledger_as_reserving(bookings: list[tuple[Account, Work]]) -> None:
    done, replayed = Meter(SHAPE, 10**12), Meter(SHAPE, 10**12)
    for account, work in bookings:
        with done.account(account):
            done.reserve(work)
        replayed.replay(account, work)
    assert replayed.ledger.accounts() == done.ledger.accounts()
    assert (replayed.spent, replayed.remaining) == (done.spent, done.remaining)


def test_replayed_work_counts_towards_the_budget() -> None:
    meter = Meter(SHAPE, 3 * TOKEN)
    meter.replay("train", tokens(3))
    with meter.account("sample"), pytest.raises(OverBudget):
        meter.reserve(tokens(1))


def test_a_budget_that_is_set_later_includes_earlier_work() -> None:
    meter = Meter(SHAPE)
    with meter.account("sample"):
        meter.reserve(tokens(2))
    with pytest.raises(RuntimeError, match="no budget yet"):
        _ = meter.remaining
    meter.limit = 3 * TOKEN
    assert meter.remaining == TOKEN


def test_listeners_are_called_for_recorded_work_only() -> None:
    meter = Meter(SHAPE, 2 * TOKEN)
    heard: list[int] = []
    meter.listeners.append(lambda: heard.append(meter.spent))
    with meter.account("sample"):
        meter.reserve(tokens(1))
        meter.reserve(tokens(1))
        with pytest.raises(OverBudget):
            meter.reserve(tokens(1))
    meter.replay("setup", tokens(1))
    assert heard == [TOKEN, 2 * TOKEN, 2 * TOKEN]


def test_a_part_of_the_budget_ends_without_the_run() -> None:
    meter = Meter(SHAPE, 10 * TOKEN)
    with meter.account("sample"):
        meter.reserve(tokens(2))
    with meter.part(3 * TOKEN, "tune"):
        assert meter.remaining == 3 * TOKEN
        with meter.account("train"):
            meter.reserve(tokens(3))
        with meter.account("select"), pytest.raises(OverBudget):
            meter.reserve(tokens(1))
        meter.replay("setup", tokens(1))
        assert meter.tripped
    assert not meter.tripped
    assert meter.remaining == 5 * TOKEN
    assert meter.ledger.accounts() == {"sample": tokens(2), "tune": tokens(3), "setup": tokens(1)}
    with meter.account("train"):
        meter.reserve(tokens(5))
    assert meter.ledger["train"] == tokens(5)


def test_a_part_is_no_larger_than_what_is_left_of_the_budget() -> None:
    meter = Meter(SHAPE, 4 * TOKEN)
    with meter.part(9 * TOKEN, "tune"):
        assert meter.remaining == 4 * TOKEN
        with meter.account("sample"), pytest.raises(OverBudget):
            meter.reserve(tokens(5))
