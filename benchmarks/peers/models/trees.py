"""LightGBM on what is known of each past or popular item of a customer, one row an item."""

import numpy as np
from scipy import sparse

from benchmarks.peers.files import Budget, Events, Recommendations, best, matrix
from benchmarks.peers.models.peer import CHUNK, Peer, Settings, joined, n_threads

_ROUNDS = 2_000
_PATIENCE = 30


class BoostedTrees(Peer):
    """Whether an item is bought in the window, from the windows before; rounds are chosen on the validation window."""

    library = "lightgbm"
    each_fold = False

    def fit(self, events: Events, settings: Settings, budget: Budget) -> None:
        """Boost until the validation window's loss rises, or time is up."""
        import lightgbm

        tables = [self.split.features(date) for date in self.split.meta["features"]]
        features = np.concatenate([table[2] for table in tables])
        labels = np.concatenate([table[3] for table in tables if table[3] is not None])
        *_, held_out, answers = self.split.features(self.split.meta["validation"])
        learned = lightgbm.Dataset(features, label=labels, free_raw_data=True)

        def stop(env: lightgbm.callback.CallbackEnv) -> None:
            if not budget.left():
                raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list or [])

        self.model = lightgbm.train(
            {
                "objective": "binary",
                "learning_rate": 0.05,
                "num_leaves": 63,
                "min_data_in_leaf": 100,
                "feature_fraction": 0.8,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "num_threads": n_threads(),
                "seed": self.split.meta["seed"],
                "verbosity": -1,
            },
            learned,
            _ROUNDS,
            valid_sets=[lightgbm.Dataset(held_out, label=answers, reference=learned)],
            callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False), stop],
        )
        self.fitted = {"rounds": self.model.best_iteration, "rows": len(labels), "in_time": bool(budget.left())}

    def rank(self, date: str, history: Events, users: np.ndarray) -> tuple[Recommendations, Recommendations]:
        """Return the most likely items among past and popular ones."""
        user, item, features, _ = self.split.features(date)
        row = np.searchsorted(users, user)
        value = np.asarray(self.model.predict(features, num_threads=n_threads()), dtype=np.float32)
        likely = sparse.csr_matrix((value + 1, (row, item)), shape=(len(users), self.n_items))
        seen = matrix(history, self.n_users, self.n_items)[users]
        every, new = [], []
        for begin in range(0, len(users), CHUNK):
            scores = likely[begin : begin + CHUNK].toarray() - 1
            scores[scores < 0] = -np.inf
            every.append(best(scores, self.split.k))
            scores[seen[begin : begin + CHUNK].nonzero()] = -np.inf
            new.append(best(scores, self.split.k))
        return joined(every), joined(new)
