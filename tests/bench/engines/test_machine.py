import torch

from bench.engines.machine import measure_limits


def test_limits_are_positive_and_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    limits = measure_limits()
    assert limits.bandwidth > 1e8
    assert set(limits.flops) == {"float32", "bfloat16"}
    assert min(limits.flops.values()) > 1e8
    assert torch.get_num_threads() == before
