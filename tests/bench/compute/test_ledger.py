import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.compute.flops import ModelShape, generation_flops
from bench.compute.ledger import ACCOUNTS, ADAPTATION, Account, Ledger, Work, hardware_flops, model_flops

SHAPE = ModelShape(
    layers=2, hidden_size=8, heads=2, kv_heads=1, head_dim=4, intermediate_size=16, vocab_size=32, tied=True
).profile()
FIELDS = tuple(Work.model_fields)
WORK = st.builds(Work, **{name: st.integers(0, 10**15) for name in FIELDS})
BOOKINGS = st.lists(st.tuples(st.sampled_from(ACCOUNTS), WORK), max_size=20)


@given(WORK, WORK)
def test_work_adds_field_by_field(a: Work, b: Work) -> None:
    assert (a + b).model_dump() == {name: getattr(a, name) + getattr(b, name) for name in FIELDS}


@given(WORK, WORK)
def test_subtraction_undoes_addition(a: Work, b: Work) -> None:
    assert (a + b) - b == a
    assert a + Work() == a == a - Work()


@pytest.mark.parametrize("name", FIELDS)
def test_negative_counts_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Work(**{name: -1})
    with pytest.raises(ValidationError, match=name):
        Work() - Work(**{name: 1})


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="evaluation"):
        Work(evaluation=1)


def test_work_is_immutable() -> None:
    work = Work(evaluations=1)
    with pytest.raises(ValidationError, match="frozen"):
        work.evaluations = 0


@given(WORK, WORK)
def test_flops_are_additive_over_work(a: Work, b: Work) -> None:
    assert model_flops(SHAPE, a + b) == model_flops(SHAPE, a) + model_flops(SHAPE, b)
    assert hardware_flops(SHAPE, a + b) == hardware_flops(SHAPE, a) + hardware_flops(SHAPE, b)


@given(st.integers(1, 300), st.integers(1, 300))
def test_an_answer_costs_the_flops_of_its_prefill_and_its_decoding(prompt: int, new: int) -> None:
    prefill = Work(evaluations=1, prefill_tokens=prompt, head_tokens=1, attended=SHAPE.attended(0, prompt))
    decode = Work(decode_tokens=new - 1, head_tokens=new - 1, attended=SHAPE.attended(prompt, new - 1))
    assert model_flops(SHAPE, prefill + decode) == generation_flops(SHAPE, prompt, new)


@given(WORK)
def test_padding_counts_for_the_hardware_and_not_for_the_model(work: Work) -> None:
    padding = {"padded_tokens": work.padded_tokens + 1, "padded_attended": work.padded_attended + 1}
    padded = work.model_copy(update=padding)
    assert model_flops(SHAPE, padded) == model_flops(SHAPE, work)
    assert hardware_flops(SHAPE, padded) > hardware_flops(SHAPE, work)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_counts_of_evaluations_and_moves_cost_nothing(evaluations: int, moves: int) -> None:
    assert model_flops(SHAPE, Work(evaluations=evaluations, weight_moves=moves, backward_passes=moves)) == 0


@given(BOOKINGS)
def test_accounts_hold_the_sum_of_their_entries(bookings: list[tuple[Account, Work]]) -> None:
    ledger = Ledger()
    for account, work in bookings:
        ledger.book(account, work)
    for account in ACCOUNTS:
        assert ledger[account] == sum((work for name, work in bookings if name == account), Work())


@given(BOOKINGS)
def test_adaptation_is_the_sum_of_the_billed_accounts(bookings: list[tuple[Account, Work]]) -> None:
    ledger = Ledger()
    for account, work in bookings:
        ledger.book(account, work)
    assert ledger.adaptation() == sum((work for name, work in bookings if name in ADAPTATION), Work())


def test_deployment_and_evaluation_are_not_billed() -> None:
    assert set(ADAPTATION) == {"sample", "select", "gate", "train", "tune"}
    assert set(ACCOUNTS) - set(ADAPTATION) == {"inference", "evaluation", "setup", "analysis"}


def test_accounts_are_listed_in_their_canonical_order_without_the_empty_ones() -> None:
    ledger = Ledger({"setup": Work(evaluations=1)})
    ledger.book("gate", Work(evaluations=2))
    ledger.book("sample", Work(evaluations=3))
    assert list(ledger.accounts()) == ["sample", "gate", "setup"]


def test_a_ledger_copies_the_accounts_that_it_is_made_from() -> None:
    accounts: dict[Account, Work] = {"sample": Work(evaluations=1)}
    Ledger(accounts).book("sample", Work(evaluations=1))
    assert accounts == {"sample": Work(evaluations=1)}
