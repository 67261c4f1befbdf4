"""Configs: files, arguments, overrides, and what is refused."""

from pathlib import Path

import pytest

from bridge_jax import config as configs
from bridge_jax.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_every_config_loads_and_survives_json(path):
    config = configs.load(str(path))
    assert configs.from_json(configs.to_json(config)) == config


def test_overrides_keep_the_type_of_their_field():
    config = configs.load(
        str(ROOT / "configs/demo.py"),
        [
            "--config.model.width=128",
            "--config.optimizer.learning_rate=1",
            "--config.loss.learn_temperature=true",
            "--config.loss.negatives=sampled",
            "--config.evaluate.baselines=('ridge',)",
        ],
    )
    assert (config.model.width, config.optimizer.learning_rate) == (128, 1.0)
    assert config.loss.learn_temperature is True
    assert (config.loss.negatives, config.evaluate.baselines) == ("sampled", ("ridge",))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("--config.model.widht=8", "config has no field 'model.widht'; did you mean 'model.width'"),
        ("--config.model.width=wide", "config field 'model.width' is a whole number; got 'wide'"),
        ("--config.model.width=1.5", "config field 'model.width' is a whole number"),
        ("--model.width=8", "a field is set as --config.<field>=<value>"),
        ("--config.model.width", "unknown argument"),
    ],
)
def test_bad_overrides_are_refused(item, message):
    with pytest.raises(InputError, match=message):
        configs.load(str(ROOT / "configs/demo.py"), [item])


def test_a_config_that_came_with_the_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.load("configs/demo.py").model.width == 128
    (tmp_path / "configs").mkdir()
    own = (ROOT / "configs/demo.py").read_text().replace('"width": 128', '"width": 64')
    (tmp_path / "configs/demo.py").write_text(own)
    assert configs.load("configs/demo.py").model.width == 64


def test_a_missing_config_names_the_others():
    with pytest.raises(InputError, match=r"no such config file; .*demo.py"):
        configs.load(str(ROOT / "configs/dmeo.py"))
    with pytest.raises(InputError, match=r"^demo: no such config file; .*configs/demo.py"):
        configs.load("demo")


def test_a_config_file_without_the_function_is_named(tmp_path):
    (tmp_path / "empty.py").touch()
    with pytest.raises(InputError, match=r"empty.py: has no get_config\(\)"):
        configs.load(str(tmp_path / "empty.py"))


@pytest.mark.parametrize("value", ["no", "1"])
def test_a_flag_of_a_config_is_true_or_false(value):
    with pytest.raises(InputError, match=f"seen is true or false; got '{value}'"):
        configs.load(f"configs/openbiokg.py:seen={value}")
    assert not configs.load("configs/openbiokg.py:seen=false").model.node_embedding


def test_an_unknown_choice_of_a_config_names_the_others():
    with pytest.raises(InputError, match=r"like 'dmo' is not in this config .did you mean 'demo'"):
        configs.load("configs/biobridge_recipe.py:like=dmo")


def test_a_config_that_invents_a_field_is_refused(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "from bridge_jax import config as c\n"
        "def get_config(width=8):\n d = c.default()\n d.model.widht = width\n return d\n"
    )
    with pytest.raises(InputError, match=r"widht.*width"):
        configs.load(f"{path}:width=16")
    with pytest.raises(InputError, match=r"argument 'depth' is not in .*bad.py.*; it has: width"):
        configs.load(f"{path}:depth=16")


def test_arguments_reach_the_config_file(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(
        "from bridge_jax import config as c\n"
        "def get_config(width=8, form='mlp'):\n d = c.default()\n d.model.width = width\n"
        " d.model.arch = form\n return d\n"
    )
    config = configs.load(f"{path}:width=16,form=linear")
    assert (config.model.width, config.model.arch) == (16, "linear")


@pytest.mark.parametrize(("old", "new"), configs.RENAMED.items())
def test_a_renamed_field_is_refused_with_its_new_name(old, new):
    assert new in dict(configs.flatten(configs.default()))
    with pytest.raises(InputError, match=f"{old}.* is now called '{new}'"):
        configs.override(configs.default(), f"--config.{old}=1")
    stored = configs.to_json(configs.default())
    part, name = old.split(".")
    stored[part][name] = stored[part].pop(new.split(".")[1])
    with pytest.raises(InputError, match=f"{old}.* is now called '{new}'"):
        configs.from_json(stored)
