import json
import re
import struct
from pathlib import Path

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.manifold import trustworthiness as reference_trustworthiness
from toy import write_prepared
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.config import dump_config, load_config
from recsys.errors import DataError, OutputExistsError, RunError, UsageError
from recsys.modeling.decoder.weights import save_weights
from recsys.modeling.recommenders.decoder import build_purchase_model, signals_of
from recsys.reports.item_map import attributes
from recsys.reports.item_map import layout as layouts
from recsys.reports.item_map.attributes import Attribute
from recsys.reports.item_map.draw import render
from recsys.reports.item_map.layout import Layout, compute_layout, kept_layout, plane, unit_vectors
from recsys.reports.item_map.neighbourhoods import clustering_agreement, nearest, purity, trustworthiness
from recsys.reports.item_map.picture import picture
from recsys.reports.shell import fill
from recsys.storage import write_json, write_text

N_ITEMS, N_TYPES = 120, 4
TYPE = np.arange(N_ITEMS) % N_TYPES
EVIL = "<script>alert('x')</script><b>"


@pytest.fixture
def clusters() -> np.ndarray:
    """Vectors (N, 8) of four categories that lie far apart."""
    random = np.random.default_rng(0)
    return (5 * np.eye(8)[TYPE] + random.normal(size=(N_ITEMS, 8), scale=0.3)).astype(np.float32)


def items(n: int = N_ITEMS) -> nw.DataFrame:
    columns = {
        "item_id": [f"{number:010d}" for number in range(1, n + 1)],
        "prod_name": [EVIL if number == 0 else f"Thing {number}" for number in range(n)],
        "product_type_name": [f"type {number % N_TYPES}" for number in range(n)],
        "colour_group_name": [None if number % 7 == 0 else f"colour {number % 3}" for number in range(n)],
        "index_name": [f"index {number % 5}" for number in range(n)],
        "garment_no": [str(number % 2) for number in range(n)],
    }
    return nw.from_native(pa.table(columns), eager_only=True)


def test_the_nearest_are_those_a_full_sort_finds(clusters):
    queried = np.array([3, 50, 119])
    distance = np.linalg.norm(clusters[queried][:, None] - clusters, axis=-1)
    expected = np.argsort(distance, axis=1, kind="stable")[:, 1:6]
    np.testing.assert_array_equal(nearest(clusters, queried, 5), expected)


def test_an_item_is_not_its_own_neighbour_even_where_another_stands_on_it():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert nearest(points, np.array([0, 1]), 1).tolist() == [[1], [0]]


def test_purity_is_one_among_like_items_and_the_share_of_the_category_by_chance(clusters):
    queried = np.arange(N_ITEMS)
    assert purity(nearest(clusters, queried), queried, TYPE) == 1
    noise = np.random.default_rng(1).normal(size=(N_ITEMS, 8))
    assert abs(purity(nearest(noise, queried), queried, TYPE) - 29 / 119) < 0.08


def test_trustworthiness_of_all_items_is_scikit_learn_s(clusters):
    random = np.random.default_rng(2)
    for layout in (clusters[:, :2], random.normal(size=(N_ITEMS, 2))):
        ours = trustworthiness(clusters.astype(float), layout, np.arange(N_ITEMS), 5)
        assert ours == pytest.approx(reference_trustworthiness(clusters, layout, n_neighbors=5), abs=1e-6)


def test_clusters_agree_with_their_own_categories_and_not_with_chance(clusters):
    assert clustering_agreement(clusters, TYPE, seed=0) == pytest.approx(1)
    assert clustering_agreement(clusters, np.random.default_rng(3).permutation(TYPE), seed=0) < 0.2


def test_unit_vectors_forget_what_all_have_in_common(clusters):
    np.testing.assert_allclose(unit_vectors(3 * clusters + 100), unit_vectors(clusters), atol=1e-4)
    assert np.isfinite(unit_vectors(np.ones((60, 3), dtype=np.float32))).all()
    with pytest.raises(DataError, match="not finite"):
        unit_vectors(np.full((60, 3), np.nan))


def test_a_map_keeps_like_items_together_and_follows_its_seed(clusters, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    layout = compute_layout(unit_vectors(clusters), seed=1)
    queried = np.arange(N_ITEMS)
    assert layout.plane.shape == (N_ITEMS, 2)
    assert layout.space.shape == (N_ITEMS, 3)
    assert purity(nearest(layout.plane, queried), queried, TYPE) > 0.95
    assert purity(nearest(layout.space, queried), queried, TYPE) > 0.9
    np.testing.assert_array_equal(plane(unit_vectors(clusters), 1), layout.plane)


def test_items_beyond_those_laid_out_in_space_stand_among_their_neighbours(clusters, monkeypatch):
    monkeypatch.setattr("recsys.reports.item_map.layout.SPACE_ITEMS", 90)
    space = compute_layout(unit_vectors(clusters), seed=1).space
    queried = np.arange(N_ITEMS)
    assert purity(nearest(space, queried), queried, TYPE) > 0.9


def test_too_few_items_make_no_map():
    with pytest.raises(DataError, match="found 20 items, expected at least 50 for a map"):
        plane(np.eye(20, dtype=np.float32), 0)


def test_points_are_read_back_only_for_the_vectors_and_the_seed_they_were_made_from(tmp_path, monkeypatch):
    layout = Layout(np.ones((2, 2), dtype=np.float32), np.zeros((2, 3), dtype=np.float32))
    computed = []
    monkeypatch.setattr(layouts, "compute_layout", lambda *given: computed.append(given) or layout)
    vectors = np.eye(2, dtype=np.float32)
    for points, seed, n_computed in ((vectors, 1, 1), (vectors, 1, 1), (vectors, 2, 2), (-vectors, 2, 3)):
        found = kept_layout(tmp_path / "map.parquet", points, pa.array(["a", "b"]), seed)
        np.testing.assert_array_equal(found.plane, layout.plane)
        np.testing.assert_array_equal(found.space, layout.space)
        assert len(computed) == n_computed


def test_known_columns_are_judged_and_the_index_is_the_legend():
    judged = attributes.judged(items())
    assert [one.name for one in judged] == ["product_type_name", "index_name", "colour_group_name"]
    assert attributes.coloured(items(), None, judged).name == "index_name"
    assert attributes.coloured(items(), "prod_name", judged).name == "prod_name"
    assert attributes.MISSING in judged[2].values


def test_of_an_unknown_catalogue_columns_that_items_share_are_judged():
    table = {"item_id": [str(n) for n in range(60)], "what": ["a", "b"] * 30, "own": [f"o{n}" for n in range(60)]}
    found = nw.from_native(pa.table(table), eager_only=True)
    judged = attributes.judged(found)
    assert [one.name for one in judged] == ["what"]
    assert attributes.coloured(found, None, judged).name == "what"
    with pytest.raises(UsageError, match="no column makes categories"):
        attributes.judged(found.select("item_id", "own"))
    with pytest.raises(UsageError, match="have no column colour to colour by; found item_id, what, own"):
        attributes.coloured(found, "colour", judged)


def test_the_largest_categories_come_first_and_the_rest_become_one():
    column = nw.from_native(pa.table({"c": ["a", "b", "b", "c", "c", "c", "d"]}), eager_only=True)
    one = attributes.read(column, "c")
    assert one.values == ["c", "b", "a", "d"]
    assert one.largest(3).values == one.values  # putting one category together with nothing gains nothing
    few = one.largest(2)
    assert few.values == ["c", "b", attributes.OTHERS]
    assert few.code.tolist() == [2, 1, 1, 0, 0, 0, 2]


@pytest.mark.parametrize("n", [40, 300])
def test_a_picture_has_a_legend_of_what_occurs_and_words_that_do_not_touch(n):
    random = np.random.default_rng(0)
    legend = Attribute("index_name", [f"group {number}" for number in range(14)], np.arange(n, dtype=np.int32) % 12)
    figure = picture(random.normal(size=(n, 2)), legend, legend, "A map")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 10
    assert labels[0] == f"group 0 ({-(-n // 12)})"
    assert labels[-1].startswith("all others")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert boxes
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


@pytest.mark.parametrize("n", [40, 400])
def test_words_are_not_cut_at_the_edge_of_a_picture(n):
    sides = np.arange(n) % 4
    plane = np.stack([np.where(sides < 2, -1.0, 1.0), np.linspace(-1, 1, n)], axis=1)
    words = Attribute(
        "product_type_name", [f"Swimwear bottoms, no. {number}" for number in range(4)], sides.astype(np.int32)
    )
    figure = picture(plane, words, words, "A map of items at its edges")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) >= 4
    room = figure.bbox.padded(-5)
    assert all((box.min >= room.min).all() and (box.max <= room.max).all() for box in boxes)
    legend = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(legend) for box in boxes)


def test_the_largest_group_of_a_category_gets_its_name_even_where_a_smaller_one_is_tighter():
    random = np.random.default_rng(0)
    plane = np.concatenate(
        [random.uniform(-10, -6, (1_500, 2)), random.normal(9, 0.05, (60, 2)), random.uniform(-10, 10, (400, 2))]
    )
    words = Attribute("product_type_name", ["Dress", "Top"], (np.arange(len(plane)) >= 1_560).astype(np.int32))
    (dress,) = (text for text in picture(plane, words, words, "A map").axes[0].texts if text.get_text() == "Dress")
    assert dress.xy[0] < -5


def test_a_page_holds_everything_and_lets_no_name_become_a_tag():
    layout = Layout(np.ones((N_ITEMS, 2), dtype=np.float32), np.ones((N_ITEMS, 3), dtype=np.float32))
    judged = attributes.judged(items())
    page = render(layout, items()["prod_name"].to_list(), judged[1], judged, title=EVIL)
    assert EVIL not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    found = json.loads(data)
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&lt;b&gt;" in found["names"]["values"]
    assert [one["name"] for one in found["attributes"]] == ["index", "product type", "colour group"]
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="', page)
    assert "default-src 'none'" in page


def test_text_in_a_script_keeps_its_meaning():
    value = {"a": "</script><!--", "b": "line\u2028end"}
    text = fill("{{ value | tojson }}", value=value)
    assert json.loads(text) == value
    assert "<" not in text


def png_size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


@pytest.fixture
def run(workplace, clusters):
    """A decoder's run whose item vectors are four clusters."""
    data = write_prepared(workplace / "data/processed/toy", [(0, 18_000, 1), (0, 18_009, 2)], n_items=N_ITEMS,
                          items=items().to_native())  # fmt: skip
    settings = ["name=shop", "data.name=toy", "model.width=8", "model.n_heads=2", "model.attributes=false"]
    config = load_config(None, settings)
    folder = workplace / "models/shop"
    write_text(folder / "config.yaml", dump_config(config))
    write_json(folder / "run.json", {"data_fingerprint": data.fingerprint})
    snapshots, user_codes = signals_of(config, data)
    model = build_purchase_model(config, snapshots.codes, user_codes, snapshots.n_promoted)
    with torch.no_grad():
        model.transformer()[0].own.weight[1 : N_ITEMS + 1] = torch.from_numpy(clusters)
    save_weights(model.state_dict(), folder / "weights.safetensors")
    return folder


def invoke(*arguments: str):
    return CliRunner().invoke(build_app("plots"), ["plots", "map", "--run", "shop", *arguments])


def test_the_command_writes_points_pictures_a_page_and_a_table_and_says_where(run):
    done = invoke("--embeddings", "items", "--compare-on", "60")
    assert done.exit_code == 0, done.output
    paths = [Path(line) for line in done.stdout.split("\n") if line]
    assert [path.name for path in paths] == [
        "shop-map-items.png", "shop-map-items-100.png", "map-items.html", "map-quality.json",
    ]  # fmt: skip
    assert min(png_size(paths[0])) > 800
    table = pq.read_table("reports/shop/map-items.parquet")
    assert table.column_names == ["item_id", "x", "y", "x3", "y3", "z3"]
    assert table.num_rows == N_ITEMS
    rows = json.loads(paths[3].read_text())["rows"]
    assert set(rows) >= {"items", "random", "items, all items"}
    assert rows["items"]["purity_product_type_name"] > 0.95 > 0.6 > rows["random"]["purity_product_type_name"]
    assert rows["items, all items"]["n_items"] == N_ITEMS


def test_points_of_the_same_vectors_are_not_computed_again(run, monkeypatch):
    assert invoke("--embeddings", "items", "--compare-on", "60").exit_code == 0
    assert isinstance(invoke("--embeddings", "items").exception, OutputExistsError)
    before = Path("reports/shop/map-items.parquet").stat().st_mtime_ns
    assert invoke("--embeddings", "items", "--compare-on", "60", "--force").exit_code == 0
    assert Path("reports/shop/map-items.parquet").stat().st_mtime_ns == before


def test_a_map_of_all_that_is_compared_is_drawn_once(run):
    done = invoke("--embeddings", "items")
    assert done.exit_code == 0, done.output
    assert "compare random" in done.stderr
    assert "compare items" not in done.stderr


def test_what_a_run_does_not_have_is_said(run):
    assert isinstance(invoke("--embeddings", "text").exception, RunError)
    error = invoke("--embeddings", "bert").exception
    assert isinstance(error, DataError)
    assert "run `recsys dataset embeddings` first" in str(error)


def test_stored_text_vectors_are_drawn_by_the_name_of_their_encoder(run, clusters):
    folder = Path("data/interim/embeddings/toy/some-bert")
    folder.mkdir(parents=True)
    save_file({"vectors": np.concatenate([np.zeros((3, 8), np.float32), clusters])}, folder / "vectors.safetensors")
    rows = pa.table({"item_id": items()["item_id"].to_list(), "row": pa.array(range(3, N_ITEMS + 3), pa.int32())})
    pq.write_table(rows, folder / "ids.parquet")
    write_json(folder / "manifest.json", {"n_vectors": N_ITEMS + 3, "dim": 8})
    done = invoke("--embeddings", "bert", "--encoder", "some-bert", "--compare-on", "60")
    assert done.exit_code == 0, done.output
    rows = json.loads(Path("reports/shop/map-quality.json").read_text())["rows"]
    assert rows["bert"]["purity_product_type_name"] > 0.95
    assert invoke("--embeddings", "items", "--encoder", "some-bert", "--compare-on", "60").exit_code == 0
    rows = json.loads(Path("reports/shop/map-quality.json").read_text())["rows"]
    assert {"bert", "bert, all items", "items", "items, all items"} <= set(rows)
