"""What an item's vector is made of, and what of it is known of an item that nobody has bought."""

import shutil

import pytest
import torch
from toy import toy_data, write_vectors

from recsys.config import Config, ModelConfig, SplitConfig, TextConfig, TrainingConfig, dump_config
from recsys.errors import DataError, RunError
from recsys.modeling.factory import build_module
from recsys.modeling.item_tower import ItemTower, scaled_texts
from recsys.modeling.models import load_decoder
from recsys.modeling.weights import save_weights
from recsys.runs import Run

NOTHING_TOLD = torch.zeros(6, 0, dtype=torch.int64)
TEXTS = scaled_texts(torch.tensor([[9.0, 9.0], [1.0, 5.0], [3.0, 5.0], [5.0, 5.0], [3.0, 9.0]]))


def test_texts_have_mean_0_and_deviation_1_over_the_items_each_number_divided_by_how_many_there_are():
    apart = 2 / (8 / 4) ** 0.5 / 2
    torch.testing.assert_close(TEXTS[:, 0], torch.tensor([0, -apart, 0, apart, 0, 0]))
    torch.testing.assert_close(TEXTS[:, 1], torch.tensor([0, -1, -1, -1, 3, 0]) / 3**0.5 / 2)
    assert torch.isfinite(scaled_texts(torch.ones(4, 3))).all()  # what never varies


def test_a_text_adds_a_linear_image_of_its_vector():
    tower = ItemTower(6, 8, NOTHING_TOLD, 0.0, TEXTS)
    items = torch.tensor([[1, 4], [5, 0]])
    expected = tower.own.weight[items] + TEXTS[items] @ tower.from_text.weight.T
    torch.testing.assert_close(tower(items), expected)
    assert not tower(torch.tensor([0])).any()
    tower(items).sum().backward()
    assert tower.from_text.weight.grad.any()
    assert "text_NE" not in dict(tower.named_parameters())


def test_id_dropout_leaves_the_text_alone_to_place_an_item():
    torch.manual_seed(0)
    tower = ItemTower(6, 8, NOTHING_TOLD, 0.5, TEXTS).train()
    item = torch.ones(1, dtype=torch.int64)
    described = TEXTS[item] @ tower.from_text.weight.T
    draws = torch.stack([tower(item) for _ in range(400)])
    without = (draws == described).all(-1).flatten()
    assert 150 < int(without.sum()) < 250
    torch.testing.assert_close(draws[~without], (described + tower.own.weight[item]).expand_as(draws[~without]))


@pytest.fixture
def data(tmp_path):
    return toy_data(tmp_path, n_users=30, n_items=25, n_days=70, seed=5)


def settings(tmp_path, *, text=True):
    model = ModelConfig(width=16, n_layers=1, n_heads=2, max_length=12, dropout=0.0, text=text)
    training = TrainingConfig(batch_tokens=256)
    text_config = TextConfig(embeddings=tmp_path / "vectors")
    return Config(model=model, split=SplitConfig(n_folds=1), training=training, text=text_config)


def test_a_decoder_with_texts_begins_as_one_without_and_learns_from_them(data, tmp_path):
    write_vectors(tmp_path / "vectors", 25, width=6)
    plain = build_module(settings(tmp_path, text=False), data)
    module = build_module(settings(tmp_path), data)
    assert not module.model.items.from_text.weight.any()
    batch = next(iter(module.batches))
    module.model.items.own.load_state_dict(plain.model.items.own.state_dict())
    items, expected = (one.model.items.eval()(batch.target_BT) for one in (module, plain))
    torch.testing.assert_close(items, expected)
    module.log = lambda *_, **__: None
    module.training_step(batch).backward()
    assert module.model.items.from_text.weight.grad.any()


def test_a_run_carries_its_texts(data, tmp_path):
    write_vectors(tmp_path / "vectors", 25, width=6)
    config = settings(tmp_path)
    model = build_module(config, data).model.eval()
    torch.nn.init.normal_(model.items.from_text.weight)
    folder = tmp_path / "run"
    folder.mkdir()
    save_weights(model.state_dict(), folder / "weights.safetensors")
    (folder / "config.yaml").write_text(dump_config(config))
    shutil.rmtree(tmp_path / "vectors")
    again = load_decoder(Run(folder, config, {}), data).model.eval()
    torch.testing.assert_close(again.item_vectors_VD, model.item_vectors_VD)
    state = model.state_dict()
    save_weights({name: value for name, value in state.items() if "text" not in name}, folder / "weights.safetensors")
    with pytest.raises(RunError, match="no text vectors"):
        load_decoder(Run(folder, config, {}), data)


def test_missing_texts_are_counted_and_said(data, tmp_path):
    with pytest.raises(DataError, match="run `recsys dataset embeddings` first"):
        build_module(settings(tmp_path), data)
    write_vectors(tmp_path / "vectors", 21, width=6)
    with pytest.raises(DataError, match="lacks 4 of the 25 items"):
        build_module(settings(tmp_path), data)
