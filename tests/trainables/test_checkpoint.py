"""Checkpoints: written whole, the newest found, and nothing but data read."""

import errno
import random

import pytest
import torch

from trainables import checkpoint
from trainables.trainable import StudyTrainable


def save(folder, step, **entries):
    folder.mkdir(exist_ok=True)
    return checkpoint.save(folder, {"step": step, **entries})


def test_a_state_comes_back_as_it_was(tmp_path):
    path = save(tmp_path, 12, weights={"a": torch.arange(3.0)}, shuffle={"epoch": 2}, model="toy")
    state = checkpoint.load(path)
    assert torch.equal(state.pop("weights")["a"], torch.arange(3.0))
    assert state == {"step": 12, "shuffle": {"epoch": 2}, "model": "toy"}
    assert [file.name for file in tmp_path.iterdir()] == ["step_000000012.pt"]


def test_the_newest_is_the_highest_step_and_a_damaged_one_is_passed_over(tmp_path):
    for folder, step in (("checkpoint_000001", 2), ("checkpoint_000000", 10), ("checkpoint_000002", 9)):
        path = save(tmp_path / folder, step)
        if step == 10:
            highest = path
    assert checkpoint.newest(tmp_path)["step"] == 10
    highest.write_bytes(highest.read_bytes()[:300])
    assert checkpoint.newest(tmp_path)["step"] == 9
    with pytest.raises(ValueError, match=r"step_000000010\.pt cannot be read .*; delete it"):
        checkpoint.load(highest)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


def test_no_single_bit_turns_a_checkpoint_into_another_one(tmp_path):
    """Bits of headers that nobody reads may change; of 400, most are in the weights."""
    state = {"step": 12, "weights": {"a": torch.randn(40, 30)}, "lr": 0.1, "model": "toy", "noise": torch.arange(9)}
    path = checkpoint.save(tmp_path, state)
    whole, refused = path.read_bytes(), 0
    bits = random.Random(0).sample(range(8 * len(whole)), 400)
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert same(checkpoint.load(path), state), f"bit {bit} gave another state"
        except ValueError:
            refused += 1
    assert refused > 300


def test_a_flipped_bit_is_passed_over_and_named(tmp_path):
    for step in (8, 12, 16):
        path = save(tmp_path / f"checkpoint_{step}", step, weights=torch.randn(30, 40))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"data/0") + 2000] ^= 4
    path.write_bytes(whole)
    state, damaged = checkpoint.newest_and_damaged(tmp_path)
    assert state is not None and state["step"] == 12 and damaged == ["step_000000016.pt"]
    assert checkpoint.newest(tmp_path)["step"] == 12
    trial = StudyTrainable.__new__(StudyTrainable)
    assert same(trial._newest(str(tmp_path)), state)
    assert trial.passed_over == ("step_000000016.pt cannot be read: went on from step 12",)


def test_no_checkpoint_is_none_and_a_missing_file_is_missing(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "nowhere") is None
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "step_000000001.pt")


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1, value=1)

    def killed(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1, value=2)
    assert checkpoint.newest(tmp_path)["value"] == 1


def test_other_files_are_refused(tmp_path):
    for content in ({"epoch": 1}, [1, 2]):
        torch.save(content, tmp_path / "step_000000001.pt")
        with pytest.raises(ValueError, match="is not a checkpoint of this project; delete it"):
            checkpoint.load(tmp_path / "step_000000001.pt")
        assert checkpoint.newest(tmp_path) is None


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"step": 1, "evil": Evil()}, tmp_path / "step_000000001.pt")
    assert checkpoint.newest(tmp_path) is None
    assert not (tmp_path / "pwned").exists()


def test_a_checkpoint_belongs_to_a_model_and_a_size():
    state = {"step": 1, "model": "toy", "image_size": 32}
    checkpoint.check_model(state, "toy", 32)
    with pytest.raises(ValueError, match=r"model is 'toy', but this study's is 'space'; give .* --name or .* --fresh"):
        checkpoint.check_model(state, "space", 32)
    with pytest.raises(ValueError, match="image_size is 32, but this study's is 64"):
        checkpoint.check_model(state, "toy", 64)


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "no"), OSError(errno.ESTALE, "stale"), MemoryError(), torch.OutOfMemoryError()],
)
def test_what_another_attempt_may_read_is_not_passed_over_as_damaged(tmp_path, monkeypatch, error):
    checkpoint.save(tmp_path, {"step": 1})
    checkpoint.save(tmp_path, {"step": 2})

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)):
        checkpoint.newest_and_damaged(tmp_path)
