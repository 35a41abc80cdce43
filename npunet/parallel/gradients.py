"""The one all-reduce of a training step: all gradients and the energy in one flat buffer."""

from npunet.machine import memory, ranks
from npunet.machine.backend import Array, array_module


def average(parameters: dict, energy: Array) -> Array:
    """Every parameter's gradient becomes its mean over all ranks; returns the mean of the energies, a 0-d array.

    parameters: {name: Parameter} with .grad filled by a backward pass. When this process is alone nothing happens.
    """
    if ranks.size() == 1:
        return energy
    xp, gradients = array_module(energy), [parameter.grad for parameter in parameters.values()]
    flat = memory.empty((sum(grad.size for grad in gradients) + 1,), gradients[0].dtype, xp)
    flat[-1] = energy
    end = 0
    for grad in gradients:
        start, end = end, end + grad.size
        flat[start:end] = grad.reshape(-1)
    flat = ranks.mean(flat)
    end = 0
    for parameter in parameters.values():
        start, end = end, end + parameter.grad.size
        parameter.grad = flat[start:end].reshape(parameter.grad.shape)
    return flat[-1]
