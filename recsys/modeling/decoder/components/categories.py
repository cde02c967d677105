"""Score of every item of a category that a user has bought, from a summary of those purchases."""

import torch
from torch import Tensor, nn

from recsys.modeling.decoder.components.base import Component, RuleAndNetwork, Sizes
from recsys.modeling.decoder.inputs import QueryTensors
from recsys.modeling.decoder.scores import CategoryScores
from recsys.signals.categories import CATEGORY_FEATURES

_CODE_WIDTH = 8


class CategoryComponent(Component):
    """Begin with half the log of how much likelier the user buys an item's finest category than others do."""

    name = "categories"
    position = 30

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        categories_VC = torch.tensor(sizes.codes.categories).contiguous()  # by item, ten times as fast to look up
        self.n_codes = sizes.codes.n_category_codes
        is_finest = torch.zeros(self.n_codes)
        is_finest[categories_VC[:, 0]] = 1
        self.is_finest = nn.Buffer(is_finest, persistent=False)
        self.categories_VC = nn.Buffer(categories_VC, persistent=False)
        self.net = RuleAndNetwork(CATEGORY_FEATURES, {"lift": 0.5}, (32,), _CODE_WIDTH, self._code_vectors)

    @classmethod
    def fits(cls, sizes: Sizes) -> bool:
        return sizes.codes.n_category_codes > 0

    def _code_vectors(self) -> nn.Module:
        vectors = nn.Embedding(self.n_codes, _CODE_WIDTH)
        nn.init.zeros_(vectors.weight)
        return vectors

    def init_scales(self, queries: QueryTensors, item_rows_NF: Tensor) -> None:
        self.net.scale.fit(queries.category_features_RF)

    def score(self, queries: QueryTensors) -> CategoryScores | None:
        code_R = queries.category_code_R
        if not len(code_R) or self.net.context is None:
            return None
        # Those that somebody here has bought: a table of all would be as large as users times products.
        code_U, place_R = torch.unique(code_R, return_inverse=True)
        context = self.net.context(code_U), place_R
        score_R = self.net(queries.category_features_RF, context, self.is_finest[code_R])
        score_UQ = score_R.new_zeros(len(code_U) + 1, len(queries))
        score_UQ = score_UQ.index_put((place_R + 1, queries.category_query_R), score_R)
        row_of_code = torch.zeros(self.n_codes, dtype=torch.int64, device=score_R.device)
        row_of_code[code_U] = torch.arange(1, len(code_U) + 1, device=score_R.device)
        return CategoryScores(score_UQ, row_of_code, self.categories_VC)
