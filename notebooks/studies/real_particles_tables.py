"""What the book shows of `reality`: tables, sentences and figures; every number is read off a stored run."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH

FIRST, READ = "CTF left in", "CTF undone"
_COLOURS = {
    "real, CTF left in": METHOD_COLOURS["ProtoNet-CE"],
    "real, CTF undone": METHOD_COLOURS["ProtoNet3D"],
    "simulated": "#000000",
    "training": OTHER_COLOURS[2],
}
_DASHES = {"real, CTF left in": (0, (4, 2)), "real, CTF undone": "-", "simulated": "-", "training": (0, (1, 1.5))}


def tried_frame(entry: dict) -> pd.DataFrame:
    """A row per step: how the family fared, and the accuracy on simulated classes with it where it applies to them."""
    rows = []
    for step, found in sorted(entry["result"]["tried"].items()):
        unharmed = entry["result"]["unharmed"].get(step, {})
        rows.append(
            {
                "Step": step,
                "Median rank": f"{found['median_rank']:.0f}",
                "Likeliest": f"{found['first']:.0%}",
                "Margin (nats)": f"{found['margin']:+.1f}".replace("-", "−"),
                "Rank, all together": f"{found['rank_together']:.0f}",
            }
            | {
                f"Simulated, SNR {snr:g}": f"{unharmed[f'{snr:g}'][0]:.3f}" if f"{snr:g}" in unharmed else "–"
                for snr in entry["spec"]["snrs"]
            }
        )
    return pd.DataFrame(rows)


def twins_frame(entry: dict) -> pd.DataFrame:
    """Shares told from their twins: a row per kind of particle."""
    twins = entry["result"]["twins"]
    rows = [
        {"Particles": kind.replace("empty", "noise alone"), "Told apart": f"{found['right']:.0%}"}
        | {"Of 90 % of the draws": f"{found['low']:.0%} to {found['high']:.0%}"}
        for kind, found in sorted(twins.items(), key=lambda item: (not item[0].startswith("real"), item[0]))
    ]
    return pd.DataFrame(rows)


def confusion_frame(entry: dict) -> pd.DataFrame:
    """Counts of a run of the tool: a row per true class, a column per class told, and the share accepted."""
    result = entry["result"]
    table = pd.DataFrame(result["found"], index=[f"told {name}" for name in result["names"]]).T
    table = table.loc[result["names"]]
    table["accepted"] = [f"{result['accepted'][name]:.0%}" for name in table.index]
    return table.rename_axis("truth").reset_index()


# ---------------------------------------------------------------- sentences


def protocol_text(entry: dict) -> str:
    """What was asked, in one line."""
    spec, result = entry["spec"], entry["result"]
    return (
        f"**Protocol.** {result['n_particles']} real particles; {len(result['classes'])} simulated classes, "
        f"{len(result['family'])} of them of the family ({', '.join(result['family'])}), SNR {spec['snr']:g}; "
        f"{spec['n_shot']} labelled particles per class, drawn {spec['n_draws']} times; the encoder that "
        "ships, two-covariance model, 20³ voxels of 2 nm."
    )


def cause_text(entry: dict) -> str:
    """What reading does to the low frequencies."""
    power = entry["result"]["power"]
    longest = entry["result"]["width_nm"]
    before, after, simulated = (power[kind][0] for kind in ("real, CTF left in", "real, CTF undone", "simulated"))
    return (
        f"In the longest waves that fit the box ({longest:.0f} nm) the files hold {before:.2f} of the mean power, "
        f"where simulated particles hold {simulated:.1f}; with the CTF undone it is {after:.1f}."
    )


def tried_text(entry: dict) -> str:
    """The table's main numbers in sentences."""
    result = entry["result"]
    tried = result["tried"]
    before, after = tried[FIRST], tried[READ]
    others = len(result["classes"]) - len(result["family"])
    best = max(tried, key=lambda step: tried[step]["first"])
    n = result["n_particles"]
    return (
        f"**Left as the files hold them**, the ribosomes rank {before['median_rank']:.0f} among {others + 1} (the "
        f"family's best class and {others} others), and {_most(before)}. **With the CTF undone** they rank "
        f"{after['median_rank']:.0f}; the likeliest class of all is one of the family for {after['first']:.0%} of them "
        f"(chance {len(result['family']) / len(result['classes']):.0%}), and {_most(after)}. The largest share of any "
        f"row is {tried[best]['first']:.0%} ({best}). It is the best of {len(tried)} rows on one class and {n} "
        "particles, so expect less on others."
    )


def support_text(entry: dict) -> str:
    """Real particles as support."""
    own, real = (entry["result"]["support"][key] for key in ("in their own noise", "in the real noise"))
    return (
        f"With {entry['spec']['n_shot']} of the real particles as support among {own['n_classes']} classes, "
        f"{own['real_right']:.0%} of the other real ones are found, and {own['simulated_right']:.0%} of the simulated. "
        "But the real ones are the only ones with real noise, which may give them away. With the simulated ones in the "
        f"noise of the real ones (SNR {entry['spec']['snrs'][-1]:g}) it is {real['real_right']:.0%} of the real and "
        f"{real['simulated_right']:.0%} of the simulated."
    )


def twins_text(entry: dict) -> str:
    """The control in a sentence."""
    twins = entry["result"]["twins"]
    found = twins["real, CTF undone"]
    by_shape = found["low"] > 0.5
    return (
        f"A real ribosome is told from its shapeless twin in **{found['right']:.0%}** of cases "
        f"({found['low']:.0%} to {found['high']:.0%} over 90 % of the draws; chance 50 %)"
        + (", so it is not by its noise alone that the encoder knows it." if by_shape else ": no more than chance.")
    )


def average_text(entry: dict) -> str:
    """Whether a ribosome appears when the particles are averaged at their own angles."""
    average = entry["result"]["average"]
    names = [name for name in average["likeness"] if name in entry["result"]["family"]]
    strangers = [name for name in average["likeness"] if name not in names]

    def listed(keys: list[str]) -> str:
        return ", ".join(f"{key} {max(average['likeness'][key]):.2f}" for key in keys)

    mirrored = [name for name in names if average["likeness"][name][1] > average["likeness"][name][0] + 0.02]
    hand = (
        f" The mirror image fits {', '.join(mirrored)} better, so the hand of these tomograms is in doubt; what the "
        "encoder says of mirror images is in the table."
        if mirrored
        else ""
    )
    best = max(average["likeness"], key=lambda name: max(average["likeness"][name]))
    resolution = f"{average['resolution_nm']:.1f} nm" if average["resolution_nm"] else "no resolution"
    return (
        f"The halves of the average agree to {resolution}. Of the complexes compared it resembles {best} most, "
        f"{'a ribosome' if best in names else 'which is no ribosome'}. Score of the best pose: {listed(names)}; and of "
        f"what single particles are most often taken for: {listed(strangers)}.{hand}"
    )


def run_text(entry: dict) -> str:
    """How the tool did."""
    result, spec = entry["result"], entry["spec"]
    real = result["found"][spec["name"]]
    return (
        f"{real[0]} of {sum(real)} real ribosomes get their class, {result['accepted'][spec['name']]:.0%} of them are "
        f"accepted; of all particles {result['accuracy']:.0%} get the right class (chance {1 / len(real):.0%})."
    )


def follow_text(entry: dict) -> str:
    """What a user should do."""
    labelled = entry["result"]["support"]["in the real noise"]["real_right"]
    best = max(found["first"] for found in entry["result"]["tried"].values())
    better = "Real labels do better than" if labelled > best else "Even real labels do no better than"
    return (
        f"{better} the best simulated support above: {labelled:.0%} of the real particles found against {best:.0%}. "
        "Simulated support does not stand for real particles. For your own, label a few of each kind, all "
        "from the same tomograms."
    )


def _most(found: dict) -> str:
    most = sorted(found["chosen"].items(), key=lambda item: -item[1])[:2]
    return "most are taken for " + " or ".join(f"{name} ({share:.0%})" for name, share in most)


# ---------------------------------------------------------------- figures


def spectra_figure(entry: dict) -> Figure:
    """Mean power per frequency against the wavelength, each kind on its own mean."""
    power, width = entry["result"]["power"], entry["result"]["width_nm"]
    figure, ax = plt.subplots(figsize=(WIDTH, 3.2))
    for kind, values in power.items():
        shells = np.arange(1, len(values) + 1)
        ax.plot(shells / width, values, "o", ls=_DASHES[kind], color=_COLOURS[kind], markersize=4, label=kind)
    shells = np.arange(1, len(values) + 1)
    ax.set_yscale("log")
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.set_xticks(shells / width, [f"{width / shell:.3g}" for shell in shells])
    ax.set(xlabel="wavelength (nm)", ylabel="power, relative to the mean")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def particles_figure(entry: dict) -> Figure:
    """Middles of some particles, a row per kind, each on its own grey scale."""
    pictures = entry["result"]["pictures"]
    n = len(next(iter(pictures.values())))
    edge = (WIDTH - 0.4) / n
    figure, axes = plt.subplots(len(pictures), n, figsize=(WIDTH, len(pictures) * edge), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for row, (kind, slices) in zip(axes, pictures.items(), strict=True):
        low, high = np.percentile(slices, [1, 99])
        for ax, values in zip(row, slices, strict=True):
            ax.imshow(values, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(kind.replace(", ", ",\n"))
    width = entry["result"]["width_nm"]
    bar = len(pictures[kind][0]) * 10 / width
    outline = [withStroke(linewidth=3, foreground="white")]
    axes[-1, -1].plot([1, 1 + bar], [1, 1], color="black", linewidth=3, solid_capstyle="butt", path_effects=outline)
    axes[-1, -1].text(1, 2, "10 nm", ha="left", va="bottom", path_effects=outline)
    return figure
