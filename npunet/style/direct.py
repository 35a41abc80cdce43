"""Direct optimisation: the pixels themselves are what descends (Gatys, Ecker, Bethge 2016, doi:10.1109/CVPR.2016.265).

No network is trained: VGG's gradient by the picture moves the picture. It reaches lower losses than a generator, pixel
by pixel what the losses ask for, and takes minutes for each picture, where a trained generator takes one pass. So it is
the reference that generators are held against.

L-BFGS, the usual choice, builds a picture of the curvature from its last ten steps. SciPy's works on flat float64
vectors on the CPU; `Vector` stands between it and pictures of another shape, precision or device. Its bounds keep every
pixel in 0..1.
"""

import numpy as np
from scipy import optimize

from npunet.errors import InputError
from npunet.layers import Parameter
from npunet.machine.backend import array_module, to_cpu, to_device
from npunet.optimizers import Adam

METHODS = ("lbfgs", "adam")


class Vector:
    """An objective as SciPy wants it: f(x) -> float, gradient, with x and gradient flat float64;
    remembers the last terms of the loss.
    """

    def __init__(self, objective, targets, shape, dtype, device):
        self.objective, self.targets, self.shape, self.dtype, self.device = objective, targets, shape, dtype, device
        self.terms = {}

    def picture(self, x):
        return to_device(x.reshape(self.shape).astype(self.dtype), self.device)

    def __call__(self, x):
        self.terms, gradient = self.objective(self.picture(x), self.targets)
        return self.terms["total"], to_cpu(gradient).astype(np.float64).ravel()


def optimize_picture(objective, content, start=None, steps=100, method="lbfgs", *, learning_rate=0.02, report=None):
    """The picture (1, H, W, 3) that the losses ask for, on the device and in the dtype of the content (1, H, W, 3).

    start: where to begin, the content unless given. method: "lbfgs" (one or two passes through VGG a step) or "adam"
    with `learning_rate`. report(step, terms, picture) is called after each step, and ends the work by returning True.
    Raises InputError for another method.
    """
    if method not in METHODS:
        raise InputError(f"--method {method!r} is not known; expected {' or '.join(METHODS)}")
    start = content if start is None else start
    targets = objective.content_targets(content)
    run = _lbfgs if method == "lbfgs" else _adam
    return run(objective, targets, start, steps, learning_rate, report or (lambda step, terms, picture: False))


def _lbfgs(objective, targets, start, steps, learning_rate, report):
    function = Vector(objective, targets, start.shape, start.dtype, objective.vgg.device)
    done = 0

    def after_step(intermediate_result):
        nonlocal done
        done += 1
        if report(done, function.terms, function.picture(intermediate_result.x)):
            raise StopIteration

    # It also ends when no step along the search direction helps: the float32 gradient is then no longer exact enough.
    found = optimize.minimize(
        function,
        to_cpu(start).astype(np.float64).ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(0, 1),
        callback=after_step,
        options=dict(maxiter=steps, maxfun=20 * steps, ftol=0, gtol=0),
    )
    return function.picture(found.x)


def _adam(objective, targets, start, steps, learning_rate, report):
    xp = array_module(start)
    picture = Parameter(start.copy())
    optimizer = Adam({"picture": picture}, learning_rate)
    for step in range(1, steps + 1):
        terms, picture.grad = objective(picture.value, targets)
        optimizer.step()
        picture.value[...] = xp.minimum(xp.maximum(picture.value, 0), 1)
        if report(step, terms, picture.value):
            break
    return picture.value
