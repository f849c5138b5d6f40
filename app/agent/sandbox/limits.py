"""Resource limits of one sandbox session."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one session. Memory is what it may allocate beyond the libraries; times are in seconds."""

    memory_mib: int = 1024
    cell_seconds: float = 20.0
    processor_seconds: int = 600
    file_mib: int = 32
    folder_mib: int = 128
    folder_files: int = 2000
    open_files: int = 32
    output_characters: int = 20_000
    printed_mib: int = 32
    reply_mib: int = 8
    images: int = 4
    image_dots_per_inch: int = 100
