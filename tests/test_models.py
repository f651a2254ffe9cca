"""Models, tested by construction."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cryo_fewshot.adaptation import Adaptation, adapted_logits, combined_logits
from cryo_fewshot.baseline import baseline_logits
from cryo_fewshot.encoder import Encoder3D, FoldedEncoder, embed, embed_stream
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.errors import UserError
from cryo_fewshot.evaluation import confusion, correct_counts, mean_and_interval, predict
from cryo_fewshot.protonet import prototype_logits, prototypes, squared_distances

LABELS = np.repeat(np.arange(7), 20)
LABEL_AS_EMBEDDING = F.one_hot(torch.from_numpy(LABELS)).float()


def episodes(n_episodes=50, n_shot=5):
    return sample_episodes(LABELS, range(7), n_way=5, n_shot=n_shot, n_query=10, n_episodes=n_episodes, seed=0)


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


# ------------------------------------------------------------------ encoder


def test_the_papers_encoder_has_the_papers_size():
    encoder = Encoder3D()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 334_272
    assert encoder.embedding_dim == 512
    assert encoder(torch.zeros(2, 40, 40, 40)).shape == (2, 512)


def test_pooling_before_relu_changes_nothing():
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=2, width=6).train()
    volumes = torch.randn(5, 16, 16, 16)
    features = volumes[:, None]
    for convolution, norm, pool, relu in encoder.blocks:
        features = pool(relu(norm(convolution(features))))
    torch.testing.assert_close(encoder(volumes), features.flatten(1))


def test_the_folded_encoder_equals_the_encoder_in_evaluation():
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=3, width=8).train()
    for _ in range(3):
        encoder(torch.randn(20, 16, 16, 16))  # running statistics away from their start
    with torch.no_grad():
        for _, norm, _, _ in encoder.blocks:
            norm.weight.uniform_(-1, 1)  # negative scales too
            norm.bias.uniform_(-1, 1)
    encoder.eval()
    volumes = torch.randn(9, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(FoldedEncoder(encoder)(volumes), encoder(volumes), rtol=1e-4, atol=1e-5)
        assert torch.allclose(embed(encoder, volumes, chunk=2), encoder(volumes), rtol=1e-4, atol=1e-5)
        streamed = torch.cat(list(embed_stream(encoder, volumes.split(4))))
        assert torch.allclose(streamed, encoder(volumes), rtol=1e-4, atol=1e-5)
        in_bf16 = embed(encoder, volumes, precision="bf16")
        assert ((in_bf16 - encoder(volumes)).norm() / encoder(volumes).norm()) < 1e-2


def test_a_wrong_box_is_refused_with_both_sizes():
    with pytest.raises(UserError, match=r"\(28, 28, 28\).*40\^3"):
        Encoder3D()(torch.zeros(1, 28, 28, 28))
    with pytest.raises(UserError, match="too small"):
        Encoder3D(box=8, n_blocks=4)


# ------------------------------------------------------------------ prototypes and distances


def test_prototypes_are_means():
    support, _ = random_episode()
    by_hand = torch.stack([torch.stack([way.sum(0) / 4 for way in episode]) for episode in support])
    assert torch.allclose(prototypes(support), by_hand)


def test_logits_are_minus_squared_distances():
    support, queries = random_episode()
    difference = queries[:, :, None] - prototypes(support)[:, None]
    assert torch.allclose(prototype_logits(support, queries), -difference.pow(2).sum(-1), atol=1e-4)


def test_distances_stay_accurate_far_from_the_origin():
    support, queries = random_episode()
    near = squared_distances(queries, prototypes(support))
    assert torch.allclose(squared_distances(queries + 100, prototypes(support + 100)), near, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("variant", ["inductive", "transductive"])
def test_a_permutation_of_classes_permutes_the_logits(variant):
    model = adaptation(variant=variant)
    support, queries = projected_episode(model)
    order = torch.tensor([3, 0, 4, 1, 2])
    for head in (prototype_logits, partial(adapted_logits, model), partial(combined_logits, model)):
        assert torch.allclose(head(support[:, order], queries), head(support, queries)[..., order], atol=1e-3)


@pytest.mark.parametrize("n_shot", [1, 5])
def test_an_encoder_that_returns_the_label_scores_one(n_shot):
    tasks, model = episodes(n_shot=n_shot), adaptation(7)
    with torch.no_grad():
        projected = model.project(LABEL_AS_EMBEDDING)
    for embeddings, head in (
        (LABEL_AS_EMBEDDING, prototype_logits),
        (LABEL_AS_EMBEDDING, baseline_logits),
        (projected, partial(combined_logits, model)),
    ):
        assert (correct_counts(predict(embeddings, tasks, head)) == 50).all()


def test_an_encoder_that_returns_noise_scores_chance():
    noise = torch.randn(len(LABELS), 7, generator=torch.Generator().manual_seed(0))
    correct = correct_counts(predict(noise, episodes(400), prototype_logits))
    assert correct.mean() / 50 == pytest.approx(0.2, abs=0.03)


# ------------------------------------------------------------------ attention


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


def test_an_unknown_variant_is_refused():
    with pytest.raises(UserError, match="inductive, transductive"):
        Adaptation(8, variant="psychic")


# ------------------------------------------------------------------ baseline and scores


def test_the_finetuned_layer_of_an_episode_does_not_depend_on_other_episodes():
    support, queries = random_episode()
    together = baseline_logits(support, queries)
    alone = torch.cat([baseline_logits(support[i : i + 1], queries[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_confusion_counts_queries_by_class():
    tasks = episodes()
    predictions = predict(LABEL_AS_EMBEDDING, tasks, prototype_logits)
    predictions[0, 0, 0] = 1  # one query of the first way now goes to the second
    counts = confusion(predictions, tasks, 7)
    true, wrong = tasks.classes[0, :2]
    assert counts.sum() == tasks.query.size
    assert counts[true, wrong] == 1
    assert counts.sum() - np.trace(counts) == 1


def test_the_interval_is_that_of_the_mean():
    accuracies = np.random.default_rng(0).binomial(75, 0.8, size=1000) / 75
    mean, interval = mean_and_interval(accuracies)
    assert mean == pytest.approx(0.8, abs=0.01)
    assert interval == pytest.approx(1.96 * (0.8 * 0.2 / 75 / 1000) ** 0.5, rel=0.1)
