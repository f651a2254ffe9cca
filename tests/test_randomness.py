"""Random numbers from a seed and a counter: the hash, the distributions, and their independence."""

import cmath
import math

import pytest
import torch

from cryo_fewshot.randomness import complex_normals, seed_from, uniforms

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mixed(word):
    """The finaliser of SplitMix64 in Python's integers."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def test_numbers_are_the_hash_of_seed_and_counter():
    seeds, counters = [0, 1, -5, 2**62], [-3, 0, 7, 2**40]
    found = uniforms(torch.tensor(seeds), torch.tensor(counters))
    normal = complex_normals(torch.tensor(seeds), torch.tensor(counters))
    for i, seed in enumerate(seeds):
        for j, counter in enumerate(counters):
            word = mixed((mixed(seed * GOLDEN & WORD) + counter * GOLDEN) & WORD)
            assert found[i, j] == (word >> 32) / 2**32
            radius, angle = (-math.log((found[i, j] + 2**-32).item())) ** 0.5, 2 * math.pi * (word & 0xFFFFFFFF) / 2**32
            assert complex(normal[i, j]) == pytest.approx(cmath.rect(radius, angle), abs=1e-5)


def test_splitmix64_gives_its_published_first_number():
    assert mixed(GOLDEN) == 0xE220A8397B1DCDAF  # of the seed 0


def test_numbers_are_uniform_and_normal_and_independent():
    seeds, counters = torch.arange(200), torch.arange(500)
    flat = uniforms(seeds, counters)
    assert 0 <= flat.min() and flat.max() < 1
    assert float(flat.mean()) == pytest.approx(0.5, abs=0.005) and float(flat.var()) == pytest.approx(1 / 12, rel=0.02)
    normal = torch.view_as_real(complex_normals(seeds, counters)).double()
    assert normal.mean((0, 1)).abs().max() < 0.01
    torch.testing.assert_close(normal.square().mean((0, 1)), torch.full((2,), 0.5).double(), rtol=0.02, atol=0)
    fourth = normal.pow(4).mean((0, 1)) / normal.square().mean((0, 1)).square()
    torch.testing.assert_close(fourth, torch.full((2,), 3.0).double(), rtol=0.05, atol=0)
    assert abs(float((normal[..., 0] * normal[..., 1]).mean())) < 0.01
    assert (
        abs(float((normal[1:] * normal[:-1]).mean())) < 0.01
        and abs(float((flat[:, 1:] * flat[:, :-1]).mean()) - 0.25) < 0.005
    )


def test_a_seed_follows_from_its_words():
    assert seed_from("weights", 0) == seed_from("weights", 0) != seed_from("weights", 1)
    assert seed_from("ab", "c") != seed_from("a", "bc")
    assert seed_from("subtomogram", 2020, "1OEL", 0.1) == 6340582351003544631
    assert 0 <= seed_from("x") < 2**63
