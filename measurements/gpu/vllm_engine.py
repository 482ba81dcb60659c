"""Section `vllm`: the vLLM engine with random weights, where vLLM is installed."""

from __future__ import annotations

from bench.engines.transformers import TransformersEngine
from bench.engines.vllm.support import SUPPORTED, installed
from bench.weights.points import Point
from measurements.engines import measured
from measurements.gpu.engine import equal, told
from measurements.gpu.schema import Found, Skipped
from measurements.gpu.shapes import Setup
from measurements.weights import SIGMA

FAR = Point({1: 30 * SIGMA})


def vllm(setup: Setup) -> Found:
    """Compare vLLM's texts of two calls, after moves, and with the transformers engine, and time it.

    The engine compares its moves with those of transformers when it starts, and raises an error if they disagree.
    """
    if installed() is None:
        raise Skipped(f"vllm is not installed; works with {SUPPORTED}")
    from bench.engines.vllm.engine import VllmEngine

    new, batch = setup.size.new_tokens, min(64, max(setup.size.batches))
    prompts = setup.size.prompts(batch, 32)
    plain = TransformersEngine(setup.model, dtype="bfloat16", device=setup.device, batch_size=batch)
    expected = told(plain, prompts, new)
    plain.move_to(FAR)
    expected_far = told(plain, prompts, new)
    del plain
    engine = VllmEngine(setup.model, max_model_len=32 + new, dtype="bfloat16", device=setup.device, batch_size=batch)
    one = told(engine, prompts, new)
    speed = measured("vllm", engine, prompts, new, setup.size.moves)
    engine.move_to(FAR)
    far = told(engine, prompts, new)
    engine.move_to(Point())
    checks = {
        "texts of two calls are equal, with moves between them": told(engine, prompts, new) == one,
        "texts at another point differ": far != one,
    }
    figures = {
        f"batch of {batch}, tokens/s": speed.tokens / speed.seconds,
        "move, seconds": speed.move,
        "texts equal to the transformers engine's, share": equal(one, expected),
        "the same at another point, share": equal(far, expected_far),
    }
    engine.close()
    return Found(checks=checks, figures=figures)
