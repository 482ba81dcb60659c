from bench.distributed import ProcessGroup


def test_one_process_alone_is_everybody_and_goes_on():
    ranks = ProcessGroup()
    assert ranks.main
    assert ranks.gather("mine") == ["mine"]
    ranks.leave()


def test_the_first_of_several_writes():
    assert [ProcessGroup(rank, 3).main for rank in range(3)] == [True, False, False]
