import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.distributed import ProcessGroup
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError, Refused
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.prompting import PLAIN, Prompting, Shot
from bench.run.training import TrainingSession
from methods.interface import Lora, Rollout
from methods.training.cat_trainers import AlignedTuner
from methods.training.config import CatConfig, GrpoConfig, PpoConfig, SftConfig
from methods.training.loop import Finished, Loop
from methods.training.trainers import GroupTrainer, PolicyValueTrainer
from methods.training.tuner import Tuner, example
from tasks.addition import Addition

ALLOWANCE = 10**12
SCHEDULE = SimpleNamespace(batch=8, train=64, save_every=1, step=32)


@pytest.fixture(scope="module")
def path():
    return resolve("tiny-adder").prepare(lambda *_: None).path


@pytest.fixture
def open_session(tmp_path, path):
    def open_session(style="chat", allowance=ALLOWANCE, lora=None, seed=0, path=path, prompting=PLAIN):
        engine = TransformersEngine(str(path), dtype="float32")
        meter = Meter(engine.profile, ALLOWANCE)
        task = Addition()
        evaluator = Evaluator(engine, task, style, meter, Journal(tmp_path / "journal.jsonl"), prompting=prompting)
        return TrainingSession(evaluator, task.load().support, tmp_path / "training", allowance, seed, lora), meter

    return open_session


def loop(session, config, *modules):
    return Loop(SimpleNamespace(seed=0), session, config, SCHEDULE, [(m, 1e-4) for m in (session.model, *modules)])


SHOTS = Prompting(shots=tuple(Shot(Addition(), example) for example in Addition().load().support[:3]))


@pytest.mark.parametrize(("style", "prompting"), [("chat", PLAIN), ("chat", SHOTS), ("completion", PLAIN)])
def test_trl_formats_prompts_with_the_same_ids_as_every_other_method(open_session, tmp_path, style, prompting):
    session, _ = open_session(style, prompting=prompting)
    assert [len(p.prompt) for p in session.prompts[:4]] == (
        [5] * 4 if prompting is SHOTS else [1] * 4
    ) or style != "chat"
    trainer = GroupTrainer(GrpoConfig(), loop(session, GrpoConfig()), str(tmp_path / "trl"))
    row = trainer.train_dataset[0]
    assert isinstance(row["prompt"], str) == (style == "completion")
    ids, _, _ = trainer._tokenize_prompts([p.prompt for p in session.prompts])
    assert [tuple(i) for i in ids] == [p.token_ids for p in session.prompts]
    # The template writes the beginning of the text, and the tokenizer adds it to a text: each prompt has one.
    assert {(p.token_ids[0], p.token_ids.count(1)) for p in session.prompts} == {(1, 1)}
    assert session.prompts[0].gold == str(sum(map(int, session.prompts[0].id.split("+"))))


def test_ppo_gets_the_same_prompt_ids(open_session, tmp_path):
    session, _ = open_session()
    around = loop(session, PpoConfig(), session.value_model())
    trainer = PolicyValueTrainer(PpoConfig(), around, str(tmp_path / "trl"))
    batch = next(iter(trainer.dataloader))
    known = {p.id: p.token_ids for p in session.prompts}
    pad = session.tokenizer.pad_token_id
    prompts = [tuple(i for i in row if i != pad) for row in batch["input_ids"].tolist()]
    assert prompts == [known[example] for example in trainer.reward_model.examples]
    assert len(prompts) == SCHEDULE.batch


def test_the_reward_model_scores_the_sampled_answers(open_session, tmp_path):
    session, _ = open_session()
    around = loop(session, PpoConfig(), session.value_model())
    reward = PolicyValueTrainer(PpoConfig(), around, str(tmp_path / "trl")).reward_model
    right, wrong = session.prompts[:2]
    session._sampler.rollouts = [rollout(session, right.gold), rollout(session, "7")]
    reward.examples = [right.id, wrong.id]
    found = reward.scorer(input_ids=torch.zeros(2, 20), attention_mask=torch.ones(2, 20)).hidden_states[-1]
    assert found.shape == (2, 20, 1)
    assert found[:, 0, 0].tolist() == [1.0, 0.0]


def rollout(session, text, truncated=False):
    answer = (*session.tokenizer.encode(text, add_special_tokens=False), session.tokenizer.eos_token_id)
    return Rollout((), answer, None, torch.zeros(len(answer)), truncated=truncated)


def test_the_order_visits_every_prompt_once_per_epoch_and_resumes_where_it_stopped(open_session):
    session, _ = open_session()
    around = loop(session, GrpoConfig())
    order = around.order(6)
    first = [next(order) for _ in range(900)]
    assert sorted(first[:400]) == sorted(first[400:800]) == list(range(400))
    assert first[:400] != first[400:800]
    around.rows = [{}] * 100
    resumed = around.order(6)
    assert [next(resumed) for _ in range(300)] == first[600:]


def test_every_pass_is_booked_and_refused_beyond_the_allowance(open_session):
    session, meter = open_session(allowance=10**8)
    ids = torch.tensor([[4, 5, 6]])
    with session.metered():
        session.model(input_ids=ids).logits.sum().backward()
    once = session.spent
    assert 0 < once == meter.spent == sum(session.phases.values())
    ran = 0
    with session.metered():
        while True:
            session.model(input_ids=ids).logits.sum().backward()
            ran += 1
    assert session.cut
    assert 10**8 - once < session.spent <= 10**8
    assert not meter.tripped
    assert ran >= 1
    with pytest.raises(RuntimeError, match="outside any account"):
        session.model(input_ids=ids)


def test_a_value_model_copies_the_base_weights_and_its_head_starts_at_zero(open_session):
    session, _ = open_session()
    value = session.value_model()
    ids = torch.tensor([[1, 4, 5, 6]])
    with session.metered():
        hidden = value.model(input_ids=ids).last_hidden_state
        assert torch.equal(hidden, session.model.base_model(input_ids=ids).last_hidden_state)
        assert not value.score(hidden).any()
    assert value.model.embed_tokens.weight.data_ptr() != session.model.get_input_embeddings().weight.data_ptr()


def test_a_peer_is_a_metered_copy_with_noise_and_adapters_of_its_own(open_session):
    session, meter = open_session(lora=Lora(rank=2))
    peers = [session.peer(1, 0.0), session.peer(1, 0.01), session.peer(2, 0.01), session]

    def weights(peer, part):
        return torch.cat([p.detach().flatten() for name, p in peer.model.named_parameters() if part in name])

    exact, noisy, other, base = (weights(peer, "q_proj.base_layer") for peer in peers)
    assert exact.equal(base)
    assert float((noisy - base).std()) == pytest.approx(0.01, rel=0.1)
    assert not torch.allclose(noisy, other)
    assert weights(peers[0], "lora_A").equal(weights(peers[1], "lora_A"))
    assert not any(weights(peers[0], "lora_A").equal(weights(peer, "lora_A")) for peer in peers[2:])
    ids = torch.tensor([[1, 4, 5, 6]])
    costs = []
    for peer in peers:
        with session.metered():
            before = meter.ledger["train"]
            peer.model(input_ids=ids).logits.sum().backward()
            costs.append(meter.ledger["train"] - before)
    assert costs[0].products > 0
    assert costs.count(costs[0]) == 4


def test_a_peer_samples_its_own_answers(open_session):
    session, _ = open_session()
    peer = session.peer(1, 0.02)
    sample(session, temperature=2.0)
    own = session.rollouts
    sample(session, peer.model, temperature=2.0)
    assert session.rollouts is own
    assert len(peer.rollouts) == len(own)
    assert [r.logprobs.tolist() for r in peer.rollouts] != [r.logprobs.tolist() for r in own]


def test_the_padding_id_ends_no_answer_and_occurs_in_no_prompt(open_session):
    session, _ = open_session()
    assert session.tokenizer.pad_token_id == session.model.generation_config.pad_token_id == 0
    # The tokenizer's own padding id 2 ends answers, and id 1 begins prompts. Id 3 is the remaining special id.
    assert session._pad_id(SimpleNamespace(pad_token_id=2, all_special_ids=[1, 2, 3], added_tokens_decoder={})) == 3
    # SmolLM2's tokenizer lists further special ids in added_tokens_decoder only.
    unnamed = {0: SimpleNamespace(special=False), 3: SimpleNamespace(special=True)}
    assert session._pad_id(SimpleNamespace(pad_token_id=2, all_special_ids=[1, 2], added_tokens_decoder=unnamed)) == 3
    with pytest.raises(BenchError, match="no special id for padding"):
        session._pad_id(SimpleNamespace(pad_token_id=None, all_special_ids=[1, 2], added_tokens_decoder={}))


def test_saved_progress_is_restored_and_unsaved_work_is_not_booked(open_session):
    session, meter = open_session()
    ids = torch.tensor([[1, 4, 5, 6]])
    with session.metered():
        session.model(input_ids=ids).logits.sum().backward()
        session.save({"weights": {"a": torch.ones(2)}, "rows": [{"reward": 0.5}]})
        billed = meter.ledger["train"]
        session.model(input_ids=ids).logits.sum().backward()
    again, meter = open_session()
    assert meter.ledger["train"] == billed
    assert again.state["rows"] == [{"reward": 0.5}]
    assert again.finished is None
    with again.metered():
        again.model(input_ids=ids).logits.sum().backward()
    checkpoint = again.finish({"steps": 2})
    done, last = open_session()
    assert done.finished == (checkpoint, {"steps": 2})
    assert last.ledger["train"] == meter.ledger["train"]
    assert done.phases == again.phases


def test_a_missing_state_is_an_error_that_says_what_to_do(open_session, tmp_path):
    session, _ = open_session()
    session.save({"rows": []})
    (tmp_path / "training" / "1" / "state.pt").unlink()
    again, _ = open_session()
    with pytest.raises(BenchError, match=r"state cannot be read.*start a new run"):
        _ = again.state


def test_only_adapters_are_trained(open_session):
    session, _ = open_session(lora=Lora(rank=2))
    trained = {name for name, p in session.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora" in name for name in trained)


def test_adapters_are_drawn_from_the_seed_alone(open_session):
    def adapters(seed, noise):
        torch.manual_seed(noise)
        session, _ = open_session(lora=Lora(rank=2), seed=seed)
        return {name: p.detach() for name, p in session.model.named_parameters() if "lora_A" in name}

    first, again, other = adapters(1, 0), adapters(1, 9), adapters(2, 0)
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, path):
    """Copy of the model whose configuration asks for dropout everywhere, and whose generation config for penalties."""
    folder = shutil.copytree(path, tmp_path_factory.mktemp("noisy") / "model")
    edit(folder / "config.json", attention_dropout=0.5, classifier_dropout=0.5)
    edit(folder / "generation_config.json", repetition_penalty=1.5, top_h=0.2, min_new_tokens=4)
    return folder


def edit(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_the_checkpoint_chooses_neither_dropout_nor_sampling(open_session, noisy):
    session, _ = open_session(path=noisy)
    for decoder in (session.model.base_model, session.value_model().model):
        assert decoder.config.attention_dropout == decoder.config.classifier_dropout == 0.0
        assert {layer.self_attn.attention_dropout for layer in decoder.layers} == {0.0}
    generation = session.model.generation_config
    assert (generation.repetition_penalty, generation.top_h, generation.min_new_tokens) == (None, None, None)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (1, 2, 0)


def sample(session, model=None, **settings):
    torch.manual_seed(0)
    prompts = [list(prompt.token_ids) for prompt in session.prompts[:6]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    config = GenerationConfig(do_sample=True, max_new_tokens=session.max_new_tokens, top_k=0, **settings)
    with session.metered(), torch.no_grad():
        return (model or session.model).generate(
            input_ids=ids, attention_mask=(ids != 0).long(), generation_config=config
        )


def test_a_rollout_has_the_probability_and_entropy_of_each_token(open_session, path):
    session, _ = open_session()
    session.model.train()
    drawn = sample(session, temperature=2.0)
    assert session.model.training
    assert len(session.rollouts) == len(drawn)
    model = AutoModelForCausalLM.from_pretrained(path)
    for prompt, rollout in zip(session.prompts, session.rollouts, strict=False):
        assert rollout.prompt == prompt.token_ids
        ended = [n for n in range(1, 5) if session._finish(rollout.prompt, rollout.answer[:n]) is not None]
        assert ended[0] == len(rollout.answer)
        assert rollout.truncated == (rollout.answer[-1] != session.tokenizer.eos_token_id)
        whole = torch.tensor([[*rollout.prompt, *rollout.answer]])
        logits = model(whole).logits[0, len(rollout.prompt) - 1 : -1] / 2.0
        expected = torch.distributions.Categorical(logits=logits)
        torch.testing.assert_close(rollout.logprobs, expected.log_prob(torch.tensor(rollout.answer)))
        torch.testing.assert_close(rollout.entropies, expected.entropy())


def test_what_the_method_asks_of_sampling_is_in_the_probabilities(open_session):
    session, _ = open_session()
    sample(session, top_p=0.01)  # leaves the most likely token only
    assert all(not rollout.logprobs.any() and not rollout.entropies.any() for rollout in session.rollouts)


class Alone(ProcessGroup):
    """A process that hears of no other."""

    def gather(self, mine):
        return [mine]


class TwoRanks(ProcessGroup):
    """Rank 0 of two processes that do the same work."""

    def gather(self, mine):
        return [mine, mine]


def test_settle_books_the_work_of_other_processes_by_phase(open_session):
    session, meter = open_session()
    session.ranks = TwoRanks(0, 2)
    ids = torch.tensor([[4, 5, 6]])
    with session.metered():
        for booked in (1, 2):
            session.model(input_ids=ids).logits.sum().backward()
            own = meter.opened
            session.settle()
            assert meter.ledger["train"] == own + own
            assert session.spent == sum(session.phases.values()) == 2 * meter.flops(own)
            assert own.backward_passes == booked


def test_processes_that_together_exceed_the_allowance_fail(open_session):
    session, meter = open_session(allowance=10**7)
    session.ranks = TwoRanks(0, 2)
    ids = torch.tensor([[4, 5, 6]])
    with session.metered():
        session.model(input_ids=ids)
        # This process alone stays within the allowance, but both together exceed it.
        while 2 * meter.flops(meter.opened) <= 10**7:
            session.model(input_ids=ids)
        with pytest.raises(BenchError, match=r"more than its bound: \d+ FLOPs beyond the allowance"):
            session.settle()
    one, _ = open_session(allowance=10**6)
    one.ranks = TwoRanks(0, 2)
    with pytest.raises(BenchError, match="so one process stopped"), one.metered():
        one.model(input_ids=ids)


def test_windows_do_not_lower_the_bound_of_a_step(open_session):
    bounds = []
    for window in (None, 4):
        session, meter = open_session()
        session.ranks = ProcessGroup(0, 2)
        layers = tuple(replace(layer, window=window) for layer in meter.profile.layers)
        meter.profile = replace(meter.profile, layers=layers)
        bounds.append(session.bound(3))
    tokens = max(len(prompt.token_ids) for prompt in session.prompts) + session.max_new_tokens
    attended = len(layers) * tokens * (tokens + 1) // 2
    products = meter.profile.products * tokens
    assert bounds == [3 * meter.flops(Work(products=products, attended=attended))] * 2


@pytest.mark.parametrize("method", ["grpo", "ppo", "sft"])
def test_no_step_costs_more_than_its_bound(open_session, tmp_path, method):
    session, _ = open_session(allowance=15 * 10**8)
    config, cost, trainer = {
        "grpo": (GrpoConfig(), 4, GroupTrainer),
        "ppo": (PpoConfig(), 8, PolicyValueTrainer),
        "sft": (CatConfig(on="sft"), 3, AlignedTuner),
    }[method]
    around = loop(session, config, *([session.value_model()] if method == "ppo" else []))
    around.schedule = SimpleNamespace(batch=8, train=64, save_every=100, step=8 * cost)
    around.run(SimpleNamespace(advance=lambda *_, **__: None), trainer(config, around, str(tmp_path / "trl")).train)
    assert around.step > 2
    assert session.bound(around.schedule.step) == 0
    session.ranks = ProcessGroup(0, 2)
    assert max(around._costs) <= session.bound(around.schedule.step) < 2 * max(around._costs)


def test_truncated_answers_can_be_left_out_of_the_loss(open_session, tmp_path, monkeypatch):
    session, _ = open_session()
    config = GrpoConfig(truncated="mask", temperature=5.0)
    trainer = GroupTrainer(config, around := loop(session, config), str(tmp_path / "trl"))
    passes, compute = [], trainer._compute_loss

    def watched(model, inputs):
        passes.append((inputs["completion_mask"].sum(), inputs["num_items_in_batch"]))
        return compute(model, inputs)

    monkeypatch.setattr(trainer, "_compute_loss", watched)
    around.schedule = SimpleNamespace(**vars(SCHEDULE) | {"save_every": 100})
    around.run(SimpleNamespace(advance=lambda *_, **__: stop()), trainer.train)
    truncated = [rollout.truncated for rollout in session.rollouts]
    assert 0 < sum(truncated) < len(truncated)
    kept = sum(len(rollout.answer) for rollout in session.rollouts if not rollout.truncated)
    assert sum(tokens for tokens, _ in passes) == kept
    assert all(items == kept for _, items in passes)


@pytest.mark.parametrize(("trainer", "config"), [(GroupTrainer, GrpoConfig()), (PolicyValueTrainer, PpoConfig())])
def test_a_model_that_computes_something_else_in_training_mode_is_refused(open_session, tmp_path, trainer, config):
    session, _ = open_session()
    session.model.lm_head.register_forward_hook(lambda module, _, logits: logits * 1.01 if module.training else None)
    around = loop(session, config, *([session.value_model()] if trainer is PolicyValueTrainer else []))
    with pytest.raises(BenchError, match="before the first update the probability ratio of sampled tokens has a mean"):
        around.run(SimpleNamespace(advance=lambda *_, **__: None), trainer(config, around, str(tmp_path / "trl")).train)
    assert not around.rows
    assert session.state is None


def stop():
    raise Finished


def test_truncated_answers_can_be_punished(open_session):
    session, _ = open_session()
    right, wrong = session.prompts[0], session.prompts[1]
    cut = [(right, True), (right, False), (wrong, True)]
    rollouts = [rollout(session, prompt.gold, truncated) for prompt, truncated in cut]
    ids, answers = [right.id] * 3, [rollout.answer for rollout in rollouts]
    for truncated, expected in (("train", [1.0, 1.0, 0.0]), ("mask", [1.0, 1.0, 0.0]), ("punish", [0.0, 1.0, 0.0])):
        around = loop(session, GrpoConfig(truncated=truncated))
        session._sampler.rollouts = rollouts
        assert around.rewards(ids, answers) == expected


def test_training_that_diverged_is_not_repeated(open_session):
    session, _ = open_session()
    session.save({"rows": []})
    session.abandon("why", {"steps": 1})
    again, _ = open_session()
    assert again.ended
    assert (again.diverged, again.finished, again.state) == (("why", {"steps": 1}), None, None)


def test_each_process_gets_its_part_of_a_batch(open_session, tmp_path):
    session, _ = open_session()
    around = loop(session, PpoConfig(), session.value_model())
    trainer = PolicyValueTrainer(PpoConfig(), around, str(tmp_path / "trl"))

    def examples(ranks):
        session.ranks = ranks
        next(iter(trainer.dataloader))
        return trainer.reward_model.examples

    whole = examples(ProcessGroup())
    parts = [examples(SimpleNamespace(rank=rank, world_size=2, gather=lambda mine: [mine, mine])) for rank in (0, 1)]
    assert parts[0] + parts[1] == whole


def test_fine_tuning_shares_the_passes_of_a_step_between_the_processes(open_session, tmp_path):
    session, _ = open_session()
    rows = [example((1, 4 + place), [2]) for place in range(8)]
    steps = iter([[], rows, rows, rows[:7]])  # a step without an update is ended, and the next one begins
    trainer = Tuner(
        SftConfig(), around := loop(session, SftConfig()), str(tmp_path / "trl"), examples=lambda: next(steps)
    )
    trainer._micro = 2
    found = []
    for rank in (0, 1):
        session.ranks = Alone(rank, 2)
        passes, tokens = trainer.get_batch_samples(None, 2, torch.device("cpu"))
        assert tokens == 4
        found.append([each["input_ids"][:, 1].tolist() for each in passes])
    assert found == [[[4, 5], [8, 9]], [[6, 7], [10, 11]]]
    assert around.rows == [{}]
    with pytest.raises(BenchError, match="at step 1 there are 7 examples; expected 8, or none"):
        trainer.get_batch_samples(None, 2, torch.device("cpu"))


def test_fine_tuning_needs_the_whole_batch_in_one_pass(open_session, tmp_path):
    session, _ = open_session()
    session.batch_size = 4
    config = CatConfig(on="sft")
    with pytest.raises(Refused, match=r"batch of 8 .* one pass of 4, .* --set batch of at most 4, .*--batch-size"):
        AlignedTuner(config, loop(session, config), str(tmp_path / "trl"))


@pytest.mark.parametrize("mixed", [True, False])
def test_the_environment_does_not_change_the_precision(open_session, tmp_path, monkeypatch, mixed):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setattr(TrainingSession, "mixed", mixed)
    session, _ = open_session()
    found = {}

    def make(trainer, config, *modules):
        around = loop(session, config, *modules)

        def build():
            found[trainer] = trainer(config, around, str(tmp_path / "trl")).accelerator.mixed_precision

        around.run(SimpleNamespace(advance=lambda *_, **__: None), build)

    make(PolicyValueTrainer, PpoConfig(), session.value_model())
    make(GroupTrainer, GrpoConfig())
    make(AlignedTuner, CatConfig(on="sft"))
    arithmetic = "bf16" if mixed else "no"
    assert found == {PolicyValueTrainer: "no", GroupTrainer: arithmetic, AlignedTuner: arithmetic}
