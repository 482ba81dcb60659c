import resource

import pytest
import torch
from safetensors.torch import save_file

from bench.errors import BenchError
from bench.records.files import WriteFailed
from bench.weights.checkpoint import (
    FILE,
    TRAINED,
    Checkpoint,
    open_checkpoint,
    read_checkpoint,
    read_trained,
    saved_weights,
    write_checkpoint,
)
from bench.weights.points import Point
from bench.weights.space import WeightSpace


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(7, 5, generator=generator),
        "b": torch.randn(11, generator=generator).to(torch.bfloat16),
        "c": torch.randn(3, 4, generator=generator).T,
    }


def test_a_checkpoint_is_read_as_written_and_identified_by_its_content(tmp_path):
    one = write_checkpoint(tmp_path / "one", tensors())
    same, other = write_checkpoint(tmp_path / "same", tensors()), write_checkpoint(tmp_path / "other", tensors(1))
    assert one == same != other
    assert hash(one) == hash(same)
    assert not one.is_base
    for name, tensor in read_checkpoint(one).items():
        assert torch.equal(tensor, tensors()[name])


def test_a_checkpoint_that_was_changed_or_lost_is_refused(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "one", tensors())
    data = bytearray((tmp_path / "one" / FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / "one" / FILE).write_bytes(bytes(data))
    with pytest.raises(BenchError, match=r"has digest .* was written; start the run again"):
        read_checkpoint(checkpoint)
    (tmp_path / "one" / FILE).unlink()
    with pytest.raises(BenchError, match="cannot be read"):
        read_checkpoint(checkpoint)


def test_a_space_moves_to_trained_weights_and_back_to_any_point(tmp_path):
    live = tensors()
    space = WeightSpace(live)
    trained = write_checkpoint(tmp_path, tensors(1))
    space.move_to(Point({1: 0.5}))
    moved = {name: tensor.clone() for name, tensor in live.items()}
    space.load(trained)
    assert space.point == trained
    assert all(torch.equal(live[name], tensor) for name, tensor in tensors(1).items())
    space.move_to(Point({1: 0.5}))
    assert all(torch.equal(live[name], tensor) for name, tensor in moved.items())
    space.load(trained)
    space.move_to(Point())
    assert all(torch.equal(live[name], tensor) for name, tensor in tensors().items())


def test_weights_of_another_model_are_refused_and_nothing_is_written(tmp_path):
    live = tensors()
    space = WeightSpace(live)
    other = write_checkpoint(tmp_path, {**tensors(1), "a": torch.zeros(2, 2)})
    with pytest.raises(BenchError, match="not those of this model"):
        space.load(other)
    assert space.point == Point()
    assert all(torch.equal(live[name], tensor) for name, tensor in tensors().items())


def test_the_folder_is_not_part_of_a_checkpoint_s_identity(tmp_path):
    assert Checkpoint(tmp_path / "a", "x") == Checkpoint(tmp_path / "b", "x")


def test_a_full_disk_raises_write_failed_and_keeps_the_old_checkpoint(tmp_path):
    before = write_checkpoint(tmp_path / "one", tensors())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(WriteFailed, match="one: "):
            write_checkpoint(tmp_path / "one", {"a": torch.zeros(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(before).keys() == tensors().keys()


def test_a_checkpoint_is_opened_with_the_digest_of_its_folder(tmp_path):
    written = write_checkpoint(tmp_path / "weights", {"w": torch.arange(6.0)})
    assert open_checkpoint(tmp_path / "weights") == written
    with pytest.raises(BenchError, match=r"nothing/model\.safetensors: weights cannot be read"):
        open_checkpoint(tmp_path / "nothing")


def test_weights_are_kept_as_trained_only_where_the_deployed_ones_are_rounded(tmp_path):
    trained = {"w": torch.tensor([1.0, 1.001, -3.0]), "b": torch.tensor([0.1])}
    narrow = write_checkpoint(tmp_path / "narrow", trained, dict.fromkeys(trained, torch.bfloat16))
    same = write_checkpoint(tmp_path / "same", trained, dict.fromkeys(trained, torch.float32))
    assert same == write_checkpoint(tmp_path / "own", trained) != narrow
    assert read_checkpoint(narrow)["w"].tolist() == [1.0, 1.0, -3.0]
    assert {path.name for path in (tmp_path / "narrow").iterdir()} == {FILE, TRAINED}
    assert {path.name for path in (tmp_path / "same").iterdir()} == {FILE}
    for checkpoint in (narrow, same):
        found = read_trained(checkpoint)
        assert all(torch.equal(found[name], tensor) for name, tensor in trained.items())


def test_rounded_weights_alone_do_not_say_what_was_trained(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "weights", {"w": torch.randn(4).bfloat16()})
    assert read_trained(checkpoint) is None
    assert WeightSpace({"w": torch.zeros(4).bfloat16()}).measure(checkpoint) is None


def test_weights_as_trained_that_are_not_those_of_the_checkpoint_are_refused(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "one", {"w": torch.randn(4)}, {"w": torch.bfloat16})
    write_checkpoint(tmp_path / "other", {"w": torch.randn(4)}, {"w": torch.bfloat16})
    (tmp_path / "other" / TRAINED).replace(tmp_path / "one" / TRAINED)
    with pytest.raises(BenchError, match="it is not the checkpoint beside it; start the run again"):
        read_trained(checkpoint)


def test_weights_in_several_files_are_one_checkpoint(tmp_path):
    weights = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    written = write_checkpoint(tmp_path / "one", weights)
    several = tmp_path / "several"
    several.mkdir()
    for number, (name, tensor) in enumerate(weights.items(), start=1):
        save_file({name: tensor}, several / f"model-0000{number}-of-00002.safetensors")
    (several / "model.safetensors.index.json").write_text("{}")
    assert open_checkpoint(several) == written
    assert read_checkpoint(Checkpoint(several, written.digest)).keys() == weights.keys()
    (several / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BenchError, match="has digest"):
        read_checkpoint(Checkpoint(several, written.digest))


def test_the_weights_of_a_folder_are_those_that_are_deployed_and_not_those_as_trained(tmp_path):
    written = write_checkpoint(tmp_path / "one", {"a": torch.full((3,), 0.1)}, {"a": torch.bfloat16})
    assert (tmp_path / "one" / TRAINED).exists()
    assert saved_weights(tmp_path / "one")["a"].dtype == torch.bfloat16
    assert open_checkpoint(tmp_path / "one") == written
