"""The code of docs/library.md and of the README is run as it stands, on an invented frame."""

import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recsys

ROOT = Path(__file__).parents[1]
SMALL = {
    "model.width": 16,
    "model.n_layers": 1,
    "model.max_length": 32,
    "training.epochs": 1,
    "training.query_windows": 2,
    "evaluation.n_bootstrap": 100,
}


@pytest.fixture
def frames():
    """Purchases, newer ones and a table of new products, with the ids and column names of the pages."""
    random = np.random.default_rng(3)
    users = np.array(["17850", "13047", *(str(12400 + n) for n in range(38))])
    items = np.array(["85123A", "71053", *(f"2{n:04}" for n in range(38))])

    def purchases(n: int, start: str, n_days: int) -> pd.DataFrame:
        days = pd.to_timedelta(random.integers(0, n_days, n), unit="D")
        return pd.DataFrame(
            {
                "CustomerID": users[np.arange(n) % len(users)],
                "StockCode": items[random.integers(0, len(items), n)],
                "InvoiceDate": pd.Timestamp(start) + days,
                "UnitPrice": 1.5,
            }
        )

    yesterday = purchases(5, "2011-12-10", 1)
    yesterday.loc[0, "StockCode"] = "N1"
    products = pd.DataFrame({"StockCode": ["N1"]})
    return {"df": purchases(1600, "2011-08-01", 130), "yesterday": yesterday, "products": products}


@pytest.mark.parametrize("page", ["docs/library.md", "README.md"])
def test_the_code_of_the_page_runs(page, frames, tmp_path, monkeypatch):
    fit = recsys.fit

    def fit_small(shop, system="decoder", *, epochs=None, settings=None, **others):
        # What the page asks for has to be valid, but a smaller decoder answers.
        assert epochs is None or epochs > 0
        return fit(shop, system, settings={**(settings or {}), **SMALL}, **others)

    monkeypatch.setattr(recsys, "fit", fit_small)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    Path("page.py").write_text("\n".join(blocks), encoding="utf-8")
    names = runpy.run_path("page.py", init_globals=frames)
    lists = names["model"].recommend(history=[("85123A", "2011-12-05")], k=3, reasons=True)
    assert list(lists.columns) == ["user_id", "rank", "item_id", "score", "reason"]
