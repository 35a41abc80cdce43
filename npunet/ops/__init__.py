"""The operations of the U-Net, one file each: definition as loops, forward, backward.

Every operation is a pair of pure functions, ``y, ctx = op(x, ...)`` and ``dx, ... = op_backward(dy, ctx)``.
"""

from npunet.ops.batch_norm import batch_norm, batch_norm_backward
from npunet.ops.convolution import conv2d, conv2d_backward
from npunet.ops.crop_concat import crop_concat, crop_concat_backward
from npunet.ops.dropout import dropout, dropout_backward
from npunet.ops.max_pooling import max_pool2d, max_pool2d_backward
from npunet.ops.pad_concat import pad_concat, pad_concat_backward
from npunet.ops.relu import relu, relu_backward
from npunet.ops.tanh import tanh, tanh_backward
from npunet.ops.up_convolution import up_conv2d, up_conv2d_backward
from npunet.ops.upsampling import upsample2d, upsample2d_backward

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "conv2d",
    "conv2d_backward",
    "crop_concat",
    "crop_concat_backward",
    "dropout",
    "dropout_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "pad_concat",
    "pad_concat_backward",
    "relu",
    "relu_backward",
    "tanh",
    "tanh_backward",
    "up_conv2d",
    "up_conv2d_backward",
    "upsample2d",
    "upsample2d_backward",
]
