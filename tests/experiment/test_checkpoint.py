"""Checkpoints: digests, damage to each part, retreat to the one before, reading while training."""

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridge_jax
from bridge_jax import config as configs
from bridge_jax.errors import InputError
from bridge_jax.experiment import checkpoint_files
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.experiment.checkpoint import CheckpointReader, Checkpoints
from bridge_jax.experiment.digests import array_digests, describe_difference, nonfinite_arrays
from bridge_jax.training import trainer
from tests.helpers.tiny_run import STEPS


@pytest.fixture(scope="module")
def two_steps(recipe, tmp_path_factory) -> Path:
    """A run with the checkpoints of steps 3 and 4."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    overrides = ["--config.train.keep=2", "--config.train.steps=4", "--config.train.save_every=3"]
    assert trainer.train(configs.load(str(recipe), overrides), workdir)
    assert CheckpointReader(workdir).steps() == [3, 4]
    return workdir


@pytest.fixture
def run(two_steps, tmp_path) -> Path:
    return Path(shutil.copytree(two_steps, tmp_path / "run"))


@pytest.fixture
def config(recipe):
    overrides = ["--config.train.keep=2", "--config.train.steps=4", "--config.train.save_every=3"]
    return configs.load(str(recipe), overrides)


def flip(file: Path, byte: int, bit: int = 0) -> None:
    raw = bytearray(file.read_bytes())
    raw[byte] ^= 1 << bit
    file.write_bytes(raw)


def damage_arrays(run: Path, step: int) -> None:
    """Flips bits all over the files that hold the arrays."""
    for file in (run / "checkpoints" / str(step) / "state/ocdbt.process_0/d").iterdir():
        for byte in range(100, file.stat().st_size - 100, 997):
            flip(file, byte)


def test_a_digest_depends_on_every_bit_the_dtype_and_the_shape():
    x = jnp.arange(6, dtype=jnp.float32)
    tree = {"a": x, "b": [x.reshape(2, 3)]}
    digests = array_digests(tree)
    assert digests["a"].startswith("float32[6] ")
    assert digests["b/0"].startswith("float32[2,3] ")
    flipped = np.asarray(x).copy()
    flipped.view(np.uint8)[5] ^= 1
    changed = array_digests({"a": jnp.asarray(flipped)})
    assert describe_difference(digests, changed) == "a changed since it was saved"
    assert describe_difference(digests, {"a": digests["a"]}) == ""
    assert array_digests({"a": x.reshape(3, 2)})["a"].split()[1] == digests["a"].split()[1]
    assert nonfinite_arrays({"a": x, "b": x / 0, "c": jnp.int32(1)}) == ["b"]


def test_every_array_has_a_digest_and_it_is_that_of_the_state(two_steps):
    record = CheckpointReader(two_steps).record(4)
    names = record.arrays.keys()
    assert {n.split("/")[0] for n in names} == {"step", "params", "opt_state"}
    params = workdirs.load_run(two_steps, step=4).params
    assert array_digests({"params": params}).items() <= record.arrays.items()


@pytest.mark.parametrize("part", ["arrays", "data", "config", "metrics", "digests"])
def test_damage_is_refused_and_the_good_checkpoint_is_named(run, part):
    if part == "arrays":
        damage_arrays(run, 4)
    else:
        file = run / "checkpoints/4" / part / ("metrics" if part == "metrics" else "metadata")
        flip(file, file.stat().st_size // 2)
    with pytest.raises(
        InputError, match=r"checkpoints/4: the checkpoint is damaged: .*; that of s"
    ) as e:
        workdirs.load_run(run, step=4)
    assert "that of step 3 is good: pass --step 3, or run the training command" in str(e.value)
    assert "\n" not in str(e.value)
    assert workdirs.load_run(run, step=3).step == 3


@pytest.mark.parametrize("part", ["params", "opt_state", "metrics"])
def test_training_goes_on_from_the_good_checkpoint_before(run, two_steps, config, capsys, part):
    expected = workdirs.load_run(two_steps, step=4).params
    path = run / "checkpoints/4"
    if part == "metrics":
        (path / "metrics/metrics").write_text("{")
    else:
        item = json.loads((path / "digests/metadata").read_text())
        name = next(n for n in item["arrays"] if n.startswith(part))
        item["arrays"][name] = item["arrays"][name][:-8] + "00000000"
        record = CheckpointReader(run).record(4)
        digests = checkpoint_files.digest_item(
            item["arrays"], record.data, record.config, record.metrics
        )
        (path / "digests/metadata").write_text(json.dumps(digests))
    assert trainer.train(config, run)
    err = capsys.readouterr().err
    assert "checkpoints/4: the checkpoint is damaged: " in err
    assert "damaged/4; going on from the checkpoint of step 3" in err
    assert "resuming at 3" in err
    assert (run / "damaged/4").is_dir()
    again = workdirs.load_run(run, step=4).params
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, expected)))


def test_without_a_good_checkpoint_training_starts_nothing(run, config):
    for step in (3, 4):
        (run / f"checkpoints/{step}/data/metadata").write_text("[]")
    with pytest.raises(InputError, match=r"is not a JSON object; no other checkpoint is good; st"):
        trainer.train(config, run)
    assert CheckpointReader(run).steps() == [3, 4]


def test_a_checkpoint_without_digests_is_read_with_a_notice(run, config, capsys):
    for step in (3, 4):
        shutil.rmtree(run / f"checkpoints/{step}/digests")
    assert workdirs.load_run(run, step=4).step == 4
    assert "saved by a version before 0.2, without digests" in capsys.readouterr().err
    assert trainer.train(config, run)


@pytest.mark.parametrize("with_digests", [True, False])
def test_parameters_that_are_not_finite_are_refused(run, with_digests):
    record = CheckpointReader(run).record(4)
    state = workdirs.load_run(run, step=4).params
    state = {"params": jax.tree.map(lambda a: a / 0, state)}
    checkpoints = Checkpoints(run)
    checkpoints.save(state, 5, dict(record.data), dict(record.config), None)
    checkpoints.close()
    if not with_digests:
        shutil.rmtree(run / "checkpoints/5/digests")
    with pytest.raises(InputError, match=r"checkpoints/5: .* params/\S* holds NaN or infinity; t"):
        workdirs.load_run(run, step=5)


def test_another_config_than_that_of_the_checkpoint_is_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"temperature": 0.1', '"temperature": 0.3'))
    with pytest.raises(InputError, match=r"which has loss.temperature = 0.1, not 0.3; restore"):
        workdirs.load_run(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"model": 3}', b"null"])
def test_a_broken_config_or_provenance_is_one_line(run, config, content):
    (run / "config.json").write_bytes(content)
    for action in (lambda: workdirs.load_run(run), lambda: trainer.train(config, run)):
        with pytest.raises(InputError, match=r"config\.json: ") as e:
            action()
        assert "\n" not in str(e.value)
    (run / "config.json").unlink()  # the remedy that the message gives
    assert trainer.train(config, run)
    (run / "run.json").write_bytes(content)
    if content != b'{"model": 3}':
        with pytest.raises(InputError, match=r"run\.json: is damaged"):
            trainer.train(config, run)
        (run / "run.json").unlink()
    assert trainer.train(config, run)
    assert workdirs.load_run(run).step in (3, 4)


def test_a_run_that_trains_can_always_be_read(two_steps, tmp_path, monkeypatch):
    """A thread replaces checkpoints as training does: the new one first, then the old one goes."""
    run = Path(shutil.copytree(two_steps, tmp_path / "run"))
    experiment = workdirs.load_run(run).experiment
    monkeypatch.setattr(
        workdirs.Experiment, "from_config", classmethod(lambda *_: experiment), raising=True
    )
    folder, stop = run / "checkpoints", threading.Event()

    def replace() -> None:
        step = 5
        while not stop.is_set():
            shutil.copytree(two_steps / "checkpoints/4", folder / "new")
            (folder / "new").rename(folder / str(step))
            for old in checkpoint_files.list_steps(folder)[:-1]:
                shutil.rmtree(folder / str(old))
            step += 1
            time.sleep(0.01)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        steps = [workdirs.load_run(run).step for _ in range(60)]
    finally:
        stop.set()
        thread.join()
    assert len(set(steps)) > 3, steps


def test_flipped_bits_are_never_silent(trained, tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks.attack import bit_flips

    copy = tmp_path / "run"
    for name in ("config.json", "run.json"):
        copy.mkdir(exist_ok=True)
        shutil.copy(trained / name, copy)
    shutil.copytree(trained / f"checkpoints/{STEPS}", copy / f"checkpoints/{STEPS}")
    counts, examples = bit_flips.flip_bits(copy, 16, seed=0)
    assert examples == []
    assert sum(n for (_, outcome), n in counts.items() if outcome == "refused") > 0
    assert bridge_jax.load(copy).step == STEPS


def test_an_array_that_orbax_leaves_out_is_damage(run, monkeypatch):
    from orbax.checkpoint import PyTreeCheckpointHandler

    monkeypatch.setattr(PyTreeCheckpointHandler, "restore", lambda _, path, args: args.item)
    with pytest.raises(InputError, match=r"its arrays cannot be read .one is missing."):
        bridge_jax.load(run)
