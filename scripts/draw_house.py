"""Draw the package as a house, from its imports: who stands on which floor, and which wing imports which.

The floors are the layers of the import contract in pyproject.toml, which `make test` holds; arrows and lines are
counted in the code. The picture carries what it shows as JSON, so that a test can tell when it is out of date.

    python scripts/draw_house.py
"""

import json
import re
import textwrap
import tomllib
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import grimp
import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cryo_fewshot"
PICTURE = ROOT / "book" / "figures" / "house.svg"

WIDTH, GAP, MARGIN = 310, 40, 4  # points
LINE = 13
INK, PAPER, EDGE = "#1a1a1a", "#f4f4f1", "#8a8a8a"  # boxes are light with dark text on any background
COLOURS = {"recognition": "#0072B2", "reproduction": "#D55E00"}  # of their arrows; grey for all others
FILLS = {"top": "#ffffff", "root": "#dcebf5", "wing": PAPER}


def house() -> dict:
    """What the picture shows: floors from the top to the root, lines of code, imports between rooms.

    A room is a wing, the command line, or the root with all its files.
    """
    graph = grimp.build_graph("cryo_fewshot")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.split(r"[|:]\s*", layer) for layer in next(c for c in contracts if c["type"] == "layers")["layers"]]
    floors = [[name.strip(" ()") for name in layer if not name.strip(" ()").startswith("__")] for layer in layers]
    floors = [floor for floor in floors if floor]
    first_of_root = max(i for i, floor in enumerate(floors) if any((PACKAGE / name).is_dir() for name in floor)) + 1
    room_of = {name: name for floor in floors[:first_of_root] for name in floor}
    room_of |= {name: "root" for floor in floors[first_of_root:] for name in floor}
    found = {name.split(".")[1] for name in graph.modules if "." in name and not name.split(".")[1].startswith("__")}
    if homeless := found - room_of.keys():
        raise SystemExit(f"{', '.join(sorted(homeless))}: on no layer of the import contract in pyproject.toml")
    arrows = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = [room_of.get(name.split(".")[1]) if "." in name else None for name in (importer, imported)]
            if None not in pair and pair[0] != pair[1]:
                arrows.add(tuple(pair))
    return {
        "floors": [*floors[:first_of_root], ["root"]],
        "root": [sorted(floor) for floor in floors[first_of_root:]],
        "lines": {room: lines_of(name for name, its in room_of.items() if its == room) for room in {*room_of.values()}},
        "arrows": sorted(map(list, arrows)),
    }


def lines_of(names: Iterable[str]) -> int:
    """Lines of these modules and wings."""
    files = [file for name in names for file in [*PACKAGE.glob(f"{name}.py"), *(PACKAGE / name).glob("*.py")]]
    return sum(len(file.read_text().splitlines()) for file in files)


def data_of(picture: Path) -> dict:
    """The data that a picture carries."""
    return json.loads(unescape(re.search(r"<dc:description>(.*?)</dc:description>", picture.read_text(), re.S)[1]))


def draw(shown: dict, path: Path) -> None:
    """Draw the house on a transparent background, in a size that a phone shows without zooming."""
    texts = {room: room_text(room, shown) for floor in shown["floors"] for room in floor}
    heights = [10 + LINE * max(len(texts[room]) for room in floor) for floor in shown["floors"]]
    total = sum(heights) + GAP * (len(heights) - 1) + 10
    figure = Figure(figsize=(WIDTH / 72, total / 72), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, total))
    ax.set_axis_off()
    boxes, top = {}, total - 2
    for floor, height in zip(shown["floors"], heights, strict=True):
        boxes |= floor_boxes(floor, top, height)
        top -= height + GAP
    draw_arrows(ax, shown, boxes)
    for room, (left, bottom, width, height) in boxes.items():
        kind = "root" if room == "root" else "top" if room in shown["floors"][0] else "wing"
        ax.add_patch(Rectangle((left, bottom), width, height, facecolor=FILLS[kind], edgecolor=EDGE, linewidth=1))
        for number, line in enumerate(texts[room]):
            look = {"size": 9.5, "weight": "normal"} if number else {"size": 10, "weight": "bold"}
            place = (left + width / 2, bottom + height - 5 - LINE * (number + 0.5))
            ax.text(*place, line, ha="center", va="center", color=INK, family="DejaVu Sans", **look)
    with matplotlib.rc_context({"svg.hashsalt": "house", "svg.fonttype": "path"}):  # the same bytes on every machine
        figure.savefig(
            path, transparent=True, metadata={"Date": None, "Description": json.dumps(shown, sort_keys=True)}
        )


def room_text(room: str, shown: dict) -> list[str]:
    """Name and lines of code of a room, line by line; of the root, its files too."""
    size = f"{round(shown['lines'][room], -1):,} lines"
    if room != "root":
        return [room, size]
    files = [line for floor in shown["root"] for line in textwrap.wrap(", ".join(floor), 50)]
    return ["cryo_fewshot: the method", size, *files]


def floor_boxes(floor: list[str], top: float, height: float) -> dict[str, tuple[float, float, float, float]]:
    """Left, bottom, width and height of the rooms of a floor, side by side between the margins."""
    gap = 6
    width = (WIDTH - 2 * MARGIN - gap * (len(floor) - 1)) / len(floor)
    return {room: (MARGIN + i * (width + gap), top - height, width, height) for i, room in enumerate(floor)}


def draw_arrows(ax, shown: dict, boxes: dict) -> None:
    """An arrow from each room down to each that it imports, behind the rooms that lie between.

    All import the root: of these arrows, only those of the floor above it are drawn.
    """
    arrows = [pair for pair in shown["arrows"] if pair[1] != "root" or pair[0] in shown["floors"][-2]]
    centres = {room: left + width / 2 for room, (left, _, width, _) in boxes.items()}

    def place(room: str, other: str, others: list[str]) -> float:
        """Where on its edge a room meets another, in the order of those at the other ends."""
        left, _, width, _ = boxes[room]
        return left + width * (1 + sorted(others, key=centres.get).index(other)) / (1 + len(others))

    for importer, imported in arrows:
        start = place(importer, imported, [to for room, to in arrows if room == importer])
        end = place(imported, importer, [room for room, to in arrows if to == imported])
        _, bottom, _, height = boxes[imported]
        style = {
            "arrowstyle": "-|>",
            "color": COLOURS.get(importer, EDGE),
            "linewidth": 1.4,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.annotate("", (end, bottom + height), (start, boxes[importer][1]), arrowprops=style, zorder=0)


if __name__ == "__main__":
    draw(house(), PICTURE)
    print(f"Drawn: {PICTURE.relative_to(ROOT)}")
