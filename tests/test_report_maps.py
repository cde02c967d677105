"""Maps that were drawn of a run stand in its report; what is no picture is refused."""

import re
import shutil
from pathlib import Path

import example_run
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from recsys.cli import build_app
from recsys.errors import DataError
from recsys.reports import figures
from recsys.reports.item_map.files import load_maps
from recsys.runs import find_run
from recsys.storage import write_json

WHOLE = Path("reports/figures/small-map-items.png")


@pytest.fixture
def drawn(workplace):
    example_run.write_run()
    example_run.write_scores()
    example_run.write_lists()
    run = find_run("small")
    assert load_maps(run) is None
    WHOLE.parent.mkdir(parents=True)
    figures.save(Figure(figsize=(1, 1)), WHOLE, "png")
    rows = {"items": {"n_items": 5, "purity_index_name": 0.25}, "random": {"n_items": 5}}
    write_json(run.report_folder / "map-quality.json", {"rows": rows})
    return run


def test_a_map_is_shown_with_its_quality(drawn):
    maps = load_maps(drawn)
    assert [(one.title, one.few, one.page) for one in maps.maps] == [("the decoder", None, "map-items.html")]
    assert maps.vectors == ["items", "random"]
    assert maps.measures == [("purity index", ["0.250", "–"])]
    assert CliRunner().invoke(build_app("report"), ["report", "--run", "small"]).exit_code == 0
    html = Path("reports/small/index.html").read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == 1
    assert 'href="map-items.html"' in html
    assert 'href="#maps"' in html


def test_what_is_no_picture_is_not_put_into_the_page(drawn):
    WHOLE.write_text("<script>alert(1)</script>")
    with pytest.raises(DataError, match="no PNG picture"):
        load_maps(drawn)


def test_training_and_maps_of_a_run_beside_are_shown(drawn):
    shutil.copytree("models/small", "models/text")
    picture = Path("reports/figures/text-map-text.png")
    figures.save(Figure(figsize=(1, 1)), picture, "png")
    done = CliRunner().invoke(
        build_app("report"), ["report", "--run", "small", "--beside", "text", "--beside", "small"]
    )
    assert done.exit_code == 0, done.output
    html = Path("reports/small/index.html").read_text(encoding="utf-8")
    assert 'href="../text/map-text.html"' in html
    assert html.count('src="data:image/png;base64,') == 3
    assert "Run “text”" in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_run_beside_without_a_map_says_how_to_draw_one(drawn):
    shutil.copytree("models/small", "models/text")
    assert CliRunner().invoke(build_app("report"), ["report", "--run", "small", "--beside", "text"]).exit_code == 0
    assert "recsys plots map --run text" in Path("reports/small/index.html").read_text(encoding="utf-8")
