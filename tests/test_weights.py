"""The encoder file: weights and card come back, and damage is told in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from cryo_fewshot import weights
from cryo_fewshot.encoder import Encoder3D, PooledEncoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.weights import load_encoder, save_encoder


def assert_equal_states(first, second):
    for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def with_statistics(encoder):
    """An encoder whose norms have met data, so that folding them has something to fold."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.uniform_(-1, 2)
                module.bias.normal_()
        for _ in range(20):
            encoder.train()(torch.randn(8, *(encoder.box,) * 3))
    return encoder.eval()


@pytest.mark.parametrize("encoder", [PooledEncoder3D(8, (4, 6)), Encoder3D(8, 2, 4)], ids=["pooled", "paper"])
def test_an_encoder_file_gives_back_weights_and_card(tmp_path, encoder):
    path = tmp_path / "ü.safetensors"
    save_encoder(path, with_statistics(encoder), {"note": "Tübingen", "values": [1, 2.5]})
    loaded, card = load_encoder(path)
    assert card["note"] == "Tübingen" and card["values"] == [1, 2.5]
    assert not loaded.training
    assert_equal_states(encoder, loaded)
    volumes = torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(encoder(volumes), loaded(volumes))


def damaged_files(folder):
    encoder = PooledEncoder3D(8, (4, 6))
    save_encoder(folder / "whole", encoder, {})
    whole = (folder / "whole").read_bytes()
    metadata = {"format": weights.FORMAT, "card": json.dumps({"architecture": {"kind": "PooledEncoder3D"}})}
    (folder / "empty").write_bytes(b"")
    (folder / "cut").write_bytes(whole[:-40])
    (folder / "text").write_text("not weights")
    (folder / "folder").mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "foreign")
    save_file({"weight": torch.zeros(2)}, folder / "no architecture", metadata=metadata)
    tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    for name, architecture in {
        "other kind": {"kind": "Oracle"},
        "other widths": {"kind": "PooledEncoder3D", "box": 8, "widths": [4, 7]},
        "widths of text": {"kind": "PooledEncoder3D", "box": 8, "widths": "46"},
    }.items():
        metadata = {"format": weights.FORMAT, "card": json.dumps({"architecture": architecture})}
        save_file(tensors, folder / name, metadata=metadata)
    torch.nn.init.constant_(encoder.blocks[0][0].bias, torch.nan)
    save_encoder(folder / "NaN", encoder, {})
    return [path for path in folder.iterdir() if path.name != "whole"] + [folder / "absent"]


def test_a_damaged_or_foreign_file_is_one_line(tmp_path):
    paths = damaged_files(tmp_path)
    assert len(paths) == 11
    for path in paths:
        with pytest.raises(UserError) as error:
            load_encoder(path)
        message = str(error.value)
        assert str(path) in message and "\n" not in message
        assert "save_encoder" in message


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(UserError, match="JSON"):
        save_encoder(tmp_path / "file", PooledEncoder3D(8, (4, 6)), {"value": float("nan")})
    with pytest.raises(UserError, match="Linear"):
        save_encoder(tmp_path / "file", torch.nn.Linear(1, 1), {})
    assert not list(tmp_path.iterdir())
