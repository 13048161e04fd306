"""The kernels: each function makes what its sizes share, and returns what measures one size."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from .device import Device
from .timer import Timer

Figure = Callable[[int], float]
"""What is measured at one size."""

GEMM_WIDTH = {"cuda": 8192, "cpu": 1024}
"""Rows and columns of the weights, by kind of device."""

_HEAD_DIM = 128
_KV_HEADS = 8
_GROUP = 4
"""Query heads for each head of keys and values."""
_KV_TOKEN_BYTES = 2 * _KV_HEADS * _HEAD_DIM * 2


def rotated(first: Any, device: Device) -> list[Any]:
    """Copies of a tensor that take turns: together more than the caches hold."""
    size_bytes = first.numel() * first.element_size()
    return [first, *(first.clone() for _ in range(3 * device.cache_bytes // size_bytes))]


def copy(device: Device, timer: Timer) -> Figure:
    """Bytes read and written per second, by bytes."""
    import torch

    def figure(size: int) -> float:
        source = torch.ones(size, dtype=torch.uint8, device=device.kind)
        target = torch.empty_like(source)
        return 2 * size / timer.seconds(lambda _turn: target.copy_(source))

    return figure


def gemm(device: Device, timer: Timer) -> Figure:
    """FLOP/s of (tokens, width) x (width, width) in bf16, weights laid out as a linear layer's."""
    import torch

    width = GEMM_WIDTH[device.kind]
    made = torch.randn(width, width, device=device.kind, dtype=torch.bfloat16)
    weights = rotated(made, device)

    def figure(tokens: int) -> float:
        inputs = torch.randn(tokens, width, device=device.kind, dtype=torch.bfloat16)
        output = torch.empty_like(inputs)
        seconds = timer.seconds(
            lambda turn: torch.mm(inputs, weights[turn].t(), out=output), len(weights)
        )
        return 2 * tokens * width * width / seconds

    return figure


def gemm_fp8(device: Device, timer: Timer) -> Figure:
    """The same in e4m3, with one scale a tensor, to bf16."""
    import torch

    if not device.on_gpu:
        raise RuntimeError("CPUs do not multiply in fp8")
    width = GEMM_WIDTH[device.kind]
    one = torch.ones((), device="cuda")

    def random(rows: int) -> Any:
        made = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16)
        return made.to(torch.float8_e4m3fn)

    weights = rotated(random(width), device)

    def figure(tokens: int) -> float:
        inputs = random(tokens)

        def multiply(turn: int) -> object:
            weight = weights[turn].t()
            return torch._scaled_mm(
                inputs,
                weight,
                scale_a=one,
                scale_b=one,
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )

        return 2 * tokens * width * width / timer.seconds(multiply, len(weights))

    return figure


def prefill_attention(device: Device, timer: Timer) -> Figure:
    """FLOP/s of causal attention by tokens of one prompt; masked products are not counted."""
    import torch

    heads = _KV_HEADS * (_GROUP if device.on_gpu else 1)

    def figure(tokens: int) -> float:
        shape = (1, heads, tokens, _HEAD_DIM)
        made = (torch.randn(shape, device=device.kind, dtype=torch.bfloat16) for _ in range(3))
        q, k, v = made

        def attend(_turn: int) -> object:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

        return 2 * heads * _HEAD_DIM * tokens**2 / _attention_s(attend, 1, device, timer)

    return figure


def decode_attention(device: Device, timer: Timer) -> Figure:
    """Seconds of one layer's attention for a new token a sequence, by bytes of its KV cache.

    The query heads that share keys and values stand as if they were positions: the computation is
    the same and needs no support for groups.
    """
    import torch

    longest = 4096 if device.on_gpu else 1024

    def figure(size: int) -> float:
        tokens = size // _KV_TOKEN_BYTES
        length = min(longest, tokens)
        shape = (tokens // length, _KV_HEADS, length, _HEAD_DIM)
        made = torch.randn((2, *shape), device=device.kind, dtype=torch.bfloat16)
        caches = rotated(made, device)
        q = made[0, :, :, :_GROUP].clone()

        def attend(turn: int) -> object:
            k, v = caches[turn]
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

        return _attention_s(attend, len(caches), device, timer)

    return figure


def _attention_s(
    attend: Callable[[int], object], turns: int, device: Device, timer: Timer
) -> float:
    """Of the kernels that torch has for a GPU the fastest; for a CPU it has one."""
    if not device.on_gpu:
        return timer.seconds(attend, turns)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    times = []
    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"):
        # One that a release has not got, or that does not take the shape, is left out.
        with (
            contextlib.suppress(AttributeError, RuntimeError),
            sdpa_kernel(getattr(SDPBackend, name)),
        ):
            times.append(timer.seconds(attend, turns))
    return min(times) if times else timer.seconds(attend, turns)


def all_reduce(device: Device, timer: Timer) -> Figure:
    """Seconds by bytes of the tensor; in a process that has joined its group."""
    import torch
    import torch.distributed as group

    def agree(count: int) -> int:
        told = torch.tensor([count], device=device.kind)
        group.broadcast(told, 0)
        return int(told)

    timer = timer.agreeing(agree)

    def figure(size: int) -> float:
        tensor = torch.zeros(size // 2, dtype=torch.bfloat16, device=device.kind)
        return timer.seconds(lambda _turn: group.all_reduce(tensor))

    return figure
