"""The original ``model_config.yaml`` is read as it is, and a mistake in it is named."""

from pathlib import Path

import pytest

from recsys.config import FLAT_KEYS, Config, load_config
from recsys.errors import ConfigError

PUBLISHED = """\
lr: 0.0001
epochs: 100
batch_size: 256
seq_max_len: 24
hidden_size: 256
num_heads: 8
num_layers: 8
num_embeds: 1003
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "model_config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_flat_form_means_the_named_run_on_ids(tmp_path, root):
    flat = load_config(written(tmp_path, PUBLISHED))
    named = load_config(root / "configs" / "original_id.yaml", ["original.hidden_size=256", "original.num_embeds=1003"])
    assert flat == named
    assert flat == load_config(root / "model_config.yaml")


@pytest.mark.parametrize("key", FLAT_KEYS)
def test_every_flat_key_reaches_its_place(tmp_path, key):
    value = {"lr": 0.003, "hidden_size": 64, "num_heads": 2}.get(key, 7)
    config = load_config(written(tmp_path, f"{key}: {value}"))
    section, name = FLAT_KEYS[key]
    assert getattr(getattr(config, section), name) == value


def test_set_changes_a_flat_file_too(tmp_path):
    config = load_config(written(tmp_path, PUBLISHED), ["name=mine", "original.family=bert", "training.epochs=2"])
    assert (config.name, config.original.family, config.training.epochs) == ("mine", "bert", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PUBLISHED + "hiden_size: 64\n", r"model_config.yaml: unknown key hiden_size; did you mean hidden_size\?"),
        (PUBLISHED + "shop: mine\n", r"unknown key shop; the flat form knows lr, epochs, .*num_embeds"),
        ("lr: 0.001\nepoch: 3\n", r"model_config.yaml: unknown key epoch; did you mean epochs\?"),
        ("num_heads: 3\nhidden_size: 64\n", r"hidden_size 64 is not a multiple of num_heads 3"),
        ("lr: fast\nepochs: 3\n", r"training\.lr: .*found 'fast'"),
    ],
)
def test_a_mistake_in_a_flat_file_is_named(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(written(tmp_path, text))


def test_an_empty_file_is_no_flat_file(tmp_path):
    assert load_config(written(tmp_path, "")) == Config()


@pytest.mark.parametrize("name", ["original_id", "original_bert"])
def test_the_named_runs_read_what_the_preparation_of_held_out_customers_writes(root, name):
    config = load_config(root / "configs" / f"{name}.yaml")
    assert config.data.folder == Path("data/processed/hm-split")
    assert (config.data.top_k_items, config.data.min_history, config.data.max_history) == (1000, 2, 10)
    assert config.split.protocol == "customers"
