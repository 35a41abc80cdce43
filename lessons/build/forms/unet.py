"""The U (§2, Fig. 1), forwards and backwards, out of your own functions. Lessons 4 and 6.

`parameters` is a dict {name: array}. With depth 2 the layers are, in the order in which an image meets them,

    contracting.0.conv1   contracting.0.conv2    two convolutions, each followed by a ReLU; the skip of level 0
                                                 starts behind the second ReLU; then max-pooling
    contracting.1.conv1   contracting.1.conv2    the same at level 1
    bottleneck.conv1      bottleneck.conv2       two convolutions, each followed by a ReLU
    expansive.1.up                               up-convolution, no ReLU; crop and concatenate with the skip of level 1
    expansive.1.conv1     expansive.1.conv2      two convolutions, each followed by a ReLU
    expansive.0.up                               the same at level 0
    expansive.0.conv1     expansive.0.conv2
    output                                       a 1x1 convolution, no ReLU: the logits

and each has two parameters: "contracting.0.conv1.weight" and "contracting.0.conv1.bias", and so on.

Sizes for depth 1 and a tile of 20: 20 -> 18 -> 16 (skip) -> 8 -> 6 -> 4 -> up 8 (the middle 8 of the skip) -> 6
-> 4.
"""

import numpy as np
from my_unet.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from my_unet.crop_concat import crop_concat, crop_concat_gradients
from my_unet.pooling import max_pool, max_pool_gradient
from my_unet.relu import relu, relu_gradient
from my_unet.up_convolution import up_conv, up_conv_gradients


def unet_forward(x, parameters, depth):
    """x (N, H, W, 1) -> logits (N, H', W', 2), kept.

    kept is whatever your unet_backward will need, in any form: what each layer was given, for example in a dict.
    """
    raise NotImplementedError("write unet_forward")


def unet_backward(dlogits, parameters, depth, kept):
    """dlogits (N, H', W', 2), the rest as above -> gradients, a dict with the same names as parameters.

    The way of unet_forward from its last line to its first. Each layer gets dL/d(what it gave) and hands on
    dL/d(what it was given). A feature map with two readers, the pooling and the skip, gets the sum of both
    gradients.
    """
    raise NotImplementedError("write unet_backward")
