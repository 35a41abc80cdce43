"""Solution: down, along the bottom, up; backwards the same lines from the last to the first."""

from my_unet.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from my_unet.crop_concat import crop_concat, crop_concat_gradients
from my_unet.pooling import max_pool, max_pool_gradient
from my_unet.relu import relu, relu_gradient
from my_unet.up_convolution import up_conv, up_conv_gradients


def two_convolutions(x, parameters, place, kept):
    for name in ("conv1", "conv2"):
        before = conv2d(x, parameters[f"{place}.{name}.weight"], parameters[f"{place}.{name}.bias"])
        kept[f"{place}.{name}"] = x, before
        x = relu(before)
    return x


def two_convolutions_gradients(dx, parameters, place, kept, gradients):
    for name in ("conv2", "conv1"):
        x, before = kept[f"{place}.{name}"]
        dbefore = relu_gradient(dx, before)
        weight, bias = f"{place}.{name}.weight", f"{place}.{name}.bias"
        gradients[weight], gradients[bias] = conv2d_weight_gradient(dbefore, x)
        dx = conv2d_input_gradient(dbefore, parameters[weight])
    return dx


def unet_forward(x, parameters, depth):
    kept, skips = {}, []
    for level in range(depth):
        x = two_convolutions(x, parameters, f"contracting.{level}", kept)
        skips.append(x)
        x = max_pool(x)
    x = two_convolutions(x, parameters, "bottleneck", kept)
    for level in reversed(range(depth)):
        kept[f"up.{level}"] = x
        x = up_conv(x, parameters[f"expansive.{level}.up.weight"], parameters[f"expansive.{level}.up.bias"])
        kept[f"channels.{level}"] = x.shape[3]
        x = crop_concat(x, skips[level])
        x = two_convolutions(x, parameters, f"expansive.{level}", kept)
    kept["skips"], kept["last"] = skips, x
    return conv2d(x, parameters["output.weight"], parameters["output.bias"]), kept


def unet_backward(dlogits, parameters, depth, kept):
    gradients, dskips = {}, []
    gradients["output.weight"], gradients["output.bias"] = conv2d_weight_gradient(dlogits, kept["last"])
    dx = conv2d_input_gradient(dlogits, parameters["output.weight"])
    for level in range(depth):
        dx = two_convolutions_gradients(dx, parameters, f"expansive.{level}", kept, gradients)
        dx, dskip = crop_concat_gradients(dx, kept[f"channels.{level}"], kept["skips"][level].shape)
        dskips.append(dskip)
        weight, bias = f"expansive.{level}.up.weight", f"expansive.{level}.up.bias"
        dx, gradients[weight], gradients[bias] = up_conv_gradients(dx, kept[f"up.{level}"], parameters[weight])
    dx = two_convolutions_gradients(dx, parameters, "bottleneck", kept, gradients)
    for level in reversed(range(depth)):
        dx = max_pool_gradient(dx, kept["skips"][level]) + dskips[level]
        dx = two_convolutions_gradients(dx, parameters, f"contracting.{level}", kept, gradients)
    return gradients
