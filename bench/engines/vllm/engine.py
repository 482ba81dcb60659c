"""The vLLM engine: generates step by step, and records each step with the meter before it runs.

vLLM never holds more requests than it runs at once, so the work of the next step is known in advance: one token of
every running answer, and the prompts that enter. The meter records exactly this work. The composition of a batch is a
function of the call alone: prompts enter in the order given, as soon as there is room.

Candidates of low-rank noise are LoRA adapters, many in one batch, so vLLM neither moves its weights nor drops its cache
between them. vLLM loads and schedules adapters as it does anyway; they are handed over in memory.

A thought that has reached its limit goes on as a new request, whose prompt is the old one with the thought and the end
of the thought. vLLM computes all of it again, so that is what is recorded.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakSet

import torch

from bench.compute.ledger import Work
from bench.compute.measured import measure
from bench.engines.decoding import answer_seeds
from bench.engines.groups import TERMS
from bench.engines.interface import Arrived, Job, SampledAnswer, Sampling, TokenIds, shared_directions
from bench.engines.local import BatchRow, LocalEngine, max_positions
from bench.engines.shared import SharedBatches
from bench.engines.vllm.adapters import NOWHERE, padded_rank
from bench.engines.vllm.agreement_check import TOLERANCE, error_of_moves, probe
from bench.engines.vllm.support import MULTIMODAL, STATES, contained, require
from bench.errors import BenchError, Refused, UsageError
from bench.models.linear import adaptable_layers
from bench.models.multimodal import meta_model, text_class, what_is_left_out
from bench.models.opening import open_config
from bench.models.thinking import Think
from bench.records.rows import Move
from bench.weights.checkpoint import Place
from bench.weights.current_point import CurrentPoint
from bench.weights.noise import Noise
from bench.weights.points import Point
from tasks.interface import EndRule, PromptStyle

BATCH = {"cpu": 64, "cuda": 256}
"""Default batch size by device type."""
STEP_TOKENS = 4096
"""Maximum number of tokens per step, unless a prompt is longer.

It is fixed because vLLM's default depends on the hardware, and text depends on the batch.
"""
DECODING = "stepwise-1"
"""Version of decoding. Raised when the ends of answers change, and so texts may."""
BLOCK = 128
"""Common multiple of the block sizes into which vLLM divides its cache, in tokens."""

LOWRANK = Noise("lowrank")
COLDEST = 0.01
"""Temperature below which vLLM samples at this one, without an error."""

_Row = BatchRow[int]
_RUNNING: WeakSet[VllmEngine] = WeakSet()


class _Reserves(Protocol):
    """The part of a meter that this engine needs."""

    def reserve(self, work: Work) -> None: ...


class _Reserve(NamedTuple):
    reserve: Callable[[Work], None]


class VllmEngine(LocalEngine[int]):
    """A causal language model in vLLM. Holds three copies of the weights: vLLM's, the base, and the current point.

    A fourth copy, in float32, holds the centre of the last point that had one.

    A process can have only one engine at a time, so starting an engine closes the previous one. Two engines would share
    vLLM's communication state, and closing one would break the other.

    Args:
        model: Checkpoint folder.
        max_model_len: Maximum length of prompt plus answer, in tokens.
        dtype: Dtype of the weights; `auto` keeps the checkpoint's own.
        device: `cpu` or `cuda`; must be the device that vLLM was built for.
        batch_size: Maximum number of answers decoded together; None for 64, or 256 on a GPU.
        think: Whether chat prompts ask for a thought.
        prompt: Prompt style of the run. Texts to complete open no thought, whatever the chat template does.
        rank: Rank of the low-rank noise whose candidates are answered as adapters; None for none. Adapters make all
            answers a little slower. If vLLM has no adapters for the model, candidates are moved to, and `settings` says
            why.

    Raises:
        Refused: If vLLM is not installed, or its version is not supported.
        UsageError: If vLLM was built for another device, the device is not the first GPU, or the chat template takes
            no argument that says whether to think.
        BenchError: If vLLM cannot run the model.
    """

    POSITIONS_ARE = "vLLM was started for"
    positions: int
    _adapters: Sequence[Any] = ()  # those of the batch in progress, by the owner of their rows
    _columns = 0  # terms of adapters that the hardware computes for a token in each layer

    def __init__(
        self,
        model: str,
        *,
        max_model_len: int,
        dtype: str = "auto",
        device: str = "cpu",
        batch_size: int | None = None,
        think: Think = "auto",
        prompt: PromptStyle | Literal["auto"] = "auto",
        rank: int | None = None,
    ) -> None:
        release = require()
        if torch.device(device).index:
            raise UsageError(f"--device {device}: vLLM takes the first GPU it sees; choose by CUDA_VISIBLE_DEVICES")
        super().__init__(model, device, think, prompt)
        config = open_config(Path(model))
        if left_out := what_is_left_out(config):
            export = "" if text_class(config) is None else ", or export the text model with `bench export` first"
            raise Refused(f"{left_out}, and {MULTIMODAL}; use --engine transformers{export}")
        limit = max_positions(config)
        if limit is not None and max_model_len > limit:
            raise Refused(
                f"a prompt and its answer need {max_model_len} positions; the model has {limit}; start a run with a "
                "smaller --max-new-tokens, or take a model with a longer context"
            )
        measured = measure(config)
        if measured.mixers:
            raise self._unfit(STATES)
        self.profile, self._cached_values = measured.profile, measured.cached_values
        self.vocabulary = config.get_text_config().vocab_size
        kind = torch.device(device).type
        self._batch_size = batch_size or BATCH.get(kind, BATCH["cuda"])
        self.positions = max_model_len
        self._step_tokens = max(STEP_TOKENS, max_model_len + self._batch_size)
        chosen = _dtype(config, dtype)
        self.settings = {
            "backend": "vllm",
            "vllm": release,
            "dtype": chosen,
            "device": kind,
            "batch_size": self._batch_size,
            "max_model_len": max_model_len,
            "step_tokens": self._step_tokens,
            "decoding": DECODING,
        }
        self._shared = SharedBatches(self.profile, self.settings, self._answer)
        for other in list(_RUNNING):
            other.close()
        gc.collect()  # a reference cycle in vLLM may still hold the weights of a closed engine
        with contained():
            self._vllm = self._open_with_adapters(kind, config, rank) if rank else self._open(kind)
        _RUNNING.add(self)
        self._threads = torch.get_num_threads()
        self._ids = count()
        self._current = CurrentPoint()
        try:
            self.digest: str
            self.digest, self.layout = self._workers("bench_open", model, chosen)
            probed = probe(self.vocabulary, max_model_len - 1)
            scale = self._workers("bench_scale")
            off = error_of_moves(lambda place: self._both_at(place, probed), scale, TOLERANCE[chosen])
        except BenchError:
            raise
        except Exception as error:
            raise self._unfit(error) from error
        if not off < TOLERANCE[chosen]:
            raise self._unfit(f"after a move its logarithms of probabilities are off by {off:.0%} of the change")
        if self.most_terms:
            self._check_adapters(probed, scale)

    def _open_with_adapters(self, kind: str, config: Any, rank: int) -> Any:
        """Return vLLM with room for the adapters of a group; without adapters if it has none for the model."""
        number, padded = TERMS // rank, padded_rank(rank)
        # Other layers, such as the output head, would take time for adapters of zeros.
        modules = sorted({name.rpartition(".")[2] for name in adaptable_layers(meta_model(config))})
        room = {"enable_lora": True, "max_loras": number, "max_lora_rank": padded, "lora_target_modules": modules}
        try:
            opened = self._open(kind, **room)
        except BenchError as error:
            self._leave_adapters(_reason(error.__cause__ or error))
        else:
            self.settings["adapters"], self.most_terms = f"{number} of rank {padded}", padded
            self._columns = padded * (number if kind == "cpu" else 1)  # see `multiply_by_masks`
            return opened
        gc.collect()  # after the except block: until then the traceback keeps the weights of the first attempt
        return self._open(kind)

    def _leave_adapters(self, reason: str) -> None:
        """Record that candidates are moved to, and why."""
        self.settings["adapters"], self.most_terms = f"none: {reason}", 0

    def _check_adapters(self, prompt: TokenIds, scale: float) -> None:
        """Leave adapters if log-probabilities with one are not those of the transformers model's moved weights."""
        allowed = TOLERANCE[str(self.settings["dtype"])]
        try:
            off = error_of_moves(lambda place: self._both_with(place, prompt), scale, allowed, LOWRANK)
        except Exception as error:
            self._leave_adapters(_reason(error))
            return
        if not off < allowed:
            self._leave_adapters("log-probabilities with an adapter are not those of moved weights")

    def _open(self, kind: str, **adapters: Any) -> Any:
        from vllm import LLM
        from vllm.platforms import current_platform

        if current_platform.device_type != kind:
            raise UsageError(
                f"--device {kind}: vllm {self.settings['vllm']} was built for {current_platform.device_type}"
            )
        try:
            model = LLM(
                str(self._folder),
                trust_remote_code=False,
                skip_tokenizer_init=True,
                generation_config="vllm",  # ignore the checkpoint's own penalties and temperatures
                dtype=str(self.settings["dtype"]),
                max_model_len=self.positions,
                max_num_seqs=self._batch_size,
                max_num_batched_tokens=self._step_tokens,
                kv_cache_memory_bytes=self._cache_bytes(),
                disable_hybrid_kv_cache_manager=True,
                enable_prefix_caching=False,  # text and recorded work would depend on earlier requests
                async_scheduling=False,
                enforce_eager=kind == "cpu",
                disable_log_stats=True,
                logprobs_mode="processed_logprobs",  # of the distribution that a token is drawn from
                worker_extension_cls="bench.engines.vllm.worker.WorkerWeights",
                seed=0,
                **adapters,
            )
        except Exception as error:  # a model that vLLM does not know well fails anywhere in its code
            raise self._unfit(error) from error
        return model.llm_engine

    def _cache_bytes(self) -> int:
        """Return the cache size in bytes for a batch of full-length answers, so that vLLM never has to preempt one."""
        tokens = (self._batch_size * -(-self.positions // BLOCK) + 1) * BLOCK
        return tokens * self._cached_values * getattr(torch, str(self.settings["dtype"])).itemsize

    def _unfit(self, error: Exception | str) -> BenchError:
        return BenchError(f"vLLM cannot run this model here: {_reason(error)}; use --engine transformers")

    def _both_at(self, place: Point, prompt: TokenIds) -> tuple[list[float], list[float]]:
        """Return a prompt's log-probabilities at a point, by the transformers model and by vLLM."""
        self.move_to(place)
        return self._workers("bench_logprobs", prompt), self._logprobs(prompt)

    def _both_with(self, displacement: Point, prompt: TokenIds) -> tuple[list[float], list[float]]:
        """Return a prompt's log-probabilities: by the transformers model at a point, and by vLLM with its adapter."""
        theirs = self._workers("bench_logprobs_at", displacement, prompt)
        with self._adding([displacement] if displacement.rank else []):
            return theirs, self._logprobs(prompt)

    def _logprobs(self, prompt: TokenIds) -> list[float]:
        name = self._request(prompt, Sampling(max_new_tokens=1), None, 0, prompt_logprobs=0)
        (output,) = self._run_step()
        assert output.request_id == name
        given = zip(prompt[1:], output.prompt_logprobs[1:], strict=True)
        return [float(logprobs[token].logprob) for token, logprobs in given]

    @property
    def point(self) -> Place:
        """Current point or checkpoint of the weights.

        Raises:
            RuntimeError: If the last move failed, or the weights are those of a training; a move repairs it.
        """
        return self._current.place

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Precompute the directions of the announced points, and note which jobs share a batch."""
        moves = shared_directions([job for job in jobs if job.added is None])
        self._workers("bench_prepare", moves)
        self._shared.announce(jobs)

    def move_to(self, point: Place) -> None:
        """Set the weights to a point or a checkpoint.

        Raises:
            BenchError: If vLLM still uses keys and values of the previous weights.
        """
        if self._current.is_at(point):
            return
        with self._current.moving_to(point):
            self._workers("bench_move", point)
            self._drop_cache()

    def sample_at(
        self,
        weights: Mapping[str, torch.Tensor],
        prompts: Sequence[TokenIds],
        sampling: Sampling,
        reserve: Callable[[Work], None],
        end_rules: Sequence[EndRule | None],
    ) -> list[SampledAnswer]:
        """Sample from weights in training: see `bench.engines.interface.RolloutEngine`.

        The weights are handed over in memory, because vLLM computes in this process.

        Raises:
            Refused: If the temperature is one that vLLM would raise.
        """
        if sampling.temperature < COLDEST:
            raise Refused(f"temperature {sampling.temperature}: vLLM samples at {COLDEST} or more; raise it")
        rows = self._rows(prompts, sampling, end_rules)
        for row in rows:
            row.logprobs = []
        reserve(Work(weight_moves=1))
        self._current.leave()
        self._workers("bench_hand_over", weights)
        self._drop_cache()
        with torch.random.fork_rng(devices=[]):  # vLLM draws from torch's generator, too, and uses nothing of it
            self._decode(rows, sampling, [_Reserve(reserve)], [0])
        return [SampledAnswer(self._completion(row, sampling), tuple(row.logprobs or ())) for row in rows]

    def _drop_cache(self) -> None:
        if not self._vllm.reset_prefix_cache():
            raise BenchError("vLLM still holds keys and values of the previous weights")

    def _draws(self, prompts: Sequence[TokenIds], sampling: Sampling) -> Sequence[int]:
        return answer_seeds(prompts, sampling)

    @contextmanager
    def _adding(self, displacements: Sequence[Point]) -> Iterator[None]:
        from vllm.lora.request import LoRARequest

        try:
            self._workers("bench_add", list(displacements))
            self._adapters = [LoRARequest(str(i), i, NOWHERE) for i in range(1, len(displacements) + 1)]
            yield
        finally:
            self._adapters = ()
            self._workers("bench_remove")

    def _decode(
        self, rows: Sequence[_Row], sampling: Sampling, meters: Sequence[_Reserves], products: Sequence[int]
    ) -> None:
        stop = self._stop_strings(sampling)
        waiting, running = list(rows), dict[str, _Row]()
        try:
            while waiting or running:
                entering = self._entering(running, waiting)
                self._book(list(running.values()), entering, meters, products)
                del waiting[: len(entering)]
                running |= {self._enter(row, sampling): row for row in entering}
                self._step(running)
                ended = [name for name, row in running.items() if self._ended(row, stop, sampling)]
                cut = [name for name, row in running.items() if row.forced]
                self._vllm.abort_request([*ended, *cut])
                waiting[:0] = [self._with_thought_ended(running[name]) for name in cut]
                for name in (*ended, *cut):
                    del running[name]
        finally:
            self._vllm.abort_request(list(running))

    def _enter(self, row: _Row, sampling: Sampling) -> str:
        """Request an answer, or what follows a thought that was ended. Return the request's name.

        What follows has a random stream of its own.
        """
        left = sampling.model_copy(update={"max_new_tokens": sampling.max_new_tokens - len(row.generated)})
        draws = row.draws if row.draws is None or not row.generated else row.draws ^ 1
        more = {} if row.logprobs is None else {"logprobs": 0}  # 0: of the sampled token alone
        return self._request((*row.prompt, *row.generated), left, draws, row.owner, **more)

    def _with_thought_ended(self, row: _Row) -> _Row:
        row.generated += row.forced
        row.forced.clear()
        return row

    def _entering(self, running: dict[str, _Row], waiting: list[_Row]) -> list[_Row]:
        """Return the first waiting rows whose whole prompts fit into the next step."""
        free, tokens = self._batch_size - len(running), self._step_tokens - len(running)
        entering = []
        for row in waiting[:free]:
            tokens -= row.position + 1
            if tokens < 0:
                break
            entering.append(row)
        return entering

    def _book(
        self, running: Sequence[_Row], entering: Sequence[_Row], meters: Sequence[_Reserves], products: Sequence[int]
    ) -> None:
        """Record the next step with the meters of its rows."""
        for owner, (meter, added) in enumerate(zip(meters, products, strict=True)):
            on, new = ([row for row in rows if row.owner == owner] for rows in (running, entering))
            if on or new:
                meter.reserve(self._work(on, new, added))

    def _work(self, running: Sequence[_Row], entering: Sequence[_Row], products: int) -> Work:
        lengths = [row.position for row in running]
        prompts = [row.position + 1 for row in entering]
        tokens = sum(prompts) + len(lengths)
        positions = sum(self.profile.attended(n, 1) for n in lengths)
        positions += sum(self.profile.attended(0, n, kept=1) for n in prompts)
        # Layers that a mask leaves out are multiplied by factors of zeros.
        computed = self._columns * self.layout.noise_values(LOWRANK) if self._adapters else 0
        return Work(
            evaluations=sum(not row.generated for row in entering),
            prefill_tokens=sum(prompts),
            decode_tokens=len(lengths),
            head_tokens=len(prompts) + len(lengths),
            attended=positions,
            padded_tokens=tokens,
            padded_attended=positions,
            products=products * tokens,
            padded_products=computed * tokens,
        )

    def _request(self, prompt: TokenIds, sampling: Sampling, seed: int | None, owner: int, **more: Any) -> str:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        name = str(next(self._ids))
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            max_tokens=sampling.max_new_tokens,
            ignore_eos=True,  # this class decides when an answer ends, as in every engine
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            **more,
        )
        adapter = self._adapters[owner] if self._adapters else None
        self._vllm.add_request(name, TokensPrompt(prompt_token_ids=list(prompt)), parameters, lora_request=adapter)
        return name

    def _workers(self, method: str, *arguments: Any) -> Any:
        """Call a method of the workers, and return what the first one returns."""
        self._keep_threads()
        return self._vllm.collective_rpc(method, args=arguments)[0]

    def _run_step(self) -> Any:
        self._keep_threads()
        return self._vllm.step()

    def _keep_threads(self) -> None:
        """Set the number of torch's threads to the one that vLLM started with. Another engine may have changed it.

        With another number vLLM's kernels on a CPU return wrong products.
        """
        torch.set_num_threads(self._threads)

    def _step(self, running: dict[str, _Row]) -> None:
        """Run one step of vLLM, and append the next token to every row."""
        made = {output.request_id: output.outputs[0] for output in self._run_step()}
        if made.keys() != running.keys() or any(len(new.token_ids) != 1 for new in made.values()):
            raise BenchError(
                f"vLLM made tokens for {len(made)} requests where {len(running)} were booked; lower --batch-size"
            )
        for name, row in running.items():
            row.generated.extend(made[name].token_ids)
            if row.logprobs is not None:
                row.logprobs.append(made[name].logprobs[0][row.generated[-1]].logprob)

    def close(self) -> None:
        """Shut vLLM down and free its memory. The engine cannot be used afterwards."""
        _RUNNING.discard(self)
        self._vllm.engine_core.shutdown()
        self._vllm = None

    def _save_model(self, folder: Path) -> None:
        self._workers("bench_save", str(folder))

    def _move(self) -> Move | None:
        found: Move | None = self._workers("bench_measure", self.point)
        return found


def _reason(error: BaseException | str) -> str:
    """Return the first line of an error, with its class where that says more."""
    reason = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, str | RuntimeError | ValueError):
        return reason
    return f"{type(error).__name__}: {reason}".removesuffix(": ")


def _dtype(config: Any, asked: str) -> str:
    # vLLM's own `auto` would convert float32 to bfloat16.
    if asked != "auto":
        return asked
    named = config.get_text_config().dtype
    if named is None:
        raise UsageError("--dtype auto: the checkpoint's config.json names none; choose one")
    return str(named).removeprefix("torch.")
