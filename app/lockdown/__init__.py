"""Lock a Linux process for untrusted work: Landlock for files, seccomp for system calls, resource limits."""
