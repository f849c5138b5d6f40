"""Copies of small tensors from the host to a device that the host does not wait for."""

import torch


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """From pinned memory where the device works beside the host: else the copy waits for all work before it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
