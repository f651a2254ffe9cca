"""One look: a colour and a marker for each method, told apart with any kind of colour vision."""

import matplotlib.pyplot as plt
import numpy as np

from cryo_fewshot.figures.style import METHOD_COLOURS, METHOD_MARKERS, OTHER_COLOURS, WIDTH, line_styles, use_style


def lightness(colour):
    """Relative luminance of a colour, 0 to 1, which every kind of colour vision sees."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in plt.matplotlib.colors.to_rgb(colour)
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_methods_keep_their_colours_whatever_stands_beside_them():
    alone, among = line_styles(["ProtoNet-CE"]), line_styles(["PLDA", "ProtoNet-CE", "another"])
    assert (
        alone["ProtoNet-CE"] == among["ProtoNet-CE"] == (METHOD_COLOURS["ProtoNet-CE"], METHOD_MARKERS["ProtoNet-CE"])
    )
    assert len(set(among.values())) == 3
    assert [among[name][0] for name in ("PLDA", "another")] == list(OTHER_COLOURS[:2])


def test_a_method_differs_from_its_mix_variant_in_lightness_and_marker():
    for method in ("ProtoNet3D", "ProtoNet-CE"):
        mix = f"{method} (mix)"
        assert lightness(METHOD_COLOURS[mix]) - lightness(METHOD_COLOURS[method]) > 0.15
        assert METHOD_MARKERS[mix] != METHOD_MARKERS[method]


def test_no_text_is_smaller_than_nine_points():
    use_style()
    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    assert min(plt.rcParams[name] for name in sizes) >= 9
    assert plt.rcParams["figure.dpi"] * WIDTH < 900  # pixels: a page's column
