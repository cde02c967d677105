"""What an item's vector is made of, and what of it is known of an item that nobody has bought."""

import torch

from recsys.modeling.decoder.decoder import ItemTower

#: Two columns with two values each; nothing is said of the last row, the start mark.
CODES = torch.tensor([[0, 0], [1, 3], [1, 4], [2, 3], [2, 0], [0, 0]])


def test_an_item_is_its_own_vector_and_the_mean_of_what_its_attributes_say():
    tower = ItemTower(6, 8, CODES, 0.0)
    own, attribute = tower.own.weight, tower.attribute.weight
    vectors = tower(torch.tensor([[1, 4], [5, 0]]))
    torch.testing.assert_close(vectors[0, 0], own[1] + (attribute[1] + attribute[3]) / 2)
    torch.testing.assert_close(vectors[0, 1], own[4] + attribute[2] / 2)
    torch.testing.assert_close(vectors[1, 0], own[5])
    assert not vectors[1, 1].any()


def test_without_attributes_an_item_is_its_own_vector():
    tower = ItemTower(6, 8, CODES[:, :0], 0.5).train()
    torch.testing.assert_close(tower(torch.arange(6)), tower.own.weight)


def test_id_dropout_leaves_the_attributes_alone_to_place_an_item():
    torch.manual_seed(0)
    tower = ItemTower(6, 8, CODES, 0.5).train()
    item = torch.ones(1, dtype=torch.int64)
    described = (tower.attribute.weight[1] + tower.attribute.weight[3])[None] / 2
    draws = torch.stack([tower(item) for _ in range(400)])
    without = torch.isclose(draws, described, atol=1e-6).all(-1).flatten()
    assert 150 < int(without.sum()) < 250
    torch.testing.assert_close(draws[~without], (described + tower.own.weight[item]).expand_as(draws[~without]))


def test_an_item_that_was_never_sold_is_placed_by_its_attributes():
    tower = ItemTower(6, 8, CODES, 0.0)
    with torch.no_grad():
        tower.own.weight[2] = 0
    expected = (tower.attribute.weight[1] + tower.attribute.weight[4]) / 2
    torch.testing.assert_close(tower(torch.tensor([2]))[0], expected)
