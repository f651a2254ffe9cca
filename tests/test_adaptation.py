"""ProtoNet-CE: the attention against its equations, and the distances of both spaces."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from cryo_fewshot.adaptation import (
    Adaptation,
    adapted_logits,
    both_distances,
    combined_logits,
    product_logits,
    weighted_logits,
    z_scored_logits,
)
from cryo_fewshot.errors import UserError
from cryo_fewshot.protonet import prototype_logits, prototypes


def random_episode(n_episodes=3, n_way=5, n_shot=4, m=11, dim=16):
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(n_episodes, n_way, n_shot, dim, generator=generator)
    return support, torch.randn(n_episodes, m, dim, generator=generator)


def projected_episode(model):
    with torch.no_grad():
        return [model.project(part) for part in random_episode()]


def adaptation(dim=16, **settings):
    torch.manual_seed(1)
    return Adaptation(dim, **settings).eval()


@pytest.mark.parametrize("layer_norm", [False, True])
def test_attention_equals_the_equations_and_torchs_own(layer_norm):
    model, (support, queries) = adaptation(layer_norm=layer_norm), random_episode(1)
    tokens = torch.cat([prototypes(support)[0], queries[0, :1]])
    asked, keys, values = (layer(tokens) for layer in (model.to_query, model.to_key, model.to_value))
    weights = torch.softmax(asked @ keys.T / 16**0.5, dim=-1)
    by_hand = tokens + model.output(weights @ values)
    by_hand = model.norm(by_hand) if layer_norm else by_hand
    assert torch.allclose(model.attend(model.project(tokens)), by_hand, atol=1e-5)
    by_torch = F.scaled_dot_product_attention(asked[None], keys[None], values[None])[0]
    assert torch.allclose(weights @ values, by_torch, atol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_inductive_distances_equal_attending_to_each_set(layer_norm):
    model, (support, queries) = adaptation(layer_norm=layer_norm), random_episode()
    centres = prototypes(support)
    expected = torch.empty(*queries.shape[:2], 5)
    for e in range(len(queries)):
        for q in range(queries.shape[1]):
            adapted = model.attend(model.project(torch.cat([centres[e], queries[e, q : q + 1]])))
            expected[e, q] = (adapted[-1] - adapted[:-1]).pow(2).sum(-1)
    distances = model.distances(model.project(support), model.project(queries))
    assert torch.allclose(distances, expected, rtol=1e-4, atol=1e-3)


def test_inductive_predictions_do_not_depend_on_other_queries_but_transductive_do():
    for variant, same in (("inductive", True), ("transductive", False)):
        model = adaptation(variant=variant)
        support, queries = projected_episode(model)
        changed = torch.cat([queries[:, :1], -queries[:, 1:]], dim=1)
        first = [model.distances(support, part)[:, 0] for part in (queries, changed)]
        assert torch.allclose(*first, atol=1e-4) == same


def test_the_combined_distance_is_the_sum_of_both():
    model, (plain_support, plain_queries) = adaptation(), random_episode()
    support, queries = projected_episode(model)
    total = prototype_logits(plain_support, plain_queries) + adapted_logits(model, support, queries)
    assert torch.allclose(combined_logits(model, support, queries), total, atol=1e-3)


@pytest.mark.parametrize("variant", ["inductive", "transductive"])
def test_a_permutation_of_classes_permutes_the_logits(variant):
    model = adaptation(variant=variant)
    support, queries = projected_episode(model)
    order = torch.tensor([3, 0, 4, 1, 2])
    for head in (prototype_logits, partial(adapted_logits, model), partial(combined_logits, model)):
        assert torch.allclose(head(support[:, order], queries), head(support, queries)[..., order], atol=1e-3)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("variant", ["inductive", "transductive"])
def test_episodes_may_lie_along_any_number_of_axes(variant, layer_norm):
    model = adaptation(variant=variant, layer_norm=layer_norm)
    support, queries = projected_episode(model)
    one_by_one = torch.stack([model.distances(s, q) for s, q in zip(support, queries, strict=True)])
    torch.testing.assert_close(model.distances(support, queries), one_by_one, rtol=1e-4, atol=1e-3)
    twice = model.distances(support.expand(2, *support.shape), queries.expand(2, *queries.shape))
    torch.testing.assert_close(twice, one_by_one.expand(2, *one_by_one.shape), rtol=1e-4, atol=1e-3)
    for head in (prototype_logits, partial(z_scored_logits, model), partial(combined_logits, model)):
        torch.testing.assert_close(head(support[0], queries[0]), head(support, queries)[0], rtol=1e-3, atol=1e-3)


def test_an_unknown_variant_is_refused():
    with pytest.raises(UserError, match="inductive, transductive"):
        Adaptation(8, variant="psychic")


@pytest.mark.parametrize("layer_norm", [False, True])
def test_transductive_distances_equal_attending_to_the_whole_episode(layer_norm):
    model, (support, queries) = adaptation(variant="transductive", layer_norm=layer_norm), random_episode()
    expected = []
    for centres, own in zip(prototypes(support), queries, strict=True):
        adapted = model.attend(model.project(torch.cat([centres, own])))
        expected.append((adapted[5:, None] - adapted[None, :5]).square().sum(-1))
    distances = model.distances(model.project(support), model.project(queries))
    torch.testing.assert_close(distances, torch.stack(expected), rtol=1e-4, atol=1e-3)


def test_other_ways_of_combining_the_distances():
    model = adaptation()
    support, queries = projected_episode(model)
    plain, adapted = both_distances(model, support, queries)
    for weight in (0.0, 0.3, 1.0):
        expected = -((1 - weight) * plain + weight * adapted)
        torch.testing.assert_close(weighted_logits(model, support, queries, weight), expected)
    torch.testing.assert_close(product_logits(model, support, queries), -plain * adapted)
    scores = z_scored_logits(model, support, queries)
    by_hand = [(d - d.mean(-1, keepdim=True)) / d.std(-1, keepdim=True) for d in (plain, adapted)]
    torch.testing.assert_close(scores, -(by_hand[0] + by_hand[1]))


def test_a_distance_below_zero_by_rounding_is_zero_in_the_product(monkeypatch):
    negative, positive = torch.full((1, 1, 2), -1e-7), torch.full((1, 1, 2), 4.0)
    for both in ((negative, positive), (positive, negative)):
        monkeypatch.setattr("cryo_fewshot.adaptation.both_distances", lambda *_, both=both: both)
        assert torch.equal(product_logits(None, None, None).abs(), torch.zeros(1, 1, 2))


def test_scores_of_classes_that_are_equally_far_are_zero_and_their_scale_does_not_count(monkeypatch):
    equal, unlike = torch.full((1, 1, 3), 2.0), torch.tensor([[[0.0, 3.0, 6.0]]])
    for scale in (1e-4, 1.0, 1e4):
        both = (equal, scale * unlike)
        monkeypatch.setattr("cryo_fewshot.adaptation.both_distances", lambda *_, both=both: both)
        torch.testing.assert_close(z_scored_logits(None, None, None), torch.tensor([[[1.0, 0.0, -1.0]]]))


def test_the_attention_starts_with_logits_of_order_one():
    torch.manual_seed(0)
    model = Adaptation(512)
    for layer in (model.to_query, model.to_key, model.to_value):
        assert float(layer.weight.std()) == pytest.approx(512**-0.5, rel=0.02)
    assert not model.output.bias.any()
    assert float(model.output.weight.std()) == pytest.approx(512**-0.5, rel=0.02)


def test_the_attention_is_that_of_the_text_unless_told_otherwise():
    plain, released = Adaptation(4), Adaptation(4, layer_norm=True, bias=True)
    assert plain.variant == "inductive" and plain.norm is None and released.norm is not None
    for name in ("to_query", "to_key", "to_value"):
        assert getattr(plain, name).bias is None and getattr(released, name).bias is not None
