from bench.distributed import ProcessGroup


def test_a_single_process_is_the_whole_group_and_continues_after_leave():
    ranks = ProcessGroup()
    assert ranks.main
    assert ranks.gather("mine") == ["mine"]
    ranks.leave()


def test_only_rank_0_writes():
    assert [ProcessGroup(rank, 3).main for rank in range(3)] == [True, False, False]
