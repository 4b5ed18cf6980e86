"""How much a network computes."""

from __future__ import annotations

import math

import keras
import tensorflow as tf


def count_flops(model: keras.Model) -> int:
    """Counts the floating-point operations on one clip, a multiplication and an addition as two.

    Counted are products of matrices and convolutions, which are nearly all of it.
    """
    clip = keras.tree.map_structure(
        lambda given: tf.TensorSpec((1, *given.shape[1:]), "float32"), model.input
    )
    graph = (
        tf.function(lambda clips: model(clips, training=False)).get_concrete_function(clip).graph
    )
    return _flops(graph, frames=model.inputs[0].shape[1])


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
            case "While" | "StatelessWhile":
                # The only loops are those of recurrent layers: a turn for each frame.
                flops += frames * _flops(_function(graph, operation, "body"), frames)
            case "PartitionedCall" | "StatefulPartitionedCall":
                flops += _flops(_function(graph, operation, "f"), frames)
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
