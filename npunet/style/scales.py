"""Several sizes, coarse to fine: large shapes of the style first, grain last (Gatys et al. 2017,
doi:10.1109/CVPR.2017.397).

A layer of VGG sees a fixed number of pixels, 68 at conv4_1. In a picture of 256 pixels that is a quarter of its side,
in one of 1024 a fifteenth: painted at 1024 pixels at once, a picture gets the style's grain and none of its large
forms. So a small picture is painted first, enlarged, and painted on from there; content and style are looked at in each
size. It is quicker too: a step at half the size takes a quarter of the time.
"""

import numpy as np
from PIL import Image

from npunet.commands import scaling
from npunet.machine.backend import to_cpu, to_device
from npunet.style.direct import optimize_picture

SMALLEST = 128  # pixels; in a picture of 96 the strokes that conv4_1 asks for are larger than a face, and replace it


def stages(size, steps, count):
    """[(size, steps), ...] of up to `count` sizes, each twice the one before; the last is `size`, and none of those
    before it is below SMALLEST. The steps are shared out.

    >>> stages(512, 200, 3)
    [(128, 67), (256, 67), (512, 66)]
    """
    sizes = [size // 2**halvings for halvings in range(count) if halvings == 0 or size // 2**halvings >= SMALLEST]
    sizes = sizes[: max(1, steps)][::-1]
    return [(each, steps // len(sizes) + (number < steps % len(sizes))) for number, each in enumerate(sizes)]


def enlarged(picture, shape):
    """(h, w, 3) -> (H, W, 3) in 0..1."""
    return np.clip(scaling.resize(picture, *shape[:2], Image.Resampling.LANCZOS), 0, 1)


def coarse_to_fine(objective, plan, pictures, report, start=None, **how):
    """The picture (H, W, 3) that direct optimisation has found at the last size of the plan, a NumPy array.

    plan: of `stages`. pictures(size) -> (content, style), (H, W, 3) each. report(step, terms, picture, content), with
    the step counted over all sizes and both pictures as NumPy arrays behind functions without arguments, ends the work
    by returning True. start(content) -> where the first size begins, the content unless given. how: options of
    `optimize_picture`.
    """
    device, painted, reached, stopped = objective.vgg.device, None, 0, False
    for size, steps in plan:
        content, style = pictures(size)
        objective.set_style(to_device(style[None], device))
        if painted is not None:
            begin = enlarged(painted, content.shape)
        else:
            begin = start(content) if start else content

        def after_step(step, terms, picture, before=reached, content=content):
            nonlocal reached, stopped
            reached = before + step
            stopped = report(reached, terms, lambda: to_cpu(picture)[0], content)
            return stopped

        how |= dict(steps=steps, report=after_step)
        painted = to_cpu(optimize_picture(objective, *(to_device(p[None], device) for p in (content, begin)), **how))[0]
        if stopped:
            break
    return painted
