"""Lock a sandbox child irrevocably: user id, resource limits, Landlock, seccomp."""

import os
from dataclasses import dataclass

from app.agent.sandbox.limits import Limits
from app.lockdown import landlock, process, seccomp
from app.lockdown.kernel import die_with_parent


@dataclass(frozen=True)
class Confinement:
    """Where a child may go. A root server's children become `user`; without files nothing is opened."""

    folder: str
    readable: tuple[str, ...]
    with_files: bool
    user: int
    limits: Limits


def lock(confinement: Confinement) -> None:
    """Give up rights, then files, then system calls. Raises MissingError where the kernel lacks a step."""
    limits = confinement.limits
    process.prefer_as_victim()
    process.bound(limits.memory_mib, limits.processor_seconds, limits.file_mib, limits.open_files)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(confinement.user, confinement.user, confinement.user)
        os.setresuid(confinement.user, confinement.user, confinement.user)
    die_with_parent()
    known = landlock.version()
    if confinement.with_files:
        landlock.restrict(confinement.readable, [confinement.folder])
    seccomp.restrict(confinement.with_files, guard_truncation=known < 3)
