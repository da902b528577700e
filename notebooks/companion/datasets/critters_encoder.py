"""The pretrained encoder of the toy: a SmallCNN that has learned other drawings, and is frozen then.

As ImageNet does for photographs, its classes are no breeds: each is a combination of attributes, whatever breed is
drawn with it. The weights lie beside this file, so that the toy's numbers hardly depend on the machine. Made by
`python -m companion.datasets.critters_encoder` (half a minute); what was drawn and how is in their metadata.
"""

from itertools import product
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy

from companion.datasets import critters_drawing
from labelaug_core.encoders import SmallCNN
from labelaug_core.files.cache import file_hash

WEIGHTS = Path(__file__).with_name("critters_encoder.safetensors")
WIDTH, IMAGES, STEPS, BATCH, LR, SEED, SIZE = 8, 4_800, 300, 128, 0.01, 9, 32


def other_drawings(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n drawings, uint8 [n, SIZE, SIZE, 3], with every combination of attributes in turn; its number is the class [n].

    The breed, which decides the proportions, is drawn for each image.
    """
    groups, breeds = critters_drawing.graph()
    kinds = []
    for species in groups["species"]:
        own = [breed for breed, allowed in breeds.items() if allowed["species"] == [species]]
        columns = list(breeds[own[0]])[1:]  # the first is the species
        kinds += [(own, dict(zip(columns, chosen, strict=True))) for chosen in product(*(groups[g] for g in columns))]
    images, classes = [], np.arange(n) % len(kinds)
    for i, k in enumerate(classes):
        own, attributes = kinds[k]
        rng = critters_drawing.stream(SEED, i)
        images.append(critters_drawing.draw(own[int(rng.random() * len(own))], attributes, rng, SIZE))
    return np.stack(images), classes


def pretrain(n: int = IMAGES, steps: int = STEPS) -> SmallCNN:
    """A SmallCNN, trained on n other drawings with a plain softmax over their combinations of attributes."""
    images, classes = (torch.from_numpy(a) for a in other_drawings(n))
    torch.manual_seed(SEED)
    encoder = SmallCNN(WIDTH)
    model = nn.Sequential(encoder, nn.Linear(encoder.dim, int(classes.max()) + 1)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, steps)
    for _ in range(steps):
        rows = torch.randint(n, (BATCH,))
        optimizer.zero_grad()
        cross_entropy(model(images[rows]), classes[rows]).backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


def load_weights(encoder: SmallCNN) -> SmallCNN:
    """The encoder with these weights, frozen, in evaluation mode. Raises ValueError for another width."""
    if encoder.dim != 4 * WIDTH:
        raise ValueError(f"{WEIGHTS.name} has the weights of width {WIDTH}, not of width {encoder.dim // 4}")
    encoder.load_state_dict(safetensors.torch.load_file(WEIGHTS))
    encoder.key = f"{encoder.key}-drawings-{file_hash(WEIGHTS)[:12]}"
    return encoder.requires_grad_(False).eval()


def made_from() -> dict[str, str]:
    """What the weights beside this file were made from: the hash of the drawing code and the settings."""
    with safe_open(WEIGHTS, "pt") as file:
        return file.metadata()


def settings_now() -> dict[str, str]:
    """What `pretrain` would make them from now."""
    numbers = {"width": WIDTH, "images": IMAGES, "steps": STEPS, "batch": BATCH, "lr": LR, "seed": SEED, "size": SIZE}
    return {name: str(value) for name, value in numbers.items()} | {"drawing": critters_drawing.drawing_hash()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    safetensors.torch.save_file(pretrain().state_dict(), WEIGHTS, metadata=settings_now())
    print(WEIGHTS.name, WEIGHTS.stat().st_size, "bytes")
