import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toy import write_prepared

from recsys.config import load_config
from recsys.data.purchases import open_purchases
from recsys.errors import ConfigError, DataError, RunError
from recsys.modeling.build import build_module
from recsys.modeling.item_vectors import item_vectors
from recsys.modeling.lists import load_decoder
from recsys.modeling.original.text_transformer import PositionalEncoding, TextTransformer, text_vectors
from recsys.modeling.original.texts import Texts, ask, text_batches, tokenise
from recsys.modeling.train import train
from recsys.runs import TEXT_VECTORS_FILE, find_run

PRINTED = """TextTransformer(
  (item_embeddings): Embedding(30522, 128)
  (positional_encoding): PositionalEncoding(
    (dropout): Dropout(p=0.2, inplace=False)
  )
  (layers): ModuleList(
    (0-3): 4 x TransformerEncoderLayer(
      (self_attn): MultiheadAttention(
        (out_proj): NonDynamicallyQuantizableLinear(in_features=128, out_features=128, bias=True)
      )
      (linear1): Linear(in_features=128, out_features=2048, bias=True)
      (dropout): Dropout(p=0.2, inplace=False)
      (linear2): Linear(in_features=2048, out_features=128, bias=True)
      (norm1): LayerNorm((128,), eps=1e-05, elementwise_affine=True)
      (norm2): LayerNorm((128,), eps=1e-05, elementwise_affine=True)
      (dropout1): Dropout(p=0.2, inplace=False)
      (dropout2): Dropout(p=0.2, inplace=False)
    )
  )
  (output_layer): Linear(in_features=128, out_features=30522, bias=True)
)"""
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(40))]
PADDING, BEGIN, END = 0, 2, 3


@pytest.fixture
def tokenizer_folder(tmp_path):
    """A WordPiece tokenizer of forty words, as a BERT's folder holds it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: token for token, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - not a password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", END), ("[CLS]", BEGIN))
    tokenizer.add_special_tokens(WORDS[:5])
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    return tmp_path / "tokenizer"


@pytest.fixture
def texts(tokenizer_folder) -> Texts:
    random = np.random.default_rng(0)
    written = [" ".join(f"w{word}" for word in random.integers(40, size=1 + n % 9)) for n in range(64)]
    return tokenise(written, tokenizer_folder)


def config(*settings: str, objective: str = "causal"):
    small = ["width=16", "n_layers=2", "batch_texts=16"]
    named = [f"text_model.{setting}" for setting in (f"objective={objective}", *small)]
    return load_config(None, [*named, "training.accelerator=cpu", *settings])


def test_the_model_prints_as_published():
    model = TextTransformer(config(*[f"text_model.{one}" for one in ("width=128", "n_layers=4")]).text_model, 30_522)
    # Newer PyTorch says of a LayerNorm that it has a bias.
    assert str(model).replace("elementwise_affine=True, bias=True", "elementwise_affine=True") == PRINTED


def test_positions_are_sines_and_cosines_in_turn_over_the_root_of_the_width():
    encoding = PositionalEncoding(4, 0.0, max_tokens=10)
    expected = np.array([np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)]) / 2
    np.testing.assert_allclose(encoding(torch.zeros(1, 5, 4))[0, 3], expected, rtol=1e-5)


def test_texts_are_cut_at_the_longest_length_and_keep_their_end(tokenizer_folder):
    found = tokenise(["w1 w2 w3 w4 w5", "w9"], tokenizer_folder, 5)
    assert found.batch(np.arange(2)).tolist() == [[BEGIN, 6, 7, 8, END], [BEGIN, 14, END, PADDING, PADDING]]


@pytest.mark.parametrize("objective", ["causal", "original"])
def test_the_next_token_is_asked_for_wherever_there_is_one(texts, objective):
    rows = np.arange(64)
    batch = ask(texts, rows, config(objective=objective).text_model)
    asked = [(place // batch.token_BT.shape[1], place % batch.token_BT.shape[1]) for place in batch.place_M.tolist()]
    assert asked == [(row, column) for row in rows for column in range(texts.lengths[row] - 1)]
    expected = [int(texts.tokens[row][column + 1]) for row, column in asked]
    assert batch.target_M.tolist() == expected


def test_only_the_original_reads_padding_and_pads_every_text_to_the_longest_length(texts):
    batches = {name: ask(texts, np.arange(8), config(objective=name).text_model) for name in ("causal", "original")}
    assert batches["original"].token_BT.shape == (8, 90)
    assert not batches["original"].is_padding_BT.any()
    assert batches["causal"].token_BT.shape[1] == texts.lengths[:8].max()
    assert torch.equal(batches["causal"].is_padding_BT, batches["causal"].token_BT == PADDING)


def gradient_of_inputs(texts: Texts, objective: str) -> torch.Tensor:
    """How strongly the logits asked of the third token depend on each token of its text."""
    settings = config(objective=objective).text_model
    model = TextTransformer(settings, texts.vocabulary_size).eval()
    batch = ask(texts, np.array([8]), settings)
    seen = {}

    def keep(_module, _inputs, output):
        output.retain_grad()
        seen["vectors"] = output

    handle = model.item_embeddings.register_forward_hook(keep)
    model(batch.token_BT, batch.is_padding_BT)[0, 2, 0].backward()
    handle.remove()
    return seen["vectors"].grad[0].abs().sum(-1)


def test_a_causal_model_cannot_look_one_place_to_the_right_and_the_original_does(texts):
    assert (gradient_of_inputs(texts, "causal")[3:] == 0).all()
    original = gradient_of_inputs(texts, "original")
    assert original[3] > 0  # the very token that is asked for
    assert original[60] > 0  # padding


def test_an_epoch_holds_every_text_once_in_an_order_of_its_own(texts):
    batches = text_batches(texts, config(objective="causal").text_model, seed=1)
    first = torch.cat([batch.target_M for batch in batches])
    again = torch.cat([batch.target_M for batch in batches])
    batches.epoch = 1
    second = torch.cat([batch.target_M for batch in batches])
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)
    assert len(first) == batches.n_events - 64


@pytest.mark.parametrize("objective", ["causal", "original"])
def test_a_vector_depends_on_its_own_text_alone(texts, objective):
    torch.manual_seed(0)
    model = TextTransformer(config(objective=objective).text_model, texts.vocabulary_size)
    together = text_vectors(model, texts)
    alone = text_vectors(model, Texts([texts.tokens[5]], texts.vocabulary_size, PADDING, texts.special))
    np.testing.assert_allclose(together[5], alone[0], atol=1e-5)


def test_a_vector_is_the_mean_over_words_without_the_marks(texts):
    model = TextTransformer(config().text_model, texts.vocabulary_size).eval()
    row = 3
    tokens = texts.batch(np.array([row]))
    states = model(tokens, tokens == PADDING)[0]
    expected = states[1 : texts.lengths[row] - 1].mean(0)
    np.testing.assert_allclose(text_vectors(model, texts)[row], expected.detach(), atol=1e-5)


def test_a_text_of_no_word_has_a_vector_too(tokenizer_folder):
    found = tokenise(["", "w1"], tokenizer_folder)
    vectors = text_vectors(TextTransformer(config().text_model, found.vocabulary_size), found)
    assert np.isfinite(vectors).all()


@pytest.fixture
def shop(workplace, tokenizer_folder):
    """Sixty items of two categories whose words follow one another always."""
    items = pa.table(
        {
            "item_id": [f"{number:010d}" for number in range(1, 61)],
            "name": [f"w{number % 2} w{2 + number % 2} w{4 + number % 30}" for number in range(60)],
        }
    )
    write_prepared(workplace / "data/processed/toy", [(0, 18_000, 1), (0, 18_001, 2)], n_items=60, items=items)
    settings = ["name=words", "data.name=toy", "text.columns=[name]", f"text_model.tokenizer={tokenizer_folder}"]
    return config(*settings, "training.epochs=2", "training.lr=0.01", objective="causal")


def test_training_writes_a_run_whose_vectors_are_those_of_its_best_epoch(shop):
    info = train(shop)
    assert info["metric"] == "val_loss"
    found = find_run("words")
    log = (found.folder / "metrics.csv").read_text()
    assert "train_loss_epoch" in log
    assert "val_cross_entropy" in log
    vectors = item_vectors("text", found, found.open_data())
    assert vectors.shape == (60, 16)
    # Items 0 and 30 have one and the same text.
    np.testing.assert_array_equal(vectors[0], vectors[30])
    untrained = item_vectors("untrained", found, found.open_data(), np.array([7, 0]))
    assert np.abs(vectors[[7, 0]] - untrained).max() > 0.01


def test_vectors_of_all_texts_are_made_once_and_kept_with_the_run(shop, monkeypatch):
    train(shop)
    found = find_run("words")
    vectors = item_vectors("text", found, found.open_data())
    np.testing.assert_allclose(item_vectors("text", found, found.open_data(), np.array([7, 0])), vectors[[7, 0]])
    monkeypatch.setattr("recsys.modeling.original.text_transformer.text_vectors", lambda *_: pytest.fail("read anew"))
    np.testing.assert_array_equal(item_vectors("text", found, found.open_data()), vectors)
    np.testing.assert_array_equal(item_vectors("text", found, found.open_data(), np.array([7, 0])), vectors[[7, 0]])


def test_some_items_alone_are_read_without_keeping_anything(shop):
    train(shop)
    found = find_run("words")
    some = item_vectors("text", found, found.open_data(), np.array([7, 0]))
    assert not (found.folder / TEXT_VECTORS_FILE).exists()
    np.testing.assert_allclose(some, item_vectors("text", found, found.open_data())[[7, 0]], atol=1e-5)


@pytest.mark.parametrize("spoilt", ["other weights", "other texts", "cut short", "another shape"])
def test_kept_vectors_of_something_else_are_never_used(shop, workplace, spoilt):
    train(shop)
    found = find_run("words")
    path, data = found.folder / TEXT_VECTORS_FILE, found.open_data()
    vectors = item_vectors("text", found, data)
    if spoilt == "other weights":
        weights = load_file(found.folder / "weights.safetensors")
        weights["item_embeddings.weight"] += np.float32(1.0)
        save_file(weights, found.folder / "weights.safetensors")
    elif spoilt == "other texts":
        names = [f"w{5 + number % 30}" for number in range(60)]
        items = pa.table({"item_id": data.item_ids, "name": names})
        data = write_prepared(workplace / "data/processed/other", [(0, 18_000, 1)], n_items=60, items=items)
    elif spoilt == "cut short":
        path.write_bytes(path.read_bytes()[:100])
    else:
        kept = load_file(path)["vectors"]
        with safe_open(path, framework="np") as file:
            save_file({"vectors": kept[:5]}, path, metadata=file.metadata())
    again = item_vectors("text", found, data)
    assert again.shape == vectors.shape
    path.unlink()
    np.testing.assert_array_equal(again, item_vectors("text", found, data))
    if spoilt.startswith("other"):
        assert np.abs(again - vectors).max() > 0.01


def test_a_run_of_texts_recommends_nothing_and_a_decoder_reads_no_texts(shop):
    train(shop.model_copy(update={"training": shop.training.model_copy(update={"epochs": 1})}))
    found = find_run("words")
    with pytest.raises(RunError, match=r"recommends nothing; draw its map with `recsys plots map --run words"):
        load_decoder(found, found.open_data())
    with pytest.raises(RunError, match=r"has no decoder; take --embeddings text"):
        item_vectors("items", found, found.open_data())
    settings = json.loads((found.folder / "run.json").read_text())
    decoder = type(found)(found.folder, load_config(None, ["data.name=toy"]), settings)
    with pytest.raises(RunError, match=r"holds our decoder, which does not read texts"):
        item_vectors("text", decoder, found.open_data())


def test_held_out_texts_are_a_fifth_and_no_other(shop):
    module = build_module(shop, open_purchases(shop.data.folder))
    learned, held_out = (
        [tuple(row.tolist()) for batch in batches for row in batch.token_BT]
        for batches in (module.batches, module.held_out)
    )
    assert (len(learned), len(held_out)) == (24, 6)  # of sixty items, thirty texts
    assert not set(learned) & set(held_out)


def test_texts_that_are_all_the_same_are_refused(workplace, shop):
    items = pa.table({"item_id": ["1", "2"], "name": ["w1", "w1"]})
    data = write_prepared(workplace / "data/processed/same", [(0, 18_000, 1)], n_items=2, items=items)
    with pytest.raises(DataError, match="found 1 distinct item texts, expected at least 2"):
        build_module(shop, data)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no tokenizer.json; text_model.tokenizer names"):
        tokenise(["w1"], tmp_path)


def test_a_head_is_32_wide_and_divides_the_width():
    with pytest.raises(ConfigError, match=r"text_model.width 98 is not a multiple of its 3 attention heads"):
        load_config(None, ["text_model.width=98"])
