"""ncnn: a light engine, whose float32 convolutions are faster than a matrix product allows.

It multiplies 3x3 kernels by Winograd's algorithm (Lavin and Gray 2016, arXiv:1509.09308), to
2.25 to 5 times fewer multiplications than there are in the sum, and chooses its instructions by
the machine that it is on. An image's result doesn't depend on how many are computed at once, nor
on how many threads there are.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from transforms.errors import UnknownNetworkError
from transforms.models.keras_file import Layer
from transforms.models.network import Compute, Network, usable_cores
from transforms.storage.files import temporary_folder

_IMAGES_A_TASK = 32

_MAGIC = "7767517"
_INPUT, _OUTPUT = "input", "output"
_ACTIVATIONS = {"linear": 0, "relu": 1, "sigmoid": 4}
_FLOAT32 = bytes(4)


class _Operation(NamedTuple):
    """A layer as ncnn has it: its type, its numbered parameters, its weights in their order.

    shape: of what comes out, as Keras has it.
    """

    kind: str
    shape: tuple[int, ...]
    parameters: dict[int, int]
    weights: tuple[np.ndarray, ...] = ()


class Translation(NamedTuple):
    """A Keras network in ncnn's two files: the text of its layers, and its weights."""

    param: str
    weights: bytes
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def network(layers: Sequence[Layer]) -> Network:
    """A network of these Keras layers. Raises UnknownNetworkError as `translate` does."""
    translation = translate(layers)
    parameters = sum(array.size for layer in layers for array in layer.weights)
    return Network(
        _compute(translation), translation.input_shape, translation.output_shape, parameters
    )


def _compute(translation: Translation) -> Compute:
    net = _loaded(translation)
    pool = ThreadPoolExecutor(usable_cores())
    shape = translation.output_shape

    def compute(batch: np.ndarray) -> np.ndarray:
        inputs = np.ascontiguousarray(_channels_first(batch), np.float32)
        outputs = np.empty((len(batch), *_channels_first_shape(shape)), np.float32)

        def task(start: int) -> None:
            for number in range(start, min(start + _IMAGES_A_TASK, len(batch))):
                outputs[number] = _computed(net, inputs[number])

        # An image a thread: threads within an image would wait for each other at every layer.
        list(pool.map(task, range(0, len(batch), _IMAGES_A_TASK)))
        return _channels_last(outputs)

    return compute


def _computed(net: Any, values: np.ndarray) -> np.ndarray:
    import ncnn

    extractor = net.create_extractor()
    extractor.input(_INPUT, ncnn.Mat(values))
    status, output = extractor.extract(_OUTPUT)
    if status:
        raise RuntimeError(f"ncnn could not compute the network (status {status})")
    return np.asarray(output)


def _loaded(translation: Translation) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    # Each would make the sums shorter than float32.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    with temporary_folder() as folder:  # ncnn keeps pointers into weights that it has in memory.
        param, weights = folder / "network.param", folder / "network.bin"
        param.write_text(translation.param)
        weights.write_bytes(translation.weights)
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeError("ncnn could not load the network")
    return net


def _channels_first(batch: np.ndarray) -> np.ndarray:
    return batch if batch.ndim == 2 else batch.transpose(0, 3, 1, 2)  # noqa: PLR2004


def _channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 1 else (shape[2], *shape[:2])


def _channels_last(batch: np.ndarray) -> np.ndarray:
    if batch.ndim == 2:  # noqa: PLR2004
        return batch
    return np.ascontiguousarray(batch.transpose(0, 2, 3, 1))


def translate(layers: Sequence[Layer]) -> Translation:
    """A Keras network in the language of ncnn, which has channels first.

    Raises UnknownNetworkError, with the layer, where ncnn has nothing for it.
    """
    try:
        return _translated(layers)
    except (ArithmeticError, KeyError, IndexError, TypeError, ValueError) as error:
        # A configuration that is not as Keras writes them: Keras may still know what to do.
        raise UnknownNetworkError(
            f"an unusual setting ({type(error).__name__}: {error})"
        ) from error


def _translated(layers: Sequence[Layer]) -> Translation:
    if len(layers) <= 1 or layers[0].kind != "InputLayer":
        raise UnknownNetworkError("no layers behind an input")
    batch, *input_shape = layers[0].config["batch_shape"]
    if batch is not None or not all(isinstance(side, int) and side > 0 for side in input_shape):
        raise UnknownNetworkError(f"inputs of {layers[0].config['batch_shape']}")
    shape, operations = tuple(input_shape), []
    for before, layer, after in zip(layers, layers[1:], [*layers[2:], None], strict=False):
        if layer.kind not in _TRANSLATED:
            raise UnknownNetworkError(f"a layer {layer.kind} within")
        operation = _TRANSLATED[layer.kind](_Place(before, layer, after, shape))
        numbers = (*operation.shape, *operation.parameters.values())
        if not all(isinstance(number, int) for number in numbers):  # JSON has fractions too.
            raise UnknownNetworkError(f"a layer {layer.kind} whose settings are no whole numbers")
        if not all(side > 0 for side in operation.shape):
            raise UnknownNetworkError(f"a layer {layer.kind} that gives {operation.shape}")
        operations.append(operation)
        shape = operation.shape
    return Translation(
        "\n".join(_param_lines(operations)) + "\n",
        b"".join(_weight_bytes(operations)),
        tuple(input_shape),
        shape,
    )


class _Place(NamedTuple):
    """A layer, those around it, and the shape (Keras's) of what comes in."""

    before: Layer
    layer: Layer
    after: Layer | None
    shape: tuple[int, ...]


def _convolution(place: _Place) -> _Operation:
    config, (height, width, channels) = place.layer.config, _image(place)
    filters = config["filters"]
    (rows, columns), (down, right) = config["kernel_size"], config["strides"]
    _expect(config["padding"] in {"same", "valid"}, "padding", place)
    padded = _same_padding if config["padding"] == "same" else _no_padding
    tall, top, bottom = padded(height, rows, down)
    wide, left, after = padded(width, columns, right)
    _expect(tall > 0 and wide > 0, "kernel_size", place)
    kernel, bias = _kernel_and_bias(place, (rows, columns, channels, filters), filters)
    parameters = {
        0: filters,
        1: columns,
        11: rows,
        3: right,
        13: down,
        4: left,
        14: top,
        15: after,
        16: bottom,
        5: int(bias is not None),
        6: kernel.size,
        9: _activation(place),
    }
    weights = _with_bias(kernel.transpose(3, 2, 0, 1), bias)
    return _Operation("Convolution", (tall, wide, filters), parameters, weights)


def _same_padding(side: int, size: int, stride: int) -> tuple[int, int, int]:
    """(steps, before, after) as TensorFlow pads: so that there is a step for each stride begun."""
    steps = -(-side // stride)
    total = max(0, (steps - 1) * stride + size - side)
    return steps, total // 2, total - total // 2


def _no_padding(side: int, size: int, stride: int) -> tuple[int, int, int]:
    """(steps, before, after) where the kernel stays on the image."""
    return (side - size) // stride + 1, 0, 0


def _transposed_convolution(place: _Place) -> _Operation:
    config, (height, width, channels) = place.layer.config, _image(place)
    filters = config["filters"]
    (rows, columns), (down, right) = config["kernel_size"], config["strides"]
    _expect(config["padding"] == "same" and config.get("output_padding") is None, "padding", place)
    _expect(rows >= down and columns >= right, "strides", place)
    kernel, bias = _kernel_and_bias(place, (rows, columns, filters, channels), filters)
    # What TensorFlow's gradient of a "same" convolution leaves out, most of it at the end.
    top, left = (rows - down) // 2, (columns - right) // 2
    parameters = {
        0: filters,
        1: columns,
        11: rows,
        3: right,
        13: down,
        4: left,
        14: top,
        15: columns - right - left,
        16: rows - down - top,
        5: int(bias is not None),
        6: kernel.size,
        9: _activation(place),
    }
    shape = (height * down, width * right, filters)
    weights = _with_bias(kernel.transpose(2, 3, 0, 1), bias)
    return _Operation("Deconvolution", shape, parameters, weights)


def _dense(place: _Place) -> _Operation:
    units, size = place.layer.config["units"], int(math.prod(place.shape))
    kernel, bias = _kernel_and_bias(place, (size, units), units)
    if place.before.kind == "Flatten":  # Keras flattens channels last, ncnn channels first.
        by_pixel = kernel.reshape(*place.shape, units)
        kernel = by_pixel.transpose(2, 0, 1, 3).reshape(size, units)
    else:
        _expect(len(place.shape) == 1, "input", place)
    if place.after is not None and place.after.kind == "Reshape":  # The same, the other way.
        order = _pixels_by_channel(place.after, units)
        kernel, bias = kernel[:, order], None if bias is None else bias[order]
    parameters = {0: units, 1: int(bias is not None), 2: kernel.size, 9: _activation(place)}
    return _Operation("InnerProduct", (units,), parameters, _with_bias(kernel.T, bias))


def _pixels_by_channel(reshape: Layer, units: int) -> np.ndarray:
    """Where the values that are reshaped to an image lie, channel by channel."""
    target = reshape.config["target_shape"]
    if len(target) != 3 or math.prod(target) != units:  # noqa: PLR2004  # Rows, columns, channels.
        raise UnknownNetworkError(f"a layer Reshape to {target}")
    positions: np.ndarray = np.arange(units).reshape(target).transpose(2, 0, 1).ravel()
    return positions


def _flatten(place: _Place) -> _Operation:
    _expect(place.after is not None and place.after.kind == "Dense", "place", place)
    _image(place)
    return _Operation("Flatten", place.shape, {})


def _reshape(place: _Place) -> _Operation:
    _expect(place.before.kind == "Dense", "place", place)
    rows, columns, channels = place.layer.config["target_shape"]
    return _Operation("Reshape", (rows, columns, channels), {0: columns, 1: rows, 2: channels})


_TRANSLATED = {
    "Conv2D": _convolution,
    "Conv2DTranspose": _transposed_convolution,
    "Dense": _dense,
    "Flatten": _flatten,
    "Reshape": _reshape,
}


def _image(place: _Place) -> tuple[int, int, int]:
    """The shape of the images that come in: rows, columns, channels."""
    config = place.layer.config
    _expect(len(place.shape) == 3 and place.before.kind != "Flatten", "input", place)  # noqa: PLR2004
    _expect(config.get("data_format") == "channels_last", "data_format", place)
    _expect(list(config.get("dilation_rate", (1, 1))) == [1, 1], "dilation_rate", place)
    _expect(config.get("groups", 1) == 1, "groups", place)
    rows, columns, channels = place.shape
    return rows, columns, channels


def _kernel_and_bias(
    place: _Place, shape: tuple[int, ...], outputs: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The weights, of which ncnn believes what it is told: other sizes would crash it."""
    use_bias = place.layer.config["use_bias"]
    expected = [shape, (outputs,)] if use_bias else [shape]
    _expect([array.shape for array in place.layer.weights] == expected, "weights", place)
    _expect(all(np.isfinite(array).all() for array in place.layer.weights), "weights", place)
    return place.layer.weights[0], place.layer.weights[1] if use_bias else None


def _with_bias(kernel: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, ...]:
    return (kernel,) if bias is None else (kernel, bias)


def _activation(place: _Place) -> int:
    name = place.layer.config["activation"]
    _expect(isinstance(name, str) and name in _ACTIVATIONS, "activation", place)
    return _ACTIVATIONS[name]


def _expect(is_so: bool, what: str, place: _Place) -> None:
    if not is_so:
        raise UnknownNetworkError(f"a layer {place.layer.kind} of another {what}")


def _param_lines(operations: Sequence[_Operation]) -> Iterator[str]:
    """The lines of a .param file (github.com/Tencent/ncnn/wiki/param-and-model-file-structure)."""
    yield _MAGIC
    yield f"{len(operations) + 1} {len(operations) + 1}"
    yield f"Input {_INPUT} 0 1 {_INPUT}"
    source = _INPUT
    for number, operation in enumerate(operations, start=1):
        target = _OUTPUT if number == len(operations) else f"values{number}"
        settings = " ".join(f"{key}={value}" for key, value in operation.parameters.items())
        yield f"{operation.kind} layer{number} 1 1 {source} {target} {settings}".rstrip()
        source = target


def _weight_bytes(operations: Sequence[_Operation]) -> Iterator[bytes]:
    """The parts of a .bin file; a kernel is announced by the number of its format, a bias not."""
    for operation in operations:
        for kernel in operation.weights[:1]:
            yield _FLOAT32
            yield np.ascontiguousarray(kernel, "<f4").tobytes()
        for bias in operation.weights[1:]:
            yield bias.astype("<f4").tobytes()
