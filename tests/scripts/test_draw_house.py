"""The picture of the house shows today's rooms and imports."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "draw_house.py"


@pytest.fixture(scope="module")
def draw_house():
    spec = importlib.util.spec_from_file_location("draw_house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_in_the_book_is_up_to_date(draw_house):
    shown, today = draw_house.data_of(draw_house.PICTURE), draw_house.house()
    again = "the picture is out of date: run python scripts/draw_house.py"
    for part in ("floors", "root", "arrows"):
        assert shown[part] == today[part], again
    for room, lines in today["lines"].items():  # shown to a newcomer, who wants the size and not the number
        assert abs(shown["lines"][room] - lines) <= max(50, 0.1 * lines), f"{room}: {again}"


def test_a_drawing_carries_its_data_and_the_same_data_give_the_same_bytes(draw_house, tmp_path):
    today = draw_house.house()
    for name in ("one.svg", "two.svg"):
        draw_house.draw(today, tmp_path / name)
    assert draw_house.data_of(tmp_path / "one.svg") == today
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_wing_on_no_floor_is_named(draw_house, tmp_path, monkeypatch):
    contract = (draw_house.ROOT / "pyproject.toml").read_text()
    assert "averaging | figures" in contract
    (tmp_path / "pyproject.toml").write_text(contract.replace("averaging | figures", "averaging"))
    monkeypatch.setattr(draw_house, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="figures: on no layer"):
        draw_house.house()
