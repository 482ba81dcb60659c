"""The engine of a server with the OpenAI interface, against a server on this machine that fails on request."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from openai_server import OpenAIServer

from bench.compute.flops import compute_profile, generation_flops
from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter, OverBudget
from bench.engines import openai_client
from bench.engines.decoding import answer_seeds
from bench.engines.interface import Sampling
from bench.errors import BenchError, Refused, UsageError
from bench.weights.points import Point

pytest.importorskip("openai")

from bench.engines.endpoint import EndpointEngine

PROFILE = compute_profile(
    {
        "model_type": "llama",
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 16,
    }
)
GREEDY = Sampling(max_new_tokens=6)
SUMS = [f"{a}+{b}=" for a in range(5, 13) for b in (3, 60)]


@pytest.fixture
def server():
    with OpenAIServer() as made:
        yield made


@pytest.fixture
def connect(server):
    made = []

    def connected(**options):
        options = {"url": server.url, "model": "adder", "profile": PROFILE, "digest": "0" * 64} | options
        made.append(EndpointEngine(**options))
        server.asked.clear()
        return made[-1]

    yield connected
    for engine in made:
        engine.close()


def chats(engine, questions):
    return [engine.encode([{"role": "user", "content": question}]) for question in questions]


def ask(engine, questions=SUMS, sampling=GREEDY, meter=None, rules=()):
    meter = meter or Meter(PROFILE)
    with meter.account("sample"):
        return engine.generate(chats(engine, questions), sampling, meter, rules), meter


def test_answers_come_in_the_order_of_the_prompts_and_cost_what_they_cost_on_any_engine(server, connect):
    server.delay = lambda number: 0.02 * (number % 3)
    answers, meter = ask(connect())
    assert [answer.text for answer in answers] == [str(a + b) for a in range(5, 13) for b in (3, 60)]
    assert {(answer.finish, answer.token_ids) for answer in answers} == {("end", ())}
    lengths = [(len(question) + 2, len(answer.text) + 1) for question, answer in zip(SUMS, answers, strict=True)]
    assert [(answer.prompt_tokens, answer.new_tokens) for answer in answers] == lengths
    assert meter.spent == sum(generation_flops(PROFILE, *each) for each in lengths)
    assert meter.opened.evaluations == len(SUMS)


def test_a_greedy_request_holds_the_conversation_and_no_seed(server, connect):
    ask(connect(), ["1+2="])
    messages = [{"role": "user", "content": "1+2="}]
    expected = {"messages": messages, "model": "adder", "max_tokens": 6, "temperature": 0.0, "top_p": 1.0}
    assert server.asked == [expected]


def test_a_text_to_complete_is_sent_as_it_is(server, connect):
    engine, meter = connect(style="completion"), Meter(PROFILE)
    with meter.account("sample"):
        (answer,) = engine.generate([engine.encode("Q: 1+2=\nA: ü")], GREEDY, meter)
    assert (server.asked[0]["prompt"], answer.text) == ("Q: 1+2=\nA: ü", "3")
    assert engine.style == "completion"


def test_each_sample_has_a_seed_of_its_own_and_the_same_in_the_next_call(server, connect):
    engine, sampling = connect(), Sampling(max_new_tokens=6, temperature=0.7, top_p=0.9, seed=5)
    questions = ["1+2=", "1+2=", "3+4="]
    ask(engine, questions, sampling)
    first = sorted(body["seed"] for body in server.asked)
    assert first == sorted(answer_seeds(chats(engine, questions), sampling))
    assert len(set(first)) == 3
    assert {(body["temperature"], body["top_p"]) for body in server.asked} == {(0.7, 0.9)}
    server.asked.clear()
    ask(engine, questions, sampling)
    assert sorted(body["seed"] for body in server.asked) == first


def test_answers_end_at_the_limit_and_at_a_stop_string(server, connect):
    engine = connect()
    (cut,), _ = ask(engine, ["99+1="], Sampling(max_new_tokens=2))
    assert (cut.text, cut.finish, cut.new_tokens) == ("10", "length", 2)
    (stopped,), _ = ask(engine, ["99+26="], Sampling(max_new_tokens=6, stop=("2",)))
    assert (stopped.text, server.asked[-1]["stop"]) == ("1", ["2"])
    server.change = lambda reply: reply["choices"][0].update(message={"content": "125"}, stop_reason="2")
    (ignored,), _ = ask(engine, ["99+26="], Sampling(max_new_tokens=6, stop=("2",)))  # the server cut nothing
    assert (ignored.text, ignored.finish) == ("1", "stop")


@dataclass(frozen=True)
class Bracket:
    """Rule that ends an answer at its first closing bracket, or at a later one if `first` is false."""

    first: bool = True

    def may_end(self, tail):
        return tail.endswith(")")

    def is_complete(self, answer):
        return self.first or answer.count(")") > 1


def test_a_rule_of_the_task_cuts_the_text_and_the_whole_answer_is_billed(server, connect):
    server.answer = lambda question: "f(x) + g(y) + h"
    rules = [Bracket(), Bracket(first=False), None]
    answers, meter = ask(connect(), ["1+2="] * 3, Sampling(max_new_tokens=40), rules=rules)
    assert [answer.text for answer in answers] == ["f(x)", "f(x) + g(y)", "f(x) + g(y) + h"]
    assert [answer.finish for answer in answers] == ["stop", "stop", "end"]
    assert meter.spent == 3 * generation_flops(PROFILE, 6, 16)


def test_as_many_requests_are_on_their_way_as_the_batch_has(server, connect):
    engine = connect(batch_size=3)
    server.delay = lambda number: 0.05
    ask(engine)
    assert server.most == 3
    assert engine.settings["batch_size"] == 3


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_budget_stops_at_one_place_whatever_arrives_first(server, connect, batch):
    engine = connect(batch_size=batch)
    server.delay = lambda number: 0.01 * ((7 * number) % 3)
    lengths = [(len(question) + 2, len(str(sum(map(int, question[:-1].split("+"))))) + 1) for question in SUMS]
    costs = [generation_flops(PROFILE, *each) for each in lengths]
    worst = [generation_flops(PROFILE, len(q) + 6, 6) for q in SUMS]  # twice the three tokens of the probe
    limit = sum(costs[:9]) + worst[9] - 1
    meter = Meter(PROFILE, limit)
    with pytest.raises(OverBudget):
        ask(engine, meter=meter)
    assert len(server.asked) == 9
    assert meter.spent == sum(costs[:9]) <= limit
    with pytest.raises(OverBudget):
        ask(engine, SUMS[:1], Sampling(max_new_tokens=1), meter=meter)
    assert len(server.asked) == 9
    whole = Meter(PROFILE, max(sum(costs[:n]) + worst[n] for n in range(len(SUMS))))
    assert len(ask(engine, meter=whole)[0]) == len(SUMS)


def test_an_allowance_keeps_what_was_answered_on_the_bill(server, connect):
    engine, meter = connect(batch_size=2), Meter(PROFILE, 10**12)
    prompts, allowance = chats(engine, SUMS), 3 * generation_flops(PROFILE, 11, 6)
    with meter.account("sample", allowance), pytest.raises(AllowanceSpent):
        engine.generate(prompts, GREEDY, meter)
    assert meter.opened.evaluations == len(server.asked) > 2
    assert 0 < meter.spent <= allowance


@pytest.mark.parametrize("faults", [[429], [500, 503], ["truncated"], [408]])
def test_what_may_pass_is_tried_again_and_billed_once(server, connect, faults):
    engine = connect()
    server.faults = list(faults)
    (answer,), meter = ask(engine, ["1+2="])
    assert (answer.text, len(server.asked)) == ("3", len(faults) + 1)
    assert meter.opened.evaluations == 1


def edit(**fields):
    return lambda reply: reply.update(fields)


def choice(**fields):
    return lambda reply: reply["choices"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (edit(usage=None), BenchError, "without these two numbers nothing can be billed"),
        (edit(usage={"prompt_tokens": 6}), BenchError, r"reports \[6, null\]"),
        (edit(model="other"), BenchError, 'answered as "other", and as "adder" before'),
        (edit(choices=[]), BenchError, "without choices"),
        (choice(finish_reason="content_filter"), BenchError, 'finish_reason "content_filter"; expected stop or length'),
        (edit(usage={"prompt_tokens": 6, "completion_tokens": 7}), BenchError, "7 tokens where max_tokens is 6"),
        (
            edit(usage={"prompt_tokens": 99, "completion_tokens": 2}),
            BenchError,
            "99 tokens .* that can have 10 at most",
        ),
        (choice(message={"content": "<think>1 and 2</think>3"}), Refused, "an answer has a thought"),
        (lambda reply: "<html>", BenchError, "not JSON"),
        (lambda reply: [1], BenchError, "without choices"),
    ],
)
def test_a_reply_that_cannot_be_billed_or_read_is_an_error(server, connect, change, error, words):
    engine = connect()
    server.change = change
    with pytest.raises(error, match=words):
        ask(engine, ["1+2="], meter=Meter(PROFILE, 10**12))


@pytest.mark.parametrize("fails", [True, False])
def test_answers_that_arrive_beside_a_failure_are_billed(server, connect, monkeypatch, fails):
    engine, meter, wait = connect(), Meter(PROFILE, 10**12), asyncio.wait
    # All replies have arrived when the engine looks at the first.
    monkeypatch.setattr(asyncio, "wait", lambda tasks, **_: wait(tasks))
    if fails:
        server.faults = [400]
    questions = ["1+2="] * 4
    with pytest.raises(Refused) if fails else nullcontext():
        ask(engine, questions, meter=meter)
    billed = len(questions) - fails
    assert (len(server.asked), meter.opened.evaluations) == (4, billed)
    assert meter.spent == billed * generation_flops(PROFILE, 6, 2)


@pytest.mark.parametrize(
    "change",
    [edit(model="other"), choice(message={"content": "<think>1 and 2</think>3"})],
)
def test_a_reply_that_cannot_be_used_is_billed(server, connect, change):
    engine, meter = connect(), Meter(PROFILE, 10**12)
    server.change = change
    with pytest.raises(BenchError):
        ask(engine, ["1+2="], meter=meter)
    assert meter.spent == generation_flops(PROFILE, 6, 2)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_server_that_counts_more_than_the_budget_has_is_an_error_and_no_budget_is_exceeded(server, connect, allowed):
    engine, limit = connect(), generation_flops(PROFILE, 10, 6)
    meter = Meter(PROFILE, 10**12 if allowed else limit)
    server.change = edit(usage={"prompt_tokens": 99, "completion_tokens": 2})
    with meter.account("sample", limit if allowed else None), pytest.raises(BenchError, match="budget cannot be kept"):
        engine.generate(chats(engine, ["1+2="]), GREEDY, meter)
    assert (meter.spent, meter.tripped) == (0, False)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (500, BenchError, r"failed with status 500 in 2 tries \(fault 500\); run again later"),
        (429, BenchError, "status 429 in 2 tries"),
        (400, Refused, r"refuses a request \(status 400: fault 400\)"),
        (401, Refused, "refuses the key .*; set OPENAI_API_KEY"),
    ],
)
def test_a_failure_that_stays_is_an_error_in_words(server, connect, monkeypatch, fault, error, words):
    monkeypatch.setattr(openai_client, "TRIES", 2)
    engine = connect()
    server.faults = [fault] * 2
    with pytest.raises(error, match=words) as raised:
        ask(engine, ["1+2="])
    assert server.url in str(raised.value)


def test_a_server_that_takes_too_long_or_is_not_there_is_an_error(server, connect, monkeypatch):
    monkeypatch.setattr(openai_client, "TRIES", 1)
    monkeypatch.setattr(openai_client, "TIMEOUT", 0.1)
    engine = connect()
    server.delay = lambda number: 0.3
    with pytest.raises(BenchError, match="did not answer within 0 s, 1 times"):
        ask(engine, ["1+2="])
    with pytest.raises(BenchError, match=r"cannot be reached in 1 tries .*; start it"):
        connect(url="http://127.0.0.1:1/v1")


def test_a_wrong_name_says_which_models_there_are(server, connect):
    with pytest.raises(UsageError, match=r"--model nobody: not found at http://.*; it has adder"):
        connect(model="nobody")


def test_the_key_is_sent_and_not_kept(server, connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    engine = connect()
    assert server.keys == ["Bearer sk-1234"]
    assert "sk-1234" not in str(engine.settings)


def test_a_thought_that_the_server_keeps_apart_stands_before_the_answer(server, connect):
    def think(reply):
        reply["choices"][0]["message"] = {"content": "3", "reasoning": "1 and 2"}
        reply["usage"].update(completion_tokens=6, completion_tokens_details={"reasoning_tokens": 4})

    server.change = think
    (answer,), _ = ask(connect(), ["1+2="])
    assert (answer.text, answer.thought_tokens, answer.new_tokens) == ("<think>1 and 2</think>3", 4, 6)


def test_a_server_has_no_other_weights(connect, tmp_path):
    engine = connect()
    engine.move_to(Point())
    for refused in (
        lambda: engine.move_to(Point({1: 0.1})),
        engine.trainable,
        lambda: engine.save(tmp_path),
        lambda: engine.text([1], GREEDY),
        lambda: engine.ending([1], GREEDY),
    ):
        with pytest.raises(Refused, match="--engine endpoint"):
            refused()


def test_nothing_is_asked_without_prompts_or_an_account(server, connect):
    engine, meter = connect(), Meter(PROFILE)
    assert engine.generate([], GREEDY, meter) == []
    with pytest.raises(RuntimeError, match="outside any account"):
        engine.generate(chats(engine, ["1+2="]), GREEDY, meter)
    assert server.asked == []
    assert meter.ledger.accounts() == {}
    assert meter.opened == Work()
