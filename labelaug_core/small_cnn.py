"""The toy world's encoder: a small convolutional network, trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn

from labelaug_core.encoders import flipped


class SmallCNN(nn.Module):
    """Four 3x3 convolutions from scratch for small drawings. uint8 images [B, S, S, 3] -> [B, 4 * width].

    In training every image is flipped left to right with probability 1/2.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.dim, self.key = 4 * width, f"small-cnn-{width}"
        channels = [3, width, 2 * width, 2 * width, 4 * width]
        blocks = []
        for i, (a, b) in enumerate(zip(channels, channels[1:], strict=False)):
            pool = [nn.MaxPool2d(2)] if i < 3 else []
            blocks += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), *pool]
        self.body = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        z = x.permute(0, 3, 1, 2).float() / 127.5 - 1
        if self.training:
            z = flipped(z)
        return self.body(z).mean((2, 3))
