"""The paper's network and one step with it, in npunet and in other programs, each as its own users would write it.

Every function takes task ("train": forward, cross-entropy, backward, SGD with momentum 0.99; "infer": forward alone;
"padded" and "style": a training step of benchmarks/padded_step.py and style_step.py), tile and base_channels and
returns a function of no arguments that makes one step and gives a number.
"""

from types import SimpleNamespace

import numpy as np

LEARNING_RATE, MOMENTUM = 1e-6, 0.99  # a step must be a real one; where it leads does not matter here


def data(tile):
    """One tile (1, tile, tile, 1) of centred grey values, and labels (1, tile - 184, tile - 184) of two classes."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, tile, tile, 1), dtype=np.float32), rng.integers(0, 2, (1, tile - 184, tile - 184))


def npunet_step(task, tile, base_channels):
    from npunet import UNet
    from npunet.loss import weighted_cross_entropy
    from npunet.optimizers import SGD

    net = UNet(base_channels=base_channels)
    optimizer = SGD(net.parameters, LEARNING_RATE, MOMENTUM) if task == "train" else None
    image, labels = data(tile)

    def train():
        optimizer.forget_gradients()
        loss, dlogits = weighted_cross_entropy(net.forward(image, train=True), labels)
        net.backward(dlogits, need_dx=False)
        optimizer.step()
        return float(loss)

    return train if task == "train" else lambda: float(net.forward(image)[0, 0, 0, 0])


def torch_unet(base_channels, depth=4):
    """Fig. 1 as a torch.nn.Module, as its own users would write it:
    ReLU in place, dropout at the end of the contracting path.
    """
    import torch
    from torch import nn

    def double(channels, width):
        return nn.Sequential(
            nn.Conv2d(channels, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3), nn.ReLU(inplace=True)
        )

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [base_channels << level for level in range(depth + 1)]
            self.contracting = nn.ModuleList(double(c, k) for c, k in zip([1, *widths], widths[:-1]))
            self.bottleneck = nn.Sequential(*double(widths[-2], widths[-1]), nn.Dropout(0.5))
            self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * k, k, 2, stride=2) for k in widths[-2::-1])
            self.expansive = nn.ModuleList(double(2 * k, k) for k in widths[-2::-1])
            self.output = nn.Conv2d(base_channels, 2, 1)

        def forward(self, x):
            skips = []
            for block in self.contracting:
                skips.append(block(x))
                x = nn.functional.max_pool2d(skips[-1], 2)
            x = self.bottleneck(x)
            for up, block in zip(self.ups, self.expansive):
                x, skip = up(x), skips.pop()
                border = (skip.shape[2] - x.shape[2]) // 2
                x = block(torch.cat([x, skip[:, :, border : border + x.shape[2], border : border + x.shape[3]]], dim=1))
            return self.output(x)

    return Net()


def torch_step(task, tile, base_channels, layout="nchw", compiled=False):
    import torch

    from npunet.machine.threads import default_num_threads

    torch.set_num_threads(default_num_threads())
    torch.manual_seed(0)
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    net = torch_unet(base_channels).to(memory_format=form)
    net.train(task == "train")
    optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM)
    image, labels = data(tile)
    image = torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous(memory_format=form)
    labels = torch.from_numpy(labels)
    run = torch.compile(net) if compiled else net

    def train():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(image), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    def infer():
        with torch.inference_mode():
            return float(run(image)[0, 0, 0, 0])

    return train if task == "train" else infer


def tensorflow_step(task, tile, base_channels, depth=4):
    """Keras layers, channels last as TensorFlow wants them on a CPU, compiled to a graph by tf.function."""
    import tensorflow as tf

    from npunet.machine.threads import default_num_threads

    tf.config.threading.set_intra_op_parallelism_threads(default_num_threads())
    tf.random.set_seed(0)
    layers = tf.keras.layers
    widths = [base_channels << level for level in range(depth + 1)]

    def double(x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, activation="relu")(x)
        return x

    x = image_input = tf.keras.Input((tile, tile, 1))
    skips = []
    for width in widths[:-1]:
        skips.append(double(x, width))
        x = layers.MaxPooling2D()(skips[-1])
    x = layers.Dropout(0.5)(double(x, widths[-1]))
    for width in widths[-2::-1]:
        x, skip = layers.Conv2DTranspose(width, 2, strides=2)(x), skips.pop()
        x = double(layers.Concatenate()([x, layers.Cropping2D((skip.shape[1] - x.shape[1]) // 2)(skip)]), width)
    net = tf.keras.Model(image_input, layers.Conv2D(2, 1)(x))
    optimizer = tf.keras.optimizers.SGD(LEARNING_RATE, MOMENTUM)
    image, labels = map(tf.constant, data(tile))

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=net(image, training=True))
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, net.trainable_variables), net.trainable_variables))
        return loss

    infer = tf.function(lambda: net(image, training=False)[0, 0, 0, 0])
    return lambda: float(train() if task == "train" else infer())


def padded_step(task, tile, base_channels):
    from benchmarks.padded_step import our_step

    return our_step(_padded(tile, base_channels))


def torch_padded_step(task, tile, base_channels, layout="nchw"):
    from benchmarks.padded_step import their_step

    return their_step(_padded(tile, base_channels), layout == "channels-last")


def _padded(tile, base_channels):
    return SimpleNamespace(size=tile, channels=3, base_channels=base_channels, bilinear=False, recompute=False)


def style_step(task, tile, base_channels):
    from benchmarks.style_step import our_step

    return our_step(_style(tile, base_channels))


def torch_style_step(task, tile, base_channels, layout="nchw"):
    from benchmarks.style_step import their_step

    return their_step(_style(tile, base_channels), layout == "channels-last")


def _style(tile, base_channels):
    return SimpleNamespace(size=tile, base_channels=base_channels, faithful=False, weights=None)


def onnx_step(task, tile, base_channels):
    """ONNX Runtime, which makes no training steps."""
    import onnxruntime

    from npunet.machine.threads import default_num_threads

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = default_num_threads()
    model = onnx_model(tile, base_channels).SerializeToString()
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    image = np.ascontiguousarray(data(tile)[0].transpose(0, 3, 1, 2))
    return lambda: float(session.run(None, {"image": image})[0][0, 0, 0, 0])


def openvino_step(task, tile, base_channels):
    """OpenVINO with its hint for latency, in float32: on some CPUs it would take bfloat16 by itself."""
    import openvino

    from npunet.machine.threads import default_num_threads

    core = openvino.Core()
    model = core.read_model(onnx_model(tile, base_channels).SerializeToString())
    settings = dict(
        PERFORMANCE_HINT="LATENCY", INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=default_num_threads()
    )
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    image = np.ascontiguousarray(data(tile)[0].transpose(0, 3, 1, 2))
    return lambda: float(request.infer({"image": image})[0][0, 0, 0, 0])


def onnx_model(tile, base_channels, depth=4):
    """The forward pass as a graph; channels first, as ONNX defines convolution."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def add(kind, inputs, **attributes):
        name = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(array):
        weights.append(numpy_helper.from_array(array, f"w{len(weights)}"))
        return weights[-1].name

    def convolution(x, shape, kind="Conv", **attributes):
        outputs, inputs = shape[:2] if kind == "Conv" else shape[1::-1]
        kernel = rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / (inputs * shape[2] * shape[3])) ** 0.5)
        return add(kind, [x, constant(kernel), constant(np.zeros(outputs, np.float32))], **attributes)

    def double(x, inputs, width):
        x = add("Relu", [convolution(x, (width, inputs, 3, 3))])
        return add("Relu", [convolution(x, (width, width, 3, 3))])

    widths = [base_channels << level for level in range(depth + 1)]
    x, size, skips = "image", tile, []
    for inputs, width in zip([1, *widths], widths[:-1]):
        x, size = double(x, inputs, width), size - 4
        skips.append((x, size))
        x, size = add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2]), size // 2
    x, size = double(x, widths[-2], widths[-1]), size - 4
    for width in widths[-2::-1]:
        x, size = convolution(x, (2 * width, width, 2, 2), "ConvTranspose", strides=[2, 2]), 2 * size
        skip, skip_size = skips.pop()
        border = (skip_size - size) // 2
        bounds = [constant(np.array(edge, np.int64)) for edge in ([border] * 2, [border + size] * 2, [2, 3])]
        x, size = double(add("Concat", [x, add("Slice", [skip, *bounds])], axis=1), 2 * width, width), size - 4
    y = convolution(x, (2, base_channels, 1, 1))
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, tile, tile])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 2, size, size])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
