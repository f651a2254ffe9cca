"""The first page: three numbers with their meaning."""

from collections.abc import Sequence

import pandas as pd


def three_numbers(table: pd.DataFrame, expected: Sequence[dict], demonstration: dict) -> str:
    """HTML: the paper's methods, the pretrained encoder, and what it rejects.

    table : tidy Table 1; expected : `expected_accuracy` of the encoder's card; demonstration : a stored entry
    """
    part = table[(table["n_episodes"] == table["n_episodes"].max()) & (table["n_shot"] == table["n_shot"].max())]
    part = part[part["snr"] == part["snr"].max()]
    best = part.loc[part["accuracy"].idxmax()]
    same = next(row for row in expected if (row["snr"], row["n_shot"]) == (best["snr"], best["n_shot"]))
    spec, result = demonstration["spec"], demonstration["result"]
    numbers = {
        f"of particles are assigned to the right one of {best['n_way']} classes by the best of the paper's methods "
        f"({best['method']}), run again at 20³: {best['n_shot']} labels per class, SNR {best['snr']:g}. Guessing gives "
        f"{1 / best['n_way']:.0%}.": best["accuracy"],
        "with the encoder that comes with the package, on the same particles and tasks. It was trained for longer, on "
        "other complexes, simulated on the fly.": same["accuracy"],
        f"of {len(spec['outsiders']) * spec['n_particles']} particles of unknown complexes were accepted in a run of "
        f"<code>classify</code> that promises at most {spec['false_accept_rate']:.0%}. It accepted "
        f"{result['kept']:.0%} of the known ones and left the rest for you to look at.": result["false_accepts"],
    }
    shown = "".join(f"<p><strong>{number:.0%}</strong> {meaning}</p>" for meaning, number in numbers.items())
    return f'<div class="big-numbers">{shown}</div>'
