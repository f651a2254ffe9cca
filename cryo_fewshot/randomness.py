"""Random numbers that depend on a seed and a counter alone: the same whatever the batch, the device or the worker.

Sequential generators make sample i depend on how many samples were drawn before it, and differ between CPU and GPU.
A counter-based generator hashes (seed, counter) instead; the hash is the finaliser of SplitMix64 (Steele, Lea and
Flood, OOPSLA 2014), in int64 arithmetic that wraps the same way everywhere.
"""

import hashlib

import torch

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def seed_from(*words: object) -> int:
    """A 63-bit seed from any words (numbers, names), the same on every machine and Python version."""
    digest = hashlib.blake2b("\x1f".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def complex_normals(seeds: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Complex Gaussian numbers with unit mean square, by the Box-Muller transform.

    Parameters
    ----------
    seeds : `(n,)` int64, one seed per sample
    counters : `(m,)` int64, which numbers of each sample's endless sequence to draw

    Returns
    -------
    `(n, m)` complex64; real and imaginary part each have variance 1/2.
    """
    high, low = _hashed_halves(seeds, counters)
    radius = torch.sqrt(-torch.log((high + 1) * 2.0**-32))
    return torch.polar(radius.float(), (low * (2 * torch.pi * 2.0**-32)).float())


def uniforms(seeds: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Uniform numbers in [0, 1): `(n, m)` float64, from seeds `(n,)` and counters `(m,)`."""
    return _hashed_halves(seeds, counters)[0] * 2.0**-32


def _hashed_halves(seeds: torch.Tensor, counters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    state = _mix(seeds * _GOLDEN)[:, None] + counters * _GOLDEN
    word = _mix(state)
    return ((word >> 32) & 0xFFFFFFFF).double(), (word & 0xFFFFFFFF).double()


def _mix(word: torch.Tensor) -> torch.Tensor:
    word = (word ^ _shift_right(word, 30)) * _MIX_1
    word = (word ^ _shift_right(word, 27)) * _MIX_2
    return word ^ _shift_right(word, 31)


def _shift_right(word: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts int64 arithmetically; the mask removes the copies of the sign bit.
    return (word >> bits) & ((1 << (64 - bits)) - 1)
