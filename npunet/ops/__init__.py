"""The operations of the U-Net, one file each: definition as loops, forward, backward.

Every operation is a pair of pure functions, `y, ctx = op(x, ...)` and `dx, ... = op_backward(dy, ctx)`. The files
hold mathematics, which runs on any array. Which operation has a body of its own on a GPU is said here and nowhere else;
that body is in npunet/gpu, and the device of the first argument chooses. (Convolution has several algorithms to choose
from on each device: `convolution.best`.)
"""

from npunet.gpu import batch_norm as gpu_batch_norm
from npunet.gpu import by_device, kernels
from npunet.gpu import up_convolution as gpu_up_convolution
from npunet.ops.batch_norm import batch_norm, batch_norm_backward
from npunet.ops.convolution import conv2d, conv2d_backward
from npunet.ops.crop_concat import crop_concat, crop_concat_backward
from npunet.ops.dropout import dropout, dropout_backward
from npunet.ops.instance_norm import instance_norm, instance_norm_backward
from npunet.ops.max_pooling import max_pool2d, max_pool2d_backward
from npunet.ops.pad_concat import pad_concat, pad_concat_backward
from npunet.ops.relu import relu, relu_backward
from npunet.ops.tanh import tanh, tanh_backward
from npunet.ops.up_convolution import UpConvolutionContext, up_conv2d, up_conv2d_backward
from npunet.ops.upsampling import upsample2d, upsample2d_backward

max_pool2d = by_device(max_pool2d, kernels.max_pool2d)
max_pool2d_backward = by_device(max_pool2d_backward, kernels.max_pool2d_backward)
up_conv2d = by_device(up_conv2d, gpu_up_convolution.forward(up_conv2d, UpConvolutionContext))
up_conv2d_backward = by_device(up_conv2d_backward, gpu_up_convolution.up_conv2d_backward)
batch_norm = by_device(batch_norm, gpu_batch_norm.batch_norm)
batch_norm_backward = by_device(batch_norm_backward, gpu_batch_norm.batch_norm_backward)
dropout = by_device(dropout, kernels.dropout)
dropout_backward = by_device(dropout_backward, kernels.dropout_backward)

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "conv2d",
    "conv2d_backward",
    "crop_concat",
    "crop_concat_backward",
    "dropout",
    "dropout_backward",
    "instance_norm",
    "instance_norm_backward",
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
