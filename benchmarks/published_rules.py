"""The published selection of purchases in pandas, to check ours by: ``python published_rules.py RAW KEPT COUNTS [N]``.

Reads two columns of ``RAW/transactions_train.csv``, writes ``COUNTS``, JSON with three of them (purchases of the N most
sold articles, customers who made them, histories of 2 to 10 of them), and ``KEPT``, a Parquet table of the customers
kept and of how many purchases each has. Knows nothing of recsys on purpose.
"""

import json
import sys
from pathlib import Path

import pandas as pd


def select(path: Path, n_articles: int) -> tuple[dict[str, int], pd.Series]:
    """Return the three counts, and the number of purchases of each customer kept, by customer id in their order.

    Of articles sold equally often the smaller id counts as sold more: the one rule that the original left open.
    """
    rows = pd.read_csv(path, usecols=["customer_id", "article_id"], dtype=str)
    sold = rows["article_id"].value_counts().rename_axis("article_id").reset_index(name="sold")
    top = sold.sort_values(["sold", "article_id"], ascending=[False, True]).head(n_articles)
    bought = rows.loc[rows["article_id"].isin(top["article_id"]), "customer_id"].value_counts()
    kept = bought[(bought >= 2) & (bought <= 10)]
    counts = {"purchases": int(bought.sum()), "customers": len(bought), "histories": len(kept)}
    return counts, kept.sort_index()


def main(raw: str, kept_path: str, counts_path: str, n_articles: str = "1000") -> None:
    counts, kept = select(Path(raw) / "transactions_train.csv", int(n_articles))
    kept.rename("n_events").rename_axis("user_id").reset_index().to_parquet(kept_path)
    Path(counts_path).write_text(json.dumps(counts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
