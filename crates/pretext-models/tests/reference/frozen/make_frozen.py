"""Writes the reference embeddings of the frozen encoders, one json file each, beside this script.

Needs torch, torchvision, timm and transformers; the tests need none of them. Weights and pictures
are made by a formula over their names (`fill`), which tests/frozen.rs repeats, so that no weights
are committed: a json file holds the names and shapes of the tensors in a file of weights, as the
library at hand saves them, the shape of the pictures, and the embeddings.
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent


def uniform(name, count):
    """Numbers in [-1, 1) with 24 bits, by splitmix64 from the FNV-1a hash of `name`."""
    with np.errstate(over="ignore"):
        seed = np.uint64(0xCBF29CE484222325)
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        z = seed + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def fill(name, shape):
    """A tensor of a scale that keeps activations near one and lets every part matter."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    u = uniform(name, math.prod(shape))
    if name.endswith("running_var"):
        values = 1 + u / 2
    elif name.endswith(("gamma", "lambda1")) or (len(shape) == 1 and name.endswith(".weight")):
        values = 1 + u / 4
    elif len(shape) >= 2 and shape[0] > 1:
        values = u * math.sqrt(3 / math.prod(shape[1:]))
    else:
        values = u / 2
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def write(case, encoder, shapes, size, embed):
    """Embeds two pictures and writes the case."""
    x = torch.from_numpy(uniform("x", 2 * 3 * size * size).astype(np.float32))
    with torch.no_grad():
        y = embed(x.reshape(2, 3, size, size))
    record = {
        "encoder": encoder,
        "size": size,
        "tensors": shapes,
        "embeddings": [[float(f"{v:.7g}") for v in row] for row in y.tolist()],
    }
    (HERE / f"{case}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(f"{case}: {tuple(y.shape)}, mean of squares {y.square().mean():.3f}")


def by_state(case, encoder, model, size, embed):
    """A model whose files hold its `state_dict` as it is: torchvision and timm."""
    shapes = {name: list(t.shape) for name, t in sorted(model.state_dict().items())}
    model.load_state_dict({name: fill(name, shape) for name, shape in shapes.items()})
    write(case, encoder, shapes, size, embed(model.eval()))


def by_file(case, encoder, model, size, embed):
    """A model of transformers, whose files use other names than its `state_dict`."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = f"{folder}/model.safetensors"
        shapes = {name: list(t.shape) for name, t in sorted(load_file(path).items())}
        save_file({n: fill(n, s) for n, s in shapes.items()}, path, {"format": "pt"})
        model = type(model).from_pretrained(folder, attn_implementation="eager")
    write(case, encoder, shapes, size, embed(model.eval()))


def before_fc(model):
    model.fc = torch.nn.Identity()
    return model


def at_224(model):
    """timm resamples positions with antialiasing; the reference is the plain bicubic of Hugging
    Face, so the positions are resampled here."""

    def embed(x):
        pos = model.pos_embed[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
        pos = torch.nn.functional.interpolate(pos, size=(16, 16), mode="bicubic")
        pos = pos.permute(0, 2, 3, 1).reshape(1, 256, -1)
        small = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
        state = model.state_dict()
        state["pos_embed"] = torch.cat([model.pos_embed[:, :1], pos], 1)
        small.load_state_dict(state)
        return small.eval()(x)

    return embed


torch.set_num_threads(2)
by_state("resnet18", "resnet18", torchvision.models.resnet18(), 64, before_fc)
by_state("resnet50", "resnet50", torchvision.models.resnet50(), 64, before_fc)
for name in ["convnext_atto", "convnext_tiny", "convnextv2_atto"]:
    model = timm.create_model(name)
    head = lambda m: lambda x: m.forward_head(m.forward_features(x), pre_logits=True)
    by_state(name, name.replace("_", "-"), model, 64, head)
by_state(
    "dinov2_meta",
    "dinov2-small",
    timm.create_model("vit_small_patch14_dinov2", num_classes=0),
    224,
    at_224,
)
small = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6)
by_file(
    "dinov2_hugging_face",
    "dinov2-small",
    transformers.Dinov2Model(transformers.Dinov2Config(**small, image_size=518, patch_size=14)),
    224,
    lambda m: lambda x: m(x).pooler_output,
)
by_file(
    "dino_vits16",
    "dino-vits16",
    transformers.ViTModel(transformers.ViTConfig(**small, intermediate_size=1536)),
    224,
    lambda m: lambda x: m(x).last_hidden_state[:, 0],
)
by_file(
    "vit_classifier",
    "dino-vits16",
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**small, intermediate_size=1536, num_labels=10)
    ),
    224,
    lambda m: lambda x: m.vit(x).last_hidden_state[:, 0],
)
