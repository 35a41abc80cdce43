"""The network of github.com/milesial/Pytorch-UNet, written once more with PyTorch's modules from its published
structure: an oracle.
"""

import torch
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, inputs, outputs, middle):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs, outputs))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, inputs, outputs, bilinear):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(inputs, outputs, inputs // 2)
        else:
            self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
            self.conv = DoubleConv(inputs, outputs, outputs)

    def forward(self, x, skip):
        x = self.up(x)
        down, across = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = nn.functional.pad(x, [across // 2, across - across // 2, down // 2, down - down // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class TheirUNet(nn.Module):
    """base is 64 there."""

    def __init__(self, n_channels, n_classes, bilinear, base=64):
        super().__init__()
        factor = 2 if bilinear else 1
        self.inc = DoubleConv(n_channels, base, base)
        self.down1, self.down2, self.down3 = Down(base, 2 * base), Down(2 * base, 4 * base), Down(4 * base, 8 * base)
        self.down4 = Down(8 * base, 16 * base // factor)
        self.up1, self.up2 = Up(16 * base, 8 * base // factor, bilinear), Up(8 * base, 4 * base // factor, bilinear)
        self.up3, self.up4 = Up(4 * base, 2 * base // factor, bilinear), Up(2 * base, base, bilinear)
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(base, n_classes, 1)})

    def forward(self, x):
        skips = [self.inc(x)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            skips.append(down(skips[-1]))
        x = skips.pop()
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, skips.pop())
        return self.outc["conv"](x)
