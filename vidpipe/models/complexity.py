"""How much a network computes, and how much memory that takes."""

from __future__ import annotations

import math

import keras
import tensorflow as tf


def count_flops(model: keras.Model) -> int:
    """Counts the floating-point operations on one clip, a multiplication and an addition as two.

    Counted are products of matrices and convolutions, which are nearly all of it.
    """
    return _flops(_graph_of(model), frames=model.inputs[0].shape[1])


def activation_bytes(model: keras.Model) -> int:
    """Estimates the memory that a network takes at most while it predicts one row of a batch.

    Counted is what is alive at a time: each tensor from where it is computed to where it is read
    last. Weights, which are there anyway, are not.
    """
    return _peak_bytes(_graph_of(model))


def kept_bytes(model: keras.Model) -> int:
    """Estimates the memory of all that a network computes of one row: learning from it needs most.

    More than is kept is counted where several operations are computed as one, less where
    gradients take as much again.
    """
    operations = _graph_of(model).get_operations()
    return sum(
        _tensor_bytes(tensor)
        for operation in operations
        if operation.type in _COMPUTED
        for tensor in operation.outputs
    )


def _graph_of(model: keras.Model) -> tf.Graph:
    """The operations on one row."""
    # A Sequential model has `inputs`, but no `input`.
    row = [tf.TensorSpec((1, *given.shape[1:]), given.dtype) for given in model.inputs]
    if len(row) == 1:
        (row,) = row
    return tf.function(lambda rows: model(rows, training=False)).get_concrete_function(row).graph


# Operations whose output is their input, seen otherwise, or a weight.
_VIEWS = ("Reshape", "Identity", "Squeeze", "ExpandDims", "StopGradient", "NoOp")
# Those whose inputs are needed for their gradients, and are as large as their outputs.
_COMPUTED = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Relu")
_WEIGHTS = ("ReadVariableOp", "Const", "Placeholder")


def _peak_bytes(graph: tf.Graph) -> int:
    operations = graph.get_operations()
    owner: dict[str, str] = {}  # of each view the tensor whose memory it shares
    last_read: dict[str, int] = {}
    for turn, operation in enumerate(operations):
        inputs = [owner.get(tensor.name, tensor.name) for tensor in operation.inputs]
        last_read |= dict.fromkeys(inputs, turn)
        if operation.type in _VIEWS and inputs:
            owner |= {tensor.name: inputs[0] for tensor in operation.outputs}
    last_read |= {owner.get(t.name, t.name): len(operations) for t in graph.outputs}
    alive: dict[str, int] = {}
    peak = 0
    for turn, operation in enumerate(operations):
        if operation.type not in (*_VIEWS, *_WEIGHTS):
            alive |= {tensor.name: _tensor_bytes(tensor) for tensor in operation.outputs}
        inner = 0
        if operation.type in _BODIES:
            inner = _peak_bytes(_function(graph, operation, _BODIES[operation.type]))
        peak = max(peak, sum(alive.values()) + inner)
        alive = {name: size for name, size in alive.items() if last_read.get(name, -1) > turn}
    return peak


def _tensor_bytes(tensor: tf.Tensor) -> int:
    # Of what is as long as the input tells there is little: lists of tensors, indexes.
    return math.prod(tensor.shape) * tensor.dtype.size if tensor.shape.is_fully_defined() else 0


_BODIES = {
    "While": "body",
    "StatelessWhile": "body",
    "PartitionedCall": "f",
    "StatefulPartitionedCall": "f",
}


def _flops(graph: tf.Graph, frames: int) -> int:
    flops = 0
    for operation in graph.get_operations():
        shapes = [tensor.shape for tensor in operation.inputs]
        match operation.type:
            case "MatMul":
                inner = shapes[0][0 if operation.get_attr("transpose_a") else 1]
                flops += 2 * _size(operation) * inner
            case "BatchMatMulV2":
                inner = shapes[0][-2 if operation.get_attr("adj_x") else -1]
                flops += 2 * _size(operation) * inner
            case "Conv2D" | "Conv3D":
                flops += 2 * _size(operation) * math.prod(shapes[1][:-1])
            case "DepthwiseConv2dNative":
                flops += 2 * _size(operation) * math.prod(shapes[1][:2])
            case "Einsum":
                flops += 2 * _einsum(operation.get_attr("equation").decode(), shapes)
            case kind if kind in _BODIES:
                # The only loops are those of recurrent layers: a turn for each frame.
                turns = frames if "While" in kind else 1
                flops += turns * _flops(_function(graph, operation, _BODIES[kind]), frames)
    return flops


def _size(operation: tf.Operation) -> int:
    return math.prod(operation.outputs[0].shape)


def _einsum(equation: str, shapes: list[tf.TensorShape]) -> int:
    sizes = {}
    for letters, shape in zip(equation.partition("->")[0].split(","), shapes, strict=True):
        sizes |= dict(zip(letters, shape, strict=True))
    return math.prod(sizes.values())


def _function(graph: tf.Graph, operation: tf.Operation, attribute: str) -> tf.Graph:
    return graph._get_function(operation.get_attr(attribute).name).graph
