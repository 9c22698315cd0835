"""The text tower against open_clip's own, its weights in every form that people have them, and what is refused."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from common.clip_text import TextTower, TextTowerConfig, load_text_tower, random_text_tower, tokenize
from common.errors import DataError

SMALL = TextTowerConfig(width=64, layers=2, heads=4, context_length=16, vocab_size=50)
IDS = torch.randint(SMALL.vocab_size, (3, SMALL.context_length), generator=torch.Generator().manual_seed(0))


def clip_model(config=SMALL, patch=32):
    """open_clip's whole CLIP with random weights, the image tower and all."""
    vision = {"image_size": 2 * patch, "layers": 1, "width": 64, "patch_size": patch}
    text = {name: getattr(config, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    torch.manual_seed(0)
    return open_clip.CLIP(32, vision, text, quick_gelu=True).eval()


def half_state(model, prefix=""):
    return {prefix + name: tensor.half() for name, tensor in model.state_dict().items()}


def hugging_face_state(model, prefix="text_model."):
    """The same weights as transformers' CLIPModel names and splits them."""
    theirs = {
        "logit_scale": model.logit_scale,
        "vision_model.embeddings.patch_embedding.weight": model.visual.conv1.weight,
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(64, 64),
        f"{prefix}embeddings.token_embedding.weight": model.token_embedding.weight,
        f"{prefix}embeddings.position_embedding.weight": model.positional_embedding,
        f"{prefix}final_layer_norm.weight": model.ln_final.weight,
        f"{prefix}final_layer_norm.bias": model.ln_final.bias,
    }
    for index, block in enumerate(model.transformer.resblocks):
        layer = f"{prefix}encoder.layers.{index}"
        for kind in ("weight", "bias"):
            for letter, part in zip("qkv", getattr(block.attn, f"in_proj_{kind}").chunk(3), strict=True):
                theirs[f"{layer}.self_attn.{letter}_proj.{kind}"] = part
            theirs[f"{layer}.self_attn.out_proj.{kind}"] = getattr(block.attn.out_proj, kind)
            theirs[f"{layer}.layer_norm1.{kind}"] = getattr(block.ln_1, kind)
            theirs[f"{layer}.layer_norm2.{kind}"] = getattr(block.ln_2, kind)
            theirs[f"{layer}.mlp.fc1.{kind}"] = getattr(block.mlp.c_fc, kind)
            theirs[f"{layer}.mlp.fc2.{kind}"] = getattr(block.mlp.c_proj, kind)
    positions = {f"{prefix}embeddings.position_ids": torch.arange(SMALL.context_length)[None]}
    return {name: tensor.detach().half().clone() for name, tensor in theirs.items()} | positions


def save_archive(model, path):
    """As OpenAI's file: the whole model in half precision as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
        torch.jit.script(model.half()).save(path)


SAVED = {
    "OpenAI's archive": ("ViT.pt", save_archive),
    "an archive by another name": ("weights", save_archive),
    "state dict": ("a.pth", lambda model, path: torch.save(half_state(model), path)),
    "wrapped": ("b.bin", lambda model, path: torch.save({"epoch": 3, "state_dict": half_state(model)}, path)),
    "data parallel": ("c.pt", lambda model, path: torch.save({"state_dict": half_state(model, "module.")}, path)),
    "open_clip's text.": ("d.pt", lambda model, path: torch.save(half_state(model, "text."), path)),
    "text_model.": ("e.pt", lambda model, path: torch.save(half_state(model, "text_model."), path)),
    "single precision": ("f.pt", lambda model, path: torch.save(model.half().float().state_dict(), path)),
    "safetensors": ("g.safetensors", lambda model, path: save_file(half_state(model), path)),
    "Hugging Face": ("pytorch_model.bin", lambda model, path: torch.save(hugging_face_state(model), path)),
    "Hugging Face, safetensors": ("h.safetensors", lambda model, path: save_file(hugging_face_state(model), path)),
    "Hugging Face, no prefix": ("i.bin", lambda model, path: torch.save(hugging_face_state(model, ""), path)),
}


@pytest.mark.parametrize("form", SAVED)
def test_every_form_of_the_weights_gives_the_same_features(form, tmp_path):
    name, save = SAVED[form]
    save(clip_model(), tmp_path / name)
    tower = load_text_tower(tmp_path / name, SMALL)

    expected = TextTower(SMALL)
    half = {name: tensor.float() for name, tensor in half_state(clip_model()).items()}
    expected.load_state_dict({name: half[name] for name in expected.state_dict()})
    assert all(tensor.dtype == torch.float32 for tensor in tower.state_dict().values())
    assert torch.equal(tower(tower.embed(IDS)), expected(expected.embed(IDS)))
    assert tower.fingerprint == expected.fingerprint != random_text_tower(config=SMALL).fingerprint
    assert name in tower.source


def test_open_clips_own_text_encoder_agrees(tmp_path):
    model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None).eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual.")}
    save_file(state, tmp_path / "b32.safetensors")
    tower = load_text_tower(tmp_path / "b32.safetensors")
    ids = tokenize(["Walking", "A person"])
    with torch.no_grad():
        features = tower(tower.embed(ids))[torch.arange(2), ids.argmax(dim=-1)] @ model.text_projection
        torch.testing.assert_close(features, model.encode_text(ids))


def test_tokens_are_clips():
    assert tokenize(["A person"])[0, :5].tolist() == [49406, 320, 2533, 49407, 0]
    assert tokenize([""]).shape == (1, 77)


def test_a_feature_depends_on_the_tokens_up_to_it():
    tower = random_text_tower(config=SMALL)
    x = torch.randn(2, SMALL.context_length, SMALL.width)
    changed = x.clone()
    changed[:, 7] = torch.randn(SMALL.width)
    moved = (tower(changed) - tower(x)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == [False] * 7 + [True] * 9
    torch.testing.assert_close(tower(x[:, :5]), tower(x)[:, :5])


def test_frozen_yet_gradients_pass():
    tower = random_text_tower(config=SMALL)
    x = torch.randn(2, SMALL.context_length, SMALL.width, requires_grad=True)
    tower(x).pow(3).sum().backward()
    assert (x.grad.abs().sum(dim=-1) > 0).all()
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert all(parameter.grad is None for parameter in tower.parameters())


def test_the_random_tower_is_seeded_and_apart_from_torchs_random_state(tmp_path):
    torch.save(half_state(clip_model()), tmp_path / "clip.pt")
    state = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    first = random_text_tower(3, SMALL)
    assert first.fingerprint == random_text_tower(3, SMALL).fingerprint != random_text_tower(4, SMALL).fingerprint
    load_text_tower(tmp_path / "clip.pt", SMALL)
    after = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


def refusal(path, config=SMALL):
    with pytest.raises(DataError) as caught:
        load_text_tower(path, config)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert "--clip-weights" in message
    return message


def without(state, *endings):
    return {name: tensor for name, tensor in state.items() if not name.endswith(endings)}


REFUSED = {
    "only an image tower": (
        lambda: {"visual.proj": torch.zeros(2)},
        r"no CLIP text tower among its 1 tensors \(visual",
    ),
    "not a dict": (lambda: torch.zeros(3), "no CLIP text tower among its 0 tensors"),
    "odd wrapper": (lambda: {"state_dict": 3, 5: torch.zeros(1)}, "no CLIP text tower among its 0 tensors"),
    "ViT-B/16": (lambda: half_state(clip_model(patch=16)), "another CLIP: visual.conv1.weight is 16 pixels wide"),
    "wider": (
        lambda: half_state(clip_model(TextTowerConfig(128, 2, 4, 16, 50))),
        r"positional_embedding is \(16, 128\); expected \(16, 64\)",
    ),
    "deeper": (lambda: half_state(clip_model(TextTowerConfig(64, 3, 4, 16, 50))), "3 layers; expected 2"),
    "longer": (
        lambda: half_state(clip_model(TextTowerConfig(64, 2, 4, 20, 50))),
        r"positional_embedding is \(20, 64\); expected \(16, 64\)",
    ),
    "a tensor absent": (
        lambda: without(half_state(clip_model()), "ln_final.bias"),
        r"1 of the text tower's \d+ tensors are absent \(ln_final.bias\)",
    ),
    "many absent": (lambda: without(half_state(clip_model()), ".bias"), r"\d+ of .* absent \(.*, .*, .*, \.\.\.\)"),
    "Hugging Face's keys absent": (
        lambda: without(hugging_face_state(clip_model()), "layers.1.self_attn.k_proj.weight"),
        r"absent \(transformer.resblocks.1.attn.in_proj_weight\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_are_refused_in_one_line(case, tmp_path):
    make, message = REFUSED[case]
    torch.save(make(), tmp_path / "odd.pt")
    assert re.search(message, refusal(tmp_path / "odd.pt"))


@pytest.mark.parametrize("name", ["odd.pt", "odd.safetensors"])
def test_no_file_and_no_weights_are_refused_in_one_line(name, tmp_path):
    path = tmp_path / name
    assert "no such file" in refusal(path)
    path.write_bytes(b"<html>404</html>")
    assert "not readable as weights" in refusal(path)
    assert "not a file" in refusal(tmp_path)


def test_a_damaged_archive_is_refused_in_one_line(tmp_path):
    save_archive(clip_model(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    assert "not readable as weights" in refusal(tmp_path / "cut.pt")


class Touch:
    """Unpickled in the ordinary way, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "state dict", "archive"])
def test_no_code_of_the_file_runs(kind, tmp_path):
    weights, victim = tmp_path / "evil.pt", tmp_path / "victim"
    evil = pickle.dumps({"token_embedding.weight": Touch(victim)}, protocol=2)
    if kind == "pickle":
        weights.write_bytes(evil)
    elif kind == "state dict":
        torch.save({**half_state(clip_model()), "extra": Touch(victim)}, weights)
    else:
        save_archive(clip_model(), tmp_path / "good.pt")
        with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(weights, "w") as bad:
            for name in good.namelist():
                bad.writestr(name, evil if name.endswith("/data.pkl") else good.read(name))
    refusal(weights)
    assert not victim.exists()
    pickle.loads(evil)
    assert victim.exists()


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def unreachable(*_arguments, **_options):
        raise ConnectionError("a long story\nover several lines")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(DataError) as caught:
        load_text_tower()
    message = str(caught.value)
    assert "\n" not in message
    assert "ConnectionError" in message
    assert "--clip-weights FILE" in message
    assert "'--text-encoder random'" in message


def test_the_download_is_openais_file(monkeypatch, tmp_path):
    asked = []
    torch.save(half_state(clip_model()), tmp_path / "cached.pt")

    def cached(config):
        asked.append(config["url"])
        return str(tmp_path / "cached.pt")

    monkeypatch.setattr(open_clip, "download_pretrained", cached)
    assert "cached.pt" in load_text_tower(config=SMALL).source
    assert asked[0].endswith("/ViT-B-32.pt")
