"""Networks from ONNX files that take one picture, on OpenVINO or ONNX Runtime, without torch.

    network = open_network(Path("yolox_nano_416.onnx"), None, EngineChoice("cpu", "auto", "auto"))
    network.prepare(scale=1.0)
    network.start(0, canvas)  # (H, W, 3) uint8, channels in the order of the network
    output = network.result(0)

There are `SLOTS` requests, so that one picture is prepared while the network runs on another.
"""

import os
from collections.abc import Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from streamvis.errors import ModelError, WeightsError
from streamvis.messages import Array
from streamvis.models.inference.hardware import cpu_has_bf16, thread_count
from streamvis.models.onnx import import_runtime, open_session

OnnxEngine = Literal["auto", "openvino", "onnxruntime"]
OnnxPrecision = Literal["auto", "fp32", "bf16"]
Size = tuple[int, int]  # height and width, px
SLOTS = 2
STRIDE = 32  # px; sides of the input are multiples of the coarsest stride
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class EngineChoice(NamedTuple):
    """Where and how a network from a file is to run."""

    device: str = "cpu"
    engine: OnnxEngine = "auto"
    precision: OnnxPrecision = "auto"
    threads: int | None = None  # None: as many as numeric libraries have here


class OnnxNetwork(Protocol):
    """A network with an input of one size and several requests."""

    size: Size
    engine: str

    def resized(self, size: Size) -> "OnnxNetwork | None":
        """Return the network for an input of this size, not prepared; None if it has only one."""

    def prepare(self, *, scale: float) -> None:
        """Compile the network for pixels times `scale`; called once."""

    def start(self, slot: int, canvas: Array) -> None:
        """Run request `slot` on a canvas (H, W, 3) uint8, unchanged until its result.

        The canvas has its channels in the order of the network.
        """

    def result(self, slot: int) -> Array:
        """Return the output of the request as float32, valid until its next start."""

    def output_shape(self) -> tuple[int, ...]:
        """Return the shape of the only output for one picture; -1: not known before it runs."""


def open_network(path: Path, size: Size | None, choice: EngineChoice) -> OnnxNetwork:
    """Open a file whose only input is one picture; `size` is that of a file with free sides.

    Raises WeightsError for other files, ModelError and DeviceError for an impossible choice.
    """
    if not os.path.isfile(path):  # unlike pathlib's, False for whatever cannot be a path
        raise WeightsError(
            f"there is no file {path}; expected an .onnx file of a detector: docs/own-detector.md"
        )
    engine, bf16 = choose_engine(path, choice)
    threads = choice.threads or thread_count()
    if engine == "openvino":
        return OpenVinoNetwork(path, size, threads, bf16)
    return OnnxRuntimeNetwork(path, size, threads, choice.device)


def choose_engine(path: Path, choice: EngineChoice) -> tuple[str, bool]:
    """Return the engine, and whether it computes in bf16; ModelError if that is impossible."""
    on_cpu = choice.device == "cpu"
    engine: str = choice.engine
    if engine == "openvino" and not on_cpu:
        raise ModelError(
            f"engine openvino runs on the cpu, not on '{choice.device}'; use auto or onnxruntime"
        )
    if engine != "onnxruntime" and on_cpu:
        fault = _openvino_fault()
        if fault is not None and engine == "openvino":
            raise ModelError(f"engine openvino: {fault}")
        engine = "onnxruntime" if fault is not None else "openvino"
    if engine == "auto":
        engine = "onnxruntime"
    if engine == "onnxruntime":
        import_runtime(path)
    able = engine == "openvino" and cpu_has_bf16()
    if choice.precision == "bf16" and not able:
        raise ModelError(
            f"precision bf16: {engine} on '{choice.device}' has no bf16 arithmetic here; use auto "
            "or fp32"
        )
    return engine, able and choice.precision != "fp32"


def _openvino_fault() -> str | None:
    try:
        import_module("streamvis.models.inference.openvino_core")
    except (ImportError, OSError, RuntimeError) as error:
        return f"it cannot be imported: {error}; run: pip install openvino"
    return None


class Port(NamedTuple):
    """An input or output of a network as its file describes it; None: any size."""

    name: str
    shape: tuple[int | None, ...]
    type: str

    def __str__(self) -> str:
        sizes = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{self.name} {self.type} ({sizes})"


def input_size(path: Path, ports: Sequence[Port], size: Size | None) -> Size:
    """Return height and width of the only input: the file's, or `size` where that leaves them free.

    Raises WeightsError for an input that is not one picture.
    """
    if len(ports) != 1 or not _is_picture(ports[0]):
        found = "; ".join(map(str, ports)) or "none"
        raise WeightsError(
            f"{path}: the input of the network is {found}; expected one of float numbers, "
            "(1, 3, height, width) or (any, 3, height, width)"
        )
    own = ports[0].shape[2:]
    if size is not None and any(n not in (None, m) for n, m in zip(own, size, strict=True)):
        raise WeightsError(
            f"{path}: `input_size` is {list(size)}, but the input of the network is {ports[0]}; "
            "leave `input_size` out"
        )
    sides = [n if n is not None else m for n, m in zip(own, size or (None, None), strict=True)]
    if None in sides:
        raise WeightsError(
            f"{path}: the input of the network is {ports[0]}, of any height and width; set "
            "`input_size`, such as [640, 640], to what it was trained on"
        )
    height, width = (int(n or 0) for n in sides)
    if height % STRIDE or width % STRIDE or not height or not width:
        raise WeightsError(
            f"{path}: the input of the network is {width}×{height} pixels; expected multiples of "
            f"{STRIDE}"
        )
    return height, width


def _is_picture(port: Port) -> bool:
    return (
        len(port.shape) == 4
        and port.shape[0] in (1, None)
        and port.shape[1] == 3
        and port.type in ("f32", "f16")
    )


def only_output(path: Path, ports: Sequence[Port]) -> None:
    """Raise WeightsError for a network with several outputs."""
    if len(ports) != 1:
        raise WeightsError(
            f"{path}: the network has {len(ports)} outputs: {'; '.join(map(str, ports))}; expected "
            "one, with boxes and scores: docs/own-detector.md"
        )


class OpenVinoNetwork:
    """A network compiled by OpenVINO for the CPU."""

    engine = "openvino"

    def __init__(self, path: Path, size: Size | None, threads: int, bf16: bool) -> None:
        from streamvis.models.inference.openvino_core import core_of

        self.path = path
        self._core = core_of("bf16" if bf16 else "f32", threads)
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise _unreadable(path, error) from None
        only_output(path, [_port(one) for one in self._model.outputs])
        self.size = input_size(path, [_port(one) for one in self._model.inputs], size)
        try:
            self._model.reshape([1, 3, *self.size])
        except RuntimeError as error:
            raise _unreadable(path, error) from None
        self._start_empty()

    def _start_empty(self) -> None:
        self._requests: list[Any] = []
        self._inputs: list[Any] = [None] * SLOTS
        self._canvases: list[Array | None] = [None] * SLOTS
        self._swapped = False  # the last two axes of the compiled network's output

    def resized(self, size: Size) -> "OpenVinoNetwork | None":
        model = self._model.clone()
        try:
            model.reshape([1, 3, *size])
        except RuntimeError:  # another size inside the network is a constant of the file
            return None
        other = copy(self)
        other.size, other._model = size, model
        other._start_empty()
        return other

    def prepare(self, *, scale: float) -> None:
        from streamvis.models.inference.openvino_graph import with_pixels, without_last_transpose

        model = with_pixels(self._model.clone(), self.size, scale)
        self._swapped = without_last_transpose(model)
        try:
            compiled = self._core.compile_model(model, "CPU")
        except RuntimeError as error:
            raise _unreadable(self.path, error) from None
        self._requests = [compiled.create_infer_request() for _ in range(SLOTS)]

    def start(self, slot: int, canvas: Array) -> None:
        request = self._requests[slot]
        if self._canvases[slot] is not canvas:
            from openvino import Tensor

            self._canvases[slot] = canvas
            self._inputs[slot] = Tensor(canvas[None], shared_memory=True)
            request.set_input_tensor(0, self._inputs[slot])
        request.start_async()

    def result(self, slot: int) -> Array:
        request = self._requests[slot]
        request.wait()
        output = request.get_output_tensor(0).data
        return output.transpose(0, 2, 1) if self._swapped else output

    def output_shape(self) -> tuple[int, ...]:
        shape = _port(self._model.output(0)).shape
        return tuple(-1 if n is None else n for n in shape)


class OnnxRuntimeNetwork:
    """A network run by ONNX Runtime in the precision of its file; requests run one by one."""

    engine = "onnxruntime"

    def __init__(self, path: Path, size: Size | None, threads: int, device: str) -> None:
        self.path = path
        self._session = open_session(path, threads, device)
        inputs = self._session.get_inputs()
        only_output(path, [_session_port(one) for one in self._session.get_outputs()])
        self.size = input_size(path, [_session_port(one) for one in inputs], size)
        self._name, kind = inputs[0].name, FLOATS[inputs[0].type]
        self._planes = np.zeros((1, 3, *self.size), kind)
        self._outputs: list[Array | None] = [None] * SLOTS
        self._scale = np.float32(1)

    def resized(self, size: Size) -> None:
        return None  # the sizes of a file are constants to ONNX Runtime

    def prepare(self, *, scale: float) -> None:
        self._scale = np.float32(scale)

    def start(self, slot: int, canvas: Array) -> None:
        planes = canvas.transpose(2, 0, 1)[None]
        np.multiply(planes, self._scale, out=self._planes, casting="same_kind")
        (output, *_) = self._session.run(None, {self._name: self._planes})
        self._outputs[slot] = np.asarray(output, np.float32)

    def result(self, slot: int) -> Array:
        output = self._outputs[slot]
        assert output is not None
        return output

    def output_shape(self) -> tuple[int, ...]:
        self.start(0, np.zeros((*self.size, 3), np.uint8))
        return np.shape(self.result(0))


def _unreadable(path: Path, error: RuntimeError) -> WeightsError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if not line.startswith("Exception from")), "")
    return WeightsError(
        f"{path} is not an ONNX file that can be read ({why or type(error).__name__})"
    )


def _port(port: Any) -> Port:
    """Describe an input or output of OpenVINO."""
    sizes = port.get_partial_shape()
    if sizes.rank.is_dynamic:
        return Port(port.get_any_name(), (), "of any shape")
    shape = tuple(n.get_length() if n.is_static else None for n in sizes)
    return Port(port.get_any_name(), shape, port.get_element_type().get_type_name())


def _session_port(port: Any) -> Port:
    """Describe an input or output of ONNX Runtime."""
    types = {"tensor(float)": "f32", "tensor(float16)": "f16"}
    shape = tuple(n if isinstance(n, int) and n > 0 else None for n in port.shape)
    return Port(port.name, shape, types.get(port.type, port.type))
