"""The messages of the ONNX format: a model holds a graph, a graph holds nodes, constant tensors, inputs and outputs.

A node applies an operator ("Conv") to values by name and names what comes out. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), operators those of operator set 13 (ONNX 1.8, of 2020), which
every runtime in use reads.
"""

import json

import numpy as np

from npunet.files import protobuf

IR_VERSION, OPERATOR_SET = 7, 13
TENSOR_TYPES = {"float32": 1, "int64": 7, "float16": 10}
FLOAT, INTEGER, INTEGERS, TEXT = 1, 2, 7, 3  # AttributeProto.AttributeType


class Graph:
    """A graph in the making. Values are known by name; `node` and `constant` return the name of what they add."""

    def __init__(self):
        self.nodes, self.tensors, self.names = [], [], set()

    def node(self, operator: str, name: str, *inputs: str, **attributes) -> str:
        """Add operator(inputs) and call node and result `name`. Attributes: integers, lists of them, or text."""
        self._use(name)
        self.nodes.append(
            protobuf.message(
                1,
                *(protobuf.text(1, value) for value in inputs),
                protobuf.text(2, name),
                protobuf.text(3, name),
                protobuf.text(4, operator),
                *(protobuf.message(5, *_attribute(key, value)) for key, value in attributes.items()),
            )
        )
        return name

    def constant(self, name: str, array) -> str:
        """Add a tensor that belongs to the model: float32, float16 or int64."""
        self._use(name)
        array = np.ascontiguousarray(array)
        self.tensors.append(
            protobuf.message(
                5,
                *(protobuf.integer(1, side) for side in np.shape(array)),
                protobuf.integer(2, TENSOR_TYPES[array.dtype.name]),
                protobuf.text(8, name),
                protobuf.block(9, memoryview(array.astype(array.dtype.newbyteorder("<"), copy=False)).cast("B")),
            )
        )
        return name

    def _use(self, name):
        if name in self.names:
            raise ValueError(f"two values of the graph are called {name}")
        self.names.add(name)


def _attribute(name, value):
    """The fields of an AttributeProto."""
    if isinstance(value, str):
        return protobuf.text(1, name), protobuf.text(4, value), protobuf.integer(20, TEXT)
    if isinstance(value, float):
        return protobuf.text(1, name), protobuf.real(2, value), protobuf.integer(20, FLOAT)
    if isinstance(value, int):
        return protobuf.text(1, name), protobuf.integer(3, value), protobuf.integer(20, INTEGER)
    integers = [protobuf.integer(8, number) for number in value]
    return protobuf.text(1, name), *integers, protobuf.integer(20, INTEGERS)


def float_value(number: int, name: str, sides: list, description: str) -> list:
    """An input (field 11 of a graph) or output (12): a float32 tensor. A side is an integer, or text: any, so named."""
    shape = [
        protobuf.message(1, protobuf.text(2, side) if isinstance(side, str) else protobuf.integer(1, side))
        for side in sides
    ]
    tensor = protobuf.message(1, protobuf.integer(1, TENSOR_TYPES["float32"]), protobuf.message(2, *shape))
    return protobuf.message(number, protobuf.text(1, name), protobuf.message(2, tensor), protobuf.text(3, description))


def model(graph: Graph, inputs: list, outputs: list, description: str, metadata: dict) -> list:
    """The whole file as a list of buffers. inputs and outputs: of `float_value`. metadata: what is not text is
    written as JSON.
    """
    properties = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    return protobuf.joined(
        protobuf.integer(1, IR_VERSION),
        protobuf.text(2, "npunet"),
        protobuf.text(6, description),
        protobuf.message(7, *graph.nodes, protobuf.text(2, "U-Net"), *graph.tensors, *inputs, *outputs),
        protobuf.message(8, protobuf.text(1, ""), protobuf.integer(2, OPERATOR_SET)),
        *(protobuf.message(14, protobuf.text(1, key), protobuf.text(2, value)) for key, value in properties.items()),
    )
