"""Style transfer: the U-Net as a painter, and VGG's features as the eye that judges it (Gatys et al. 2016;
Johnson et al. 2016).

vgg.py          VGG19 and VGG16 to any layer, and back to the picture
losses.py       Gram matrix; content, style and total variation, with their gradients
generator.py    U-Net, variant "style", from picture to picture; one training step; pictures of any size
direct.py       the same losses minimised over the pixels themselves: the reference
scales.py       that at several sizes, coarse to fine
finish.py       how much of the painting, and whose colours
weights.py      where VGG's weights come from
pictures.py     reading, sizes, contact sheets
memory_needs.py what a step needs of memory, and what fits
options.py      the options of npunet.stylize      setting.py   from them to losses and pictures
run.py          what a run leaves behind, Ctrl-C, going on
"""

from npunet.style.direct import optimize_picture
from npunet.style.generator import Generator, generator_step
from npunet.style.losses import Objective, gram, gram_backward
from npunet.style.vgg import VGG

__all__ = ["Generator", "Objective", "VGG", "generator_step", "gram", "gram_backward", "optimize_picture"]
