"""Batches on a GPU: copies beside computation, one wait for each batch, CUDA graphs.

    run = DeviceBatches(lambda shape: part, "cuda:0")
    for outputs in run(batches):  # each batch: uint8 arrays of one shape

While one batch is computed, the next is written to pinned memory and copied to the device on a
stream of its own. The number of arrays is rounded up to a power of two, so that few shapes come
again and again: one that comes for the second time is captured as a CUDA graph.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from streamvis.logs import warn
from streamvis.messages import Array
from streamvis.models.inference.plan_cache import PlanCache

SLOTS = 2  # batches on their way: one is computed, the next is copied
MOST_PLANS = 16  # shapes of batches for which a graph is kept

Part = Callable[[Tensor], tuple[Tensor, ...]]  # (B, …) uint8 -> outputs (B, …)
Shape = tuple[int, ...]


class DeviceTimes(msgspec.Struct):
    """Milliseconds of all batches until now; those of different batches overlap."""

    write: float = 0.0  # by the host, to pinned memory
    upload: float = 0.0
    compute: float = 0.0
    download: float = 0.0


class DeviceBatches:
    """Runs a part of a network on batches, and returns their outputs in order.

    Each row of a part's outputs depends on that row of its input alone. On the CPU the part is
    called as it is.
    """

    def __init__(
        self,
        build: Callable[[Shape], Part],  # called for each shape of a batch
        device: str,
        downloads: int | None = None,  # number of outputs that the host gets; None: all
    ) -> None:
        self.build, self.downloads = build, downloads
        self.gpu = None if device == "cpu" else CudaQueues(torch.device(device))
        self.plans: PlanCache[Shape, DevicePlan] = PlanCache(MOST_PLANS)
        self.slots = deque(BatchSlot() for _ in range(SLOTS))
        self.graphs = True  # until a capture fails
        self.times = DeviceTimes()

    def __call__(self, batches: Iterable[Sequence[Array] | Array]) -> Iterator[list[Tensor]]:
        """Yield each batch's outputs in memory of their own; the first `downloads` on the host."""
        sent: deque[BatchSlot] = deque()
        for batch in batches:
            if self.gpu is None:
                yield self._here(batch)
                continue
            sent.append(self._send(self.gpu, batch))
            if len(sent) == SLOTS:
                yield self._receive(sent.popleft())
        while sent:
            yield self._receive(sent.popleft())

    @torch.inference_mode()
    def _here(self, batch: Sequence[Array] | Array) -> list[Tensor]:
        began = time.perf_counter()
        pixels = torch.from_numpy(np.stack(list(batch)))
        outputs = list(self._plan(pixels.shape).part(pixels))
        self.times.compute += 1e3 * (time.perf_counter() - began)
        return outputs

    def _plan(self, shape: Shape) -> "DevicePlan":
        return self.plans.get(tuple(shape), lambda: DevicePlan(self.build(tuple(shape))))

    @torch.inference_mode()
    def _send(self, gpu: "CudaQueues", batch: Sequence[Array] | Array) -> "BatchSlot":
        slot, count = self.slots[0], len(batch)
        self.slots.rotate(-1)
        slot.wait()  # for a batch whose outputs were not taken
        began = time.perf_counter()
        shape = (1 << (count - 1).bit_length(), *batch[0].shape)
        plan, pixels = self._plan(shape), slot.write(gpu, batch, shape)
        self.times.write += 1e3 * (time.perf_counter() - began)

        def compute() -> None:
            slot.outputs = self._run(gpu, plan, pixels)

        def download() -> None:
            given = [x[:count] for x in slot.outputs]
            most = len(given) if self.downloads is None else self.downloads
            slot.outputs = (*map(gpu.download, given[:most]), *(x.clone() for x in given[most:]))

        copies, computes = gpu.streams()
        slot.marks = [gpu.mark(copies)]
        gpu.launch(copies, slot.upload)
        slot.marks.append(gpu.mark(copies))
        gpu.wait(computes, slot.marks[-1])
        slot.marks.append(gpu.mark(computes))
        for work in (compute, download):
            gpu.launch(computes, work)
            slot.marks.append(gpu.mark(computes))
        return slot

    def _run(self, gpu: "CudaQueues", plan: "DevicePlan", pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute outputs, which the next call of any plan may overwrite."""
        if plan.seen and plan.replay is None and self.graphs:
            try:
                plan.pixels = torch.empty_like(pixels)
                plan.replay = gpu.capture(plan.part, plan.pixels)
            except RuntimeError as error:  # what CUDA and its allocator raise
                self.graphs = False
                warn(
                    "a CUDA graph cannot be captured; the network runs without graphs",
                    shape=tuple(pixels.shape),
                    reason=str(error).partition("\n")[0],
                )
        plan.seen = True
        if plan.replay is None:
            return plan.part(pixels)
        plan.pixels.copy_(pixels)
        return plan.replay()

    @torch.inference_mode()
    def _receive(self, slot: "BatchSlot") -> list[Tensor]:
        slot.wait()
        asked, uploaded, began, computed, done = slot.marks
        self.times.upload += asked.elapsed_time(uploaded)
        self.times.compute += began.elapsed_time(computed)
        self.times.download += computed.elapsed_time(done)
        outputs, slot.outputs, slot.marks = slot.outputs, (), []
        # pinned memory is scarce: what is kept leaves it
        return [x.clone() if x.device.type == "cpu" else x for x in outputs]


class DevicePlan:
    """A part for one shape of batches, and its graph once it has one.

    It owns what a graph refers to. The oldest plan is dropped when there are too many, long after
    its last graph has run.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.seen = False
        self.pixels = torch.empty(0)  # the graph's input
        self.replay: Callable[[], tuple[Tensor, ...]] | None = None


class BatchSlot:
    """The memory of a batch on its way to the device, and what is known of the batch."""

    def __init__(self) -> None:
        self.host = self.device = torch.empty(0, dtype=torch.uint8)
        self.used = 0  # bytes
        self.marks: list[torch.cuda.Event] = []  # around upload, computation and download
        self.outputs: tuple[Tensor, ...] = ()

    def write(self, gpu: "CudaQueues", batch: Sequence[Array] | Array, shape: Shape) -> Tensor:
        """Write the batch to pinned memory; return its place on the device, of this shape."""
        each = batch[0].size
        if shape[0] * each > len(self.host):
            self.host, self.device = gpu.buffers(shape[0] * each)
        self.used = len(batch) * each
        rows = self.host[: self.used].view(len(batch), *shape[1:]).numpy()
        for row, one in zip(rows, batch, strict=True):
            np.copyto(row, one)
        return self.device[: shape[0] * each].view(shape)

    def upload(self) -> None:
        """Copy to the device what was written."""
        self.device[: self.used].copy_(self.host[: self.used], non_blocking=True)

    def wait(self) -> None:
        """Wait until the batch is done, if there is one."""
        if self.marks:
            self.marks[-1].synchronize()


class CudaQueues:
    """CUDA as `DeviceBatches` needs it: streams, memory that they share with the host, graphs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies, self._captures = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()  # of all graphs, as one runs after the other

    def streams(self) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
        """Return the stream of uploads, and that of computation: the caller's."""
        return self._copies, torch.cuda.current_stream(self.device)

    def launch(self, stream: torch.cuda.Stream, work: Callable[[], None]) -> None:
        """Let the work follow what was launched in this stream before."""
        with torch.cuda.stream(stream):
            work()

    def mark(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        """Return an event that happens when all is done that was launched in this stream."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # no core spins meanwhile
        event.record(stream)
        return event

    def wait(self, stream: torch.cuda.Stream, event: torch.cuda.Event) -> None:
        """Let the stream, not the host, wait for the event."""
        stream.wait_event(event)

    def buffers(self, size: int) -> tuple[Tensor, Tensor]:
        """Return so many bytes of pinned memory, and of the device's."""
        with torch.cuda.device(self.device):
            host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            device = torch.empty(size, dtype=torch.uint8, device=self.device)
        # who had this memory before may still use it, in the order of the stream of computation
        self._copies.wait_stream(torch.cuda.current_stream(self.device))
        return host, device

    def download(self, x: Tensor) -> Tensor:
        """Return a copy in pinned memory, complete when the stream has come so far."""
        return x.to("cpu", non_blocking=True)

    def capture(self, part: Part, pixels: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        """Return a function that launches the part as one graph, from and to the same memory."""
        before = torch.cuda.current_stream(self.device)
        self._captures.wait_stream(before)
        graph = torch.cuda.CUDAGraph()
        into = torch.cuda.graph(graph, self._pool, self._captures, "thread_local")
        try:
            with torch.cuda.stream(self._captures):
                part(pixels)  # libraries take memory for a stream when it is new to them
            before.wait_stream(self._captures)
            with into:
                outputs = part(pixels)
        finally:
            torch.cuda.set_stream(before)  # a capture that fails leaves its own

        def replay() -> tuple[Tensor, ...]:
            graph.replay()
            return outputs

        return replay
