"""The notes' style-transfer demo in PyTorch, from its description: the oracle of `--faithful`.

The demo is Fingsinz/StyleTransfer on GitHub, src/01.ref_and_note/02.UNet_StyleTransfer.py (28 February 2025). What it
does, in words: both pictures become squares; a U-Net of four levels with padded 3x3 convolutions, PyTorch's default
weights and 2x2 up-convolutions takes the content in ImageNet's units; the tanh of its output *is* a picture in these
units, and VGG19 looks at it as it is; the loss is the mean squared difference of conv3_4 and conv4_4 to the content's
plus 1e6 times that of the Gram matrices, divided by C H W, of conv1_2 and conv2_2 to the style's; Adam at 1e-3.
"""

import torch
from style_twin import gram, normalised, torch_features
from torch import nn


class DemoNetwork(nn.Module):
    """The generator; its modules keep the weights that PyTorch gives them."""

    def __init__(self, base):
        super().__init__()
        widths = [base << level for level in range(5)]
        self.down = nn.ModuleList(map(self.double, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1])
        self.join = nn.ModuleList(self.double(2 * width, width) for width in widths[:-1])
        self.last = nn.Conv2d(base, 3, 1)

    @staticmethod
    def double(channels, width):
        return nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])

    def forward(self, x):
        skips = []
        for level, pair in enumerate(self.down):
            x = nn.functional.max_pool2d(x, 2) if level else x
            for convolution in pair:
                x = convolution(x).relu()
            skips.append(x)
        for level in (3, 2, 1, 0):
            x = torch.cat([self.up[level](x), skips[level]], dim=1)
            for convolution in self.join[level]:
                x = convolution(x).relu()
        return self.last(x).tanh()

    def by_our_names(self):
        """{npunet's parameter name: (module, is an up-convolution)}"""
        places = {f"contracting.{level}": self.down[level] for level in range(4)} | {"bottleneck": self.down[4]}
        places |= {f"expansive.{level}": self.join[level] for level in range(4)}
        found = {f"{place}.conv{i}": (pair[i - 1], False) for place, pair in places.items() for i in (1, 2)}
        found |= {f"expansive.{level}.up": (self.up[level], True) for level in range(4)}
        return found | {"output": (self.last, False)}

    def weights(self):
        """All weights and biases in npunet's names and layout, as NumPy arrays."""
        found = {}
        for name, (module, up) in self.by_our_names().items():
            order = (2, 3, 0, 1) if up else (2, 3, 1, 0)  # (in, out, kh, kw) or (out, in, kh, kw) -> (kh, kw, in, out)
            found[f"{name}.weight"] = module.weight.detach().numpy().transpose(order).copy()
            found[f"{name}.bias"] = module.bias.detach().numpy().copy()
        return found


def demo_losses(network, eye, content, style, steps, learning_rate=1e-3):
    """The total losses of `steps` steps on one pair (1, 3, H, W) in 0..1, as the demo trains."""
    see = torch_features(eye)
    layers = ["conv1_2", "conv2_2", "conv3_4", "conv4_4"]
    with torch.no_grad():
        wanted, painted = see(content, layers), see(style, layers)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    optimizer, losses = torch.optim.Adam(network.parameters(), learning_rate), []
    for _ in range(steps):
        picture = network(normalised(content)) * std + mean  # `see` takes 0..1 and goes back to ImageNet's units
        found = see(picture, layers)
        content_loss = sum(((found[n] - wanted[n]) / eye.unit).square().mean() for n in layers[2:])
        style_loss = sum((gram(found[n] / eye.unit) - gram(painted[n] / eye.unit)).square().mean() for n in layers[:2])
        total = content_loss + 1e6 * style_loss
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    return losses
