"""Addition modulo one hundred: pairs and prompts of `addition`, and another answer where the sum has three digits.

A second proving ground for `tiny-adder`, which has learned to add and never to drop the hundred: it solves a quarter.
Where the sum stays below one hundred adaptation can get more right, as on `addition`; elsewhere it has to find an
answer that the model hardly ever gives.
"""

from __future__ import annotations

from tasks.addition import Addition
from tasks.interface import Example


class ModularAddition(Addition):
    """Exact match of the sum's last two digits, leading zeros aside; the reward is the same 0 or 1.

    A pair stands in the same split as in `addition`, so that adapting on one task tells nothing of the other's test.
    """

    name = "modular-addition"
    version = "1"
    signal_by = "the number is below one hundred"

    def gold(self, example: Example) -> str:
        """Return the sum modulo 100."""
        return str((example.fields["a"] + example.fields["b"]) % 100)

    def _fits(self, example: Example, number: int) -> bool:
        return number < 100
