"""The original decoders: printed as published, causal, blind to padding, able to learn, given whole histories."""

import re

import numpy as np
import pytest
import torch
from toy import write_prepared

from recsys.config import Config, OriginalConfig, load_config
from recsys.errors import ConfigError
from recsys.evaluation.splits import make_split
from recsys.modeling.build import build_module
from recsys.modeling.original.batches import history_batches, tokens, whole_histories
from recsys.modeling.original.decoder import SinusoidalPosEmb, Transformer, loss_and_entropy, next_tokens
from recsys.modeling.original.recommender import OriginalRecommender, build_transformer
from recsys.modeling.recommenders.base import Candidates, all_items

PRINTED_ON_IDS = """\
Transformer(
  (embedding): Embedding(1003, 256)
  (pos_emb): SinusoidalPosEmb()
  (blocks): ModuleList(
    (0-7): 8 x TransformerBlock(
      (norm1): LayerNorm((256,), eps=1e-05, elementwise_affine=True)
      (multihead_attn): MultiheadAttention(
        (out_proj): NonDynamicallyQuantizableLinear(in_features=256, out_features=256, bias=True)
      )
      (norm2): LayerNorm((256,), eps=1e-05, elementwise_affine=True)
      (mlp): Sequential(
        (0): Linear(in_features=256, out_features=1024, bias=True)
        (1): ELU(alpha=1.0)
        (2): Linear(in_features=1024, out_features=256, bias=True)
      )
    )
  )
  (fc_out): Linear(in_features=256, out_features=1003, bias=True)
)"""


def printed_on_vectors(width: int) -> str:
    text = PRINTED_ON_IDS.replace("  (embedding): Embedding(1003, 256)\n", "")
    return text.replace("1024", str(4 * width)).replace("256", str(width))


def printed(model: torch.nn.Module) -> str:
    """What ``print(model)`` shows, without what newer PyTorch says of the bias of a LayerNorm."""
    return re.sub(r"(LayerNorm\(.*?), bias=True\)", r"\1)", str(model))


def test_the_decoder_on_ids_is_printed_as_published():
    assert printed(Transformer(1003, 256)) == PRINTED_ON_IDS


@pytest.mark.parametrize("width", [768, 384])
def test_the_decoder_on_text_vectors_has_their_width_and_no_embedding_layer(width):
    model = Transformer(1003, width, vectors=torch.zeros(1003, width))
    assert printed(model) == printed_on_vectors(width)
    assert not any("vectors" in name for name, _ in model.named_parameters())
    assert model.state_dict()["vectors"].shape == (1003, width)


def test_dropout_sits_in_attention():
    model = Transformer(20, 16)
    assert {block.multihead_attn.dropout for block in model.blocks} == {0.1}
    assert not [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]


def test_positions_are_sines_and_cosines_of_falling_frequency():
    vectors = SinusoidalPosEmb(6)(torch.arange(4))
    torch.testing.assert_close(vectors[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(vectors[3, :3], torch.sin(3 * torch.tensor([1.0, 1e-2, 1e-4])))
    torch.testing.assert_close(vectors.square().sum(-1), torch.full((4,), 3.0))


@pytest.fixture(params=["id", "bert"])
def model(request):
    torch.manual_seed(0)
    vectors = torch.randn(23, 16) if request.param == "bert" else None
    return Transformer(23, 16, num_heads=2, num_layers=2, vectors=vectors).eval()


def some_tokens(n_rows=3, length=8):
    return torch.randint(1, 22, (n_rows, length), generator=torch.Generator().manual_seed(1))


def test_a_state_does_not_depend_on_later_tokens_by_gradient(model):
    token_BT = some_tokens()
    vectors = model.token_vectors(token_BT).detach().requires_grad_()
    model.token_vectors = lambda _: vectors
    states = model(token_BT)
    for position in range(states.shape[1]):
        (gradient,) = torch.autograd.grad(states[:, position].square().sum(), vectors, retain_graph=True)
        assert gradient[:, position + 1 :].abs().sum().item() == 0
        assert gradient[:, : position + 1].abs().amax((0, 2)).min() > 0


def test_padding_changes_nothing_neither_while_learning_nor_while_answering(model):
    token_BT = some_tokens()
    padded_BT = torch.nn.functional.pad(token_BT, (0, 3))
    for learning in (torch.enable_grad(), torch.inference_mode()):
        with learning:
            torch.testing.assert_close(model(padded_BT)[:, :8], model(token_BT), rtol=1e-4, atol=1e-5)


def test_the_other_rows_of_a_batch_change_nothing(model):
    token_BT = some_tokens()
    torch.testing.assert_close(model(token_BT)[1:2], model(token_BT[1:2]), rtol=1e-4, atol=1e-5)


SETTINGS = [
    "split.protocol=customers",
    "original.family=id",
    "original.hidden_size=16",
    "original.num_heads=2",
    "original.num_layers=2",
    "original.seq_max_len=4",
    "original.batch_size=8",
    "training.lr=0.01",
]


def config_with(*changes: str) -> Config:
    return load_config(None, [*SETTINGS, *changes])


@pytest.fixture
def data(tmp_path):
    """Twenty customers; customer u buys u % 5 + 2 items, one a day: u + 1, u + 2, …"""
    events = [(user, 18_000 + step, user + step + 1) for user in range(20) for step in range(user % 5 + 2)]
    return write_prepared(tmp_path / "toy", events, n_items=30)


def batches_of(data, users, max_items, size, *, seed=None):
    sizes = OriginalConfig(seq_max_len=max_items, batch_size=size)
    return history_batches(data, whole_histories(data, np.array(users)), sizes, seed=seed)


def batch_of(data, users, max_items):
    (batch,) = batches_of(data, users, max_items, 99)
    return batch


def test_a_history_becomes_start_items_end_and_padding(data):
    batch = batch_of(data, [0, 1], 24)
    assert batch.token_BT.tolist() == [[31, 1, 2, 0], [31, 2, 3, 4]]
    assert batch.target_BT.tolist() == [[1, 2, 32, 0], [2, 3, 4, 32]]


def test_a_long_history_is_cut_from_its_end_and_only_the_end_is_marked(data):
    batch = batch_of(data, [4], 4)
    assert batch.token_BT.tolist() == [[31, 5, 6, 0, 0], [31, 7, 8, 9, 10]]
    assert batch.target_BT.tolist() == [[5, 6, 0, 0, 0], [7, 8, 9, 10, 32]]


def test_what_a_fold_knows_is_read_and_not_asked(data):
    fold = make_split(data, config_with("split.protocol=leave_one_out").split).tests[0]
    end = whole_histories(data, fold.user_index[:0])
    end[fold.user_index] = fold.history_end[fold.user_index] + 1
    (batch,) = history_batches(data, end, OriginalConfig(seq_max_len=4, batch_size=99), fold.history_end)
    assert batch.user_B.tolist() == fold.user_index.tolist()
    assert (batch.target_BT > 0).sum(1).tolist() == [1] * len(fold.user_index)
    assert batch.target_BT.max(1).values.tolist() == fold.target_item.tolist()


def test_every_event_is_a_target_once_an_epoch_in_an_order_of_seed_and_epoch(data):
    split = make_split(data, config_with().split)
    batches = history_batches(data, split.train_end, OriginalConfig(seq_max_len=4, batch_size=8), seed=1)

    def items_of(epoch: int) -> list[int]:
        batches.epoch = epoch
        return [int(item) for batch in batches for item in batch.target_BT.flatten() if 0 < item <= data.n_items]

    learned = np.repeat(split.train_end > data.offsets[:-1], np.diff(data.offsets))
    assert sorted(items_of(0)) == sorted(data.item[learned].tolist())
    assert items_of(0) == items_of(0) != items_of(1)
    assert batches.n_events == len(items_of(0))
    assert len(list(batches)) == len(batches)


def test_processes_share_an_epoch_without_overlap(data):
    found = []
    for rank in range(3):
        batches = batches_of(data, range(20), 4, 2)
        batches.rank, batches.world_size = rank, 3
        found += [batch.token_BT.tolist() for batch in batches]
        assert len(list(batches)) == len(batches)
    whole = [batch.token_BT.tolist() for batch in batches_of(data, range(20), 4, 2)]
    assert sorted(found) == sorted(whole)


def test_the_rate_of_several_processes_falls_over_the_steps_of_one(data, monkeypatch):
    n_batches = len(batches_of(data, range(20), 4, 8, seed=1))
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert len(batches_of(data, range(20), 4, 8, seed=1)) == -(-n_batches // 3)  # known before a loader is made


def test_processes_take_as_many_steps_each_and_together_every_batch(data):
    found = []
    for rank in range(3):
        batches = batches_of(data, range(20), 4, 8, seed=1)
        batches.rank, batches.world_size = rank, 3
        found.append([batch.token_BT.tolist() for batch in batches])
    whole = [batch.token_BT.tolist() for batch in batches_of(data, range(20), 4, 8, seed=1)]
    assert len(whole) % 3
    assert {len(some) for some in found} == {len(batches)} == {-(-len(whole) // 3)}
    assert all(any(one in some for some in found) for one in whole)


def test_loss_and_entropy_of_a_prediction_known_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [np.log(2.0), 0.0, 0.0, -np.inf]])
    loss, entropy = loss_and_entropy(logits[:1], torch.tensor([2]))
    assert loss.item() == pytest.approx(np.log(4))
    assert entropy.item() == pytest.approx(np.log(4))
    loss, entropy = loss_and_entropy(logits[1:, :3], torch.tensor([0]))
    assert loss.item() == pytest.approx(-np.log(1 / 2))
    assert entropy.item() == pytest.approx(np.log(2) / 2 + np.log(4) / 2)


@pytest.mark.parametrize("family", ["id", "bert"])
def test_it_overfits_ten_customers(tmp_path, family):
    # Each customer walks through own items: the first step is a guess among ten, everything after it is determined.
    events = [(user, 18_000 + step, 3 * user + step + 1) for user in range(10) for step in range(3)]
    data = write_prepared(tmp_path / "ten", events, n_items=30)
    torch.manual_seed(0)
    vectors = torch.randn(33, 16) if family == "bert" else None
    model = build_transformer(config_with(f"original.family={family}", "original.hidden_size=null"), data, vectors)
    model.eval()  # what is dropped at random would keep the loss above its floor
    batch = batch_of(data, range(10), 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        loss = loss_and_entropy(*next_tokens(model, batch))[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    floor = np.log(10) / 4  # three items and the end: only the first of the four is a guess
    assert losses[0] > 2.5
    assert losses[-1] == pytest.approx(floor, abs=0.1)


def recommend(data, day=18_003, k=30, **options):
    torch.manual_seed(0)
    model = build_transformer(config_with(), data)
    with torch.no_grad():
        model.fc_out.bias[[0, 31, 32]] = 50  # special tokens would come first if they could
    candidates = Candidates(all_items(30), **options)
    return OriginalRecommender(model, 4, chunk=7).recommend(data.histories(day), k, candidates)


def test_special_tokens_are_never_recommended(data):
    lists = recommend(data)
    assert all(sorted(row) == list(range(1, 31)) for row in lists.item.tolist())
    assert (np.diff(lists.score, axis=1) <= 0).all()


def test_what_was_bought_can_be_left_out(data):
    lists = recommend(data, k=20, exclude_seen=True)
    end = data.ends_before(18_003)
    for user, row in enumerate(lists.item.tolist()):
        assert not set(row) & set(data.item[data.offsets[user] : end[user]].tolist())


def test_what_comes_after_the_date_changes_no_list(data, tmp_path):
    events = np.stack([data.user_of_event(), data.day, data.item], axis=1).astype(np.int64)
    events[events[:, 1] >= 18_003, 2] = 17
    corrupted = write_prepared(tmp_path / "corrupted", events, n_items=30)
    assert np.array_equal(recommend(data).score, recommend(corrupted).score)


def test_a_list_reads_the_newest_events_after_a_start_mark(data):
    assert tokens(data, np.array([2, 5]), np.array([5, 5])).tolist() == [[31, 2, 3, 4], [31, 0, 0, 0]]


def test_a_vocabulary_that_does_not_fit_the_data_says_the_right_number(data):
    with pytest.raises(ConfigError, match=r"num_embeds is 1003, but .* holds 30 items .* set num_embeds: 33"):
        build_module(config_with("original.num_embeds=1003"), data)
    assert build_module(config_with("original.num_embeds=33"), data).model.fc_out.out_features == 33


def test_a_width_that_does_not_fit_the_vectors_or_the_heads_says_the_right_number(data):
    bert = config_with("original.family=bert", "original.hidden_size=32")
    with pytest.raises(ConfigError, match=r"hidden_size is 32, .* are 12 wide; set hidden_size: 12"):
        build_transformer(bert, data, torch.zeros(33, 12))
    eight = config_with("original.family=bert", "original.hidden_size=null", "original.num_heads=8")
    with pytest.raises(ConfigError, match=r"num_heads is 8, .* width 12; set num_heads: 4"):
        build_transformer(eight, data, torch.zeros(33, 12))
    with pytest.raises(ConfigError, match="hidden_size 18 is not a multiple of num_heads 8"):
        load_config(None, ["original.hidden_size=18"])
