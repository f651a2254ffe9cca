"""The numbers that Li et al. 2020 quote in their text. The cells of their tables are not in it: those are unknown here.

Li R, Yu L, Zhou B, Zeng X, Wang Z, Yang X, Zhang J, Gao X, Jiang R, Xu M. Few-shot learning for classification of novel
macromolecular structures in cryo-electron tomograms. PLOS Comput Biol 16(11):e1008227, 2020.
"""

from dataclasses import dataclass

NOT_QUOTED = "not quoted"


@dataclass(frozen=True)
class Claim:
    """One quoted number about the simulated data, and how to read it off Table 1.

    A claim is the accuracy of `first` (method, snr), minus that of `second` where there is one; `first` without a
    method stands for the best of all. `at_least` marks a number quoted as a lower bound; `quote` is the paper's
    sentence.
    """

    words: str
    n_shot: int
    paper: float
    first: tuple[str | None, float]
    second: tuple[str, float] | None = None
    at_least: bool = False
    quote: str = ""


_GRID = [(n_shot, snr) for n_shot in (5, 1) for snr in (0.1, 0.05, 0.03)]
_BEST = (
    "… we can make inference on new structures given only five labeled samples for each class with a competitive "
    "accuracy (> 0.86 on the simulated dataset with SNR = 0.1), or even one sample with an accuracy of 0.7644."
)
_GAPS = (
    "… the difference between the accuracy of the test sets with SNR = 0.05 and 0.03 is reduced (0.0936 to 0.0427 in "
    "5-way 5-shot, and 0.1614 to 0.0504 in 5-way 1-shot) …"
)
_CE = (
    "… our ProtoNet-CE model also outperforms the simple ProtoNet3D model with at least one percentage mean accuracy "
    "on all datasets …"
)
_BASELINE = (
    "Compared to the baseline method, our model (either the ProtoNet3D or the ProtoNet-CE) demonstrates superior "
    "classification performance."
)
_MIX_GENERAL = (
    "We also propose a mixture training strategy to attenuate the effect of noise in cryo-ET data, which performs well "
    "on simulated datasets."
)
_MIX_AT_003 = (
    "… the results shown in Table 1 exhibit a shift in the classification accuracy with SNR of 0.03 when trained on "
    "the mixed dataset …"
)
_MIX_QUOTES = {
    (5, 0.05): "And there is also a slight increase in the 5-way 5-shot case for the dataset with SNR of 0.05.",
    (5, 0.03): _MIX_AT_003,
    (1, 0.03): _MIX_AT_003,
}
"""The only two sentences on where mix training pays; at the other SNRs and shots there is the general one alone."""


def _gaps(method: str, words: str, five_shot: float, one_shot: float) -> list[Claim]:
    return [
        Claim(f"{words}: accuracy at SNR 0.05 minus at 0.03", shots, value, (method, 0.05), (method, 0.03), quote=_GAPS)
        for shots, value in ((5, five_shot), (1, one_shot))
    ]


def _above(method: str, other: str, by: float, n_shot: int, snr: float, quote: str) -> Claim:
    return Claim(f"{method} minus {other}, SNR {snr:g}", n_shot, by, (method, snr), (other, snr), True, quote)


TABLE_1_CLAIMS = (
    Claim("best method at SNR 0.1", 5, 0.86, (None, 0.1), at_least=True, quote=_BEST),
    Claim("best method at SNR 0.1", 1, 0.7644, (None, 0.1), quote=_BEST),
    *_gaps("ProtoNet3D", "ProtoNet3D, one SNR", 0.0936, 0.1614),
    *_gaps("ProtoNet3D (mix)", "ProtoNet3D, mix training", 0.0427, 0.0504),
    *(_above("ProtoNet-CE", "ProtoNet3D", 0.01, *task, _CE) for task in _GRID),
)
CLAIMS = (
    *TABLE_1_CLAIMS,
    # Said without a number, as differences above zero.
    *(_above("ProtoNet3D", "baseline", 0.0, *task, _BASELINE) for task in _GRID),
    *(_above("ProtoNet3D (mix)", "ProtoNet3D", 0.0, *task, _MIX_QUOTES.get(task, _MIX_GENERAL)) for task in _GRID),
)
TABLE_4_QUOTED = {
    ("noble", "ProtoNet3D", 5): 1.0,
    ("noble", "ProtoNet3D", 1): 1.0,
    ("noble", "ProtoNet-CE", 5): 1.0,
    ("noble", "ProtoNet-CE", 1): 1.0,
    ("guo", "ProtoNet3D", 5): 0.9227,
    ("guo", "ProtoNet3D", 1): 0.8407,
    ("guo", "ProtoNet-CE", 5): 0.9406,
    ("guo", "ProtoNet-CE", 1): 0.9153,
}
"""Accuracies on the real sets, by set, method and shots, 3-way; the baseline's are not quoted."""
LATER_REAL = {
    ("noble", 5): (0.6525, 0.0227),
    ("noble", 3): (0.6141, 0.0433),
    ("guo", 5): (0.6150, 0.0396),
    ("guo", 3): (0.5750, 0.0468),
}
"""Accuracy on all classes of a real set at once (Noble 7-way, Guo 6-way), mean and spread over 10 seeds, by set and
shots, from `LATER_SOURCE`: other authors, networks trained on simulated volumes alone."""
LATER_SOURCE = "arXiv:2609.14097"


def quoted_real(name: str) -> dict[tuple[str, int], float]:
    """Quoted accuracies on one real set, 'noble' or 'guo', by method and shots."""
    return {(method, n_shot): value for (of, method, n_shot), value in TABLE_4_QUOTED.items() if of == name}
