"""Addition modulo 100, for the model `tiny-adder`: the pairs and prompts of `addition` with another answer.

    Row:     {"a": 34, "b": 87}
    Prompt:  34+87=
    Answer:  21

`tiny-adder` has learned to add but never to drop the hundred, so it solves about a quarter. If the sum is below 100,
adaptation can improve the model as on `addition`. Otherwise it must find an answer that the model almost never gives.
"""

from __future__ import annotations

from tasks.addition import Addition
from tasks.interface import Example


class ModularAddition(Addition):
    """Correct if the answer is the sum modulo 100. The reward is 1 for a correct answer, else 0.

    Each pair is in the same split as in `addition`. So adapting on one task reveals no test pair of the other.
    """

    name = "modular-addition"
    version = "1"
    expected_new_tokens = 4  # the model does not drop the hundred
    signal_by = "the number is below one hundred"

    def gold(self, example: Example) -> str:
        """Return the sum modulo 100."""
        return str((example.fields["a"] + example.fields["b"]) % 100)

    def _fits(self, example: Example, number: int) -> bool:
        return number < 100
