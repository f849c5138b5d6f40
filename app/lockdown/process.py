"""Resource limits (rlimits) and open descriptors of a process that works on untrusted input."""

import contextlib
import fcntl
import os
import resource
from pathlib import Path

MIB = 1 << 20
MOST_DESCRIPTORS = 1 << 16


def bound(memory_mib: int, processor_seconds: int, file_mib: int, open_files: int) -> None:
    """Bound this process for good. `memory_mib` is what it may allocate beyond what it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    bounds = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + memory_mib * MIB,
        resource.RLIMIT_CPU: processor_seconds,
        resource.RLIMIT_FSIZE: file_mib * MIB,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_STACK: 8 * MIB,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in bounds.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def prefer_as_victim() -> None:
    """When processor time or memory runs short the server comes first, and the kernel shall end this process."""
    os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def keep_only(*descriptors: int) -> None:
    """These become 0, 1, 2 and so on, in their order; all others are closed."""
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, len(descriptors)) for descriptor in descriptors]
    for place, descriptor in enumerate(aside):
        os.dup2(descriptor, place)
    os.closerange(len(descriptors), MOST_DESCRIPTORS)
