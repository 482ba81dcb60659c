import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.engines.decoding import Lookup, StopStrings, answer_streams, next_tokens, share_out
from bench.engines.interface import Sampling, TokenIds

PROMPT = st.lists(st.integers(0, 50), min_size=1, max_size=4).map(tuple)
# Sums of these probabilities are exact in binary, so rounding does not move the end of the nucleus.
DYADIC = np.array([4, 1, 16, 2, 8, 1]) / 32
JUST_BELOW_ONE = math.nextafter(1.0, 0.0)


def sampling(temperature: float = 1.0, top_p: float = 1.0, *, seed: int = 0, tokens: int = 8) -> Sampling:
    return Sampling(max_new_tokens=tokens, temperature=temperature, top_p=top_p, seed=seed)


def logits(probabilities: Sequence[float] | np.ndarray, rows: int = 1) -> torch.Tensor:
    return torch.tensor(np.log(probabilities), dtype=torch.float64).repeat(rows, 1)


def chosen(probabilities: np.ndarray, uniforms: np.ndarray, **settings: float) -> np.ndarray:
    return next_tokens(logits(probabilities, len(uniforms)), sampling(**settings), uniforms).numpy()


class TestStreams:
    @given(st.lists(PROMPT, min_size=1, max_size=6, unique=True), st.integers(), st.randoms())
    def test_a_prompts_draws_do_not_depend_on_the_others_in_its_call(
        self, prompts: list[TokenIds], seed: int, random
    ) -> None:
        alone = {prompt: answer_streams([prompt], sampling(seed=seed))[0] for prompt in prompts}
        random.shuffle(prompts)
        for prompt, row in zip(prompts, answer_streams(prompts, sampling(seed=seed)), strict=True):
            np.testing.assert_array_equal(row, alone[prompt])

    @given(st.lists(PROMPT, min_size=1, max_size=8), st.integers())
    def test_prompts_that_repeat_draw_differently_each_time(self, prompts: list[TokenIds], seed: int) -> None:
        rows = answer_streams(prompts + prompts, sampling(seed=seed))
        assert len({row.tobytes() for row in rows}) == len(rows)

    @given(st.lists(PROMPT, min_size=1, max_size=8))
    def test_the_same_call_draws_the_same(self, prompts: list[TokenIds]) -> None:
        np.testing.assert_array_equal(answer_streams(prompts, sampling()), answer_streams(prompts, sampling()))

    def test_two_seeds_draw_differently(self) -> None:
        a, b = (answer_streams([(1, 2)], sampling(seed=seed)) for seed in (0, 1))
        assert not np.any(a == b)

    def test_a_longer_answer_begins_with_the_draws_of_a_shorter_one(self) -> None:
        short, long = (answer_streams([(1, 2), (3,)], sampling(tokens=n)) for n in (5, 50))
        np.testing.assert_array_equal(long[:, :5], short)

    def test_draws_are_uniform(self) -> None:
        draws = answer_streams([(n,) for n in range(200)], sampling(tokens=100))
        assert draws.shape == (200, 100)
        assert draws.min() >= 0
        assert draws.max() < 1
        assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-4


class TestGreedy:
    @given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
    def test_the_most_likely_token_is_taken(self, rows: list[list[float]]) -> None:
        tokens = next_tokens(torch.tensor(rows), sampling(0.0), None)
        assert tokens.dtype == torch.int64
        for row, token in zip(rows, tokens.tolist(), strict=True):
            assert row[token] == max(row)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_half_precision_logits_are_taken_as_they_are(self, dtype: torch.dtype) -> None:
        assert next_tokens(
            torch.tensor([[0.0, 3.0, 2.0], [1.0, 0.0, -1.0]], dtype=dtype), sampling(0.0), None
        ).tolist() == [1, 0]


class TestSampling:
    # Fixed draws make the tests below deterministic.
    DRAWS = np.random.default_rng(0).random(20_000)

    @pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
    def test_frequencies_are_the_tempered_probabilities(self, temperature: float) -> None:
        counts = np.bincount(chosen(DYADIC, self.DRAWS, temperature=temperature), minlength=6)
        tempered = DYADIC ** (1 / temperature)
        assert stats.chisquare(counts, tempered / tempered.sum() * len(self.DRAWS)).pvalue > 1e-3

    @pytest.mark.parametrize(
        ("top_p", "kept"),
        [
            (1e-9, [2]),
            (0.5, [2]),
            (math.nextafter(0.5, 1), [2, 4]),
            (0.75, [2, 4]),
            (0.8, [2, 4, 0]),
            (0.9375, [2, 4, 0, 3]),
            (1.0, [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_the_nucleus_is_the_shortest_prefix_that_reaches_top_p(self, top_p: float, kept: list[int]) -> None:
        counts = np.bincount(chosen(DYADIC, self.DRAWS, top_p=top_p), minlength=6)
        assert set(np.flatnonzero(counts)) == set(kept)
        inside = DYADIC[kept] / DYADIC[kept].sum()
        if len(kept) > 1:
            assert stats.chisquare(counts[kept], inside * len(self.DRAWS)).pvalue > 1e-3

    def test_of_equally_likely_tokens_the_nucleus_keeps_the_first(self) -> None:
        assert set(chosen(np.full(4, 0.25), self.DRAWS, top_p=0.5)) == {0, 1}

    @given(
        st.lists(st.floats(-30, 30), min_size=2, max_size=40),
        st.floats(0.01, 1.0),
        st.floats(0.05, 5.0),
        st.sampled_from([0.0, JUST_BELOW_ONE]) | st.floats(0, 1, exclude_max=True),
    )
    def test_no_draw_leaves_the_nucleus(self, row: list[float], top_p: float, temperature: float, u: float) -> None:
        settings = sampling(temperature, top_p)
        (token,) = next_tokens(torch.tensor([row], dtype=torch.float64), settings, np.array([u])).tolist()
        weights = np.exp((np.array(row) - max(row)) / temperature)
        likelier = weights[weights > weights[token] * (1 + 1e-12)].sum() / weights.sum()
        assert likelier < top_p + 1e-12

    def test_the_last_draw_below_one_takes_the_last_token_of_the_nucleus(self) -> None:
        uniforms = np.array([JUST_BELOW_ONE])
        assert chosen(DYADIC, uniforms, top_p=0.75).tolist() == [4]
        assert chosen(np.full(1000, 1e-3), uniforms).tolist() == [999]

    @pytest.mark.parametrize("u", [0.0, 0.5, JUST_BELOW_ONE])
    def test_a_token_of_probability_zero_is_never_taken(self, u: float) -> None:
        masked = torch.tensor([[-math.inf, 1.0, -math.inf, 1.0, -math.inf]])
        assert next_tokens(masked, sampling(), np.array([u])).tolist() == [1 if u < 0.5 else 3]

    def test_a_larger_draw_takes_no_likelier_token(self) -> None:
        taken = DYADIC[chosen(DYADIC, np.linspace(0, JUST_BELOW_ONE, 999))]
        assert np.all(np.diff(taken) <= 0)

    def test_a_temperature_near_zero_is_greedy(self) -> None:
        assert set(chosen(DYADIC, self.DRAWS[:500], temperature=0.01)) == {2}

    @given(st.lists(st.lists(st.floats(-9, 9), min_size=5, max_size=5), min_size=2, max_size=6), st.data())
    def test_a_rows_token_does_not_depend_on_its_batch(self, rows: list[list[float]], data: st.DataObject) -> None:
        uniforms = np.array(
            data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(rows), max_size=len(rows)))
        )
        settings = sampling(0.7, 0.9)
        together = next_tokens(torch.tensor(rows), settings, uniforms).tolist()
        alone = [next_tokens(torch.tensor([r]), settings, uniforms[[i]]).item() for i, r in enumerate(rows)]
        assert together == alone


def characters(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, token_ids))


def utf8(token_ids: Sequence[int]) -> str:
    """Decode byte-level tokens, as tokenizers do: an incomplete character becomes a replacement character."""
    return bytes(token_ids).decode(errors="replace")


PIECES = ["", "a", "b", "ab", "ba", "\n", "\n\n", "def", " de", "f ", "```", "``", "`"]


def pieces(token_ids: Sequence[int]) -> str:
    return "".join(PIECES[i] for i in token_ids)


STOP = st.lists(st.sampled_from(["\ndef ", "\n```\n", "ab", "aab", "`", "\n\n", "bab"]), max_size=3, unique=True).map(
    tuple
)


def first_end(stop: StopStrings, generated: Sequence[int]) -> int | None:
    """Return the number of tokens at which an answer ends, or None if it does not end."""
    return next((n for n in range(1, len(generated) + 1) if stop.ended(generated[:n])), None)


class TestStopStrings:
    @given(STOP, st.lists(st.integers(1, len(PIECES) - 1), max_size=40))
    def test_an_answer_ends_with_the_token_that_completes_a_stop_string(
        self, stop: tuple[str, ...], ids: list[int]
    ) -> None:
        complete = (n for n in range(1, len(ids) + 1) if any(s in pieces(ids[:n]) for s in stop))
        assert first_end(StopStrings(stop, pieces), ids) == next(complete, None)

    @given(STOP, st.lists(st.integers(0, len(PIECES) - 1), max_size=40))
    def test_the_text_is_cut_before_the_first_stop_string(self, stop: tuple[str, ...], ids: list[int]) -> None:
        text = pieces(ids)
        kept = StopStrings(stop, pieces).cut(text)
        assert text.startswith(kept)
        assert not any(s in kept for s in stop)
        assert kept == text or any(text[len(kept) :].startswith(s) for s in stop)

    def test_a_stop_string_is_found_across_tokens_and_inside_one(self) -> None:
        stop = StopStrings(("\ndef ",), pieces)
        across = [PIECES.index(p) for p in ("a", "\n", "def", " de")]
        assert first_end(stop, across) == 4
        assert stop.cut(pieces(across)) == "a"
        inside = StopStrings(("e",), pieces)
        assert first_end(inside, across) == 3
        assert inside.cut(pieces(across)) == "a\nd"

    @pytest.mark.parametrize("string", ["🙂🙃🙂🙃🙂", "終わり", "é\n", "\n```\n"])
    def test_a_stop_string_is_found_byte_by_byte_after_any_text(self, string: str) -> None:
        for before in ("", "x" * 50, "ü" * 50, "🙁" * 9):
            ids = list(f"{before}{string} and more".encode())
            stop = StopStrings((string,), utf8)
            assert first_end(stop, ids) == len(f"{before}{string}".encode())
            assert stop.cut(f"{before}{string} and more") == before

    def test_no_more_than_a_tail_is_decoded(self) -> None:
        lengths: list[int] = []

        def counting(token_ids: Sequence[int]) -> str:
            lengths.append(len(token_ids))
            return characters(token_ids)

        stop = StopStrings(("\n\n", "end"), counting)
        assert not stop.ended([ord("x")] * 10_000)
        assert max(lengths) < 20

    def test_a_stop_string_in_a_thought_ends_nothing(self) -> None:
        text = "<think>\nA\n\nB</think>\nC\n\nD"
        for opening in ("", "<think>\n"):
            ids = list(text.removeprefix(opening).encode())
            stop = StopStrings(("\n\n",), utf8, opening)
            end = first_end(stop, ids)
            assert end is not None
            assert opening + utf8(ids[:end]) == "<think>\nA\n\nB</think>\nC\n\n"
            assert opening + stop.cut(utf8(ids)) == "<think>\nA\n\nB</think>\nC"
            assert first_end(stop, ids[:10]) is None

    def test_without_stop_strings_nothing_ends_nothing_is_cut_and_nothing_is_decoded(self) -> None:
        def never(token_ids: Sequence[int]) -> str:
            raise AssertionError

        stop = StopStrings((), never)
        assert not stop.ended([1, 2, 3])
        assert stop.cut("a\n\nb") == "a\n\nb"


class TestLookup:
    def test_what_followed_the_last_tokens_before_is_proposed(self) -> None:
        lookup = Lookup([1, 2, 3, 4, 5, 6, 9, 2])
        assert lookup.propose([3], 10) == (2, [4, 5, 6])

    def test_more_last_tokens_are_preferred_and_then_the_latest_occurrence(self) -> None:
        longer = Lookup([7, 1, 2, 10, 0, 1, 2, 20, 0, 8, 1, 2, 30, 7, 1, 2])
        assert longer.propose([], 1) == (3, [10])
        latest = Lookup([7, 1, 2, 10, 0, 1, 2, 20, 1, 2])
        assert latest.propose([], 1) == (2, [20])

    @pytest.mark.parametrize("known", [[], [1], [1, 2], [1, 2, 3, 4]])
    def test_nothing_is_proposed_if_nothing_was_repeated(self, known: list[int]) -> None:
        assert Lookup(known).propose([5, 6], 9) == (0, [])
        assert Lookup([*known, 5, 6, 5]).propose([6], 0)[1] == []

    def test_a_loop_is_proposed_ever_longer_and_a_wrong_proposal_makes_it_short_again(self) -> None:
        lookup, loop, known, lengths = Lookup([1]), [2, 3] * 50, 4, []
        for _ in range(5):
            found = lookup.propose(loop[:known], 16)[1]
            assert found == loop[known : known + len(found)]
            lengths.append(len(found))
            known += len(found) + 1  # all of them, and the token that decoding chooses after them
        assert lengths == [3, 6, 12, 16, 16]
        lookup.propose(loop[:known], 16)
        assert len(lookup.propose([*loop[:known], 50, 2, 3], 16)[1]) == Lookup.SHORT

    @given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 30), st.integers(1, 12))
    def test_proposals_follow_an_earlier_occurrence_of_the_last_tokens(
        self, tokens: list[int], split: int, most: int
    ) -> None:
        size, proposed = Lookup(tokens[:split]).propose(tokens[split:], most)
        assert bool(size) == bool(proposed)
        assert len(proposed) <= most
        if size:
            tail = tokens[-size:]
            starts = [i + size for i in range(len(tokens) - size) if tokens[i : i + size] == tail]
            after = tokens[starts[-1] :]
            assert proposed == (after * 40)[: len(proposed)]

    @given(st.lists(st.tuples(st.integers(2, 4), st.lists(st.integers(), max_size=9)), max_size=8), st.integers(1, 20))
    def test_proposals_are_cut_to_the_room_of_a_pass(self, found: list[tuple[int, list[int]]], room: int) -> None:
        parts = share_out(found, room)
        wanted = [tokens for _, tokens in found]
        assert all(part == tokens[: len(part)] for part, tokens in zip(parts, wanted, strict=True))
        assert sum(map(len, parts)) == min(room, sum(map(len, wanted)))
