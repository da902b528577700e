"""The toy world's encoder: a small convolutional network, trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn

from labelaug_core.encoders import flipped


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
        z = x.permute(0, 3, 1, 2).float() / 127.5 - 1
        if self.training:
            z = flipped(z)
        return self.body(z).mean((2, 3))
