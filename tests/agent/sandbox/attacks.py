"""What a stranger might send. Each cell's value or output contains GOT only if the attack succeeded.

SERVER, SOURCE, OTHER and OUTSIDE are replaced by the server's process id, a source file of the application,
another session's folder, and a folder outside of all sessions.
"""

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.syscall.restype = ctypes.c_long\n"


def raw(*calls: str) -> str:
    """Raw system calls on x86_64, of which none may succeed."""
    lines = [f"result = libc.syscall({call})\nif result >= 0: got.append({call!r})" for call in calls]
    return LIBC + "got = []\n" + "\n".join(lines) + "\nprint('GOT', got) if got else None"


def attempts(*lines: str) -> str:
    """Several statements, each of which must raise."""
    return "import os, signal, socket, subprocess\n" + "\n".join(
        f"try:\n    {line}\n    print('GOT', {line!r})\nexcept (OSError, RuntimeError, MemoryError): pass"
        for line in lines
    )


def forged(fields: str) -> str:
    """A reply of the attacker's own making, for the cell that is running."""
    return (
        "import os, sys, json\ncell = int(sys._getframe().f_code.co_filename[6:-1])\n"
        f"body = json.dumps({{'cell': cell, {fields}}}).encode()\n"
        "os.write(3, len(body).to_bytes(4, 'big') + body)"
    )


READING = {
    "the password file": attempts("open('/etc/passwd').read()", "os.open('/etc/passwd', os.O_RDONLY)"),
    "the server's source": attempts("open('SOURCE').read()"),
    "the server's environment": attempts("open('/proc/SERVER/environ').read()", "open('/proc/1/environ').read()"),
    "its own parent's environment": attempts("open(f'/proc/{os.getppid()}/environ').read()"),
    "another session's folder": attempts("os.listdir('OTHER')", "open('OTHER/secret.txt').read()"),
    "other processes": attempts("os.listdir('/proc')", "open('/proc/SERVER/cmdline').read()"),
    "the root folder": attempts("os.listdir('/')", "os.listdir(os.path.expanduser('~root'))"),
    "the way up": "import os\nos.chdir('/')\nprint('GOT', os.listdir('.'))",
    "an open descriptor": (
        "import os\nfor number in range(4, 2000):\n    try: os.fstat(number)\n"
        "    except OSError: continue\n    print('GOT', number)"
    ),
    "the server's secrets in its own environment": "import os\n'GOT' if 'SECRET' in str(dict(os.environ)) else None",
    "the server's memory": LIBC
    + (
        "buffer = ctypes.create_string_buffer(8)\n"
        "vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)\n"
        "if libc.syscall(310, SERVER, vector, 1, vector, 1, 0) >= 0: print('GOT')\n"
        "open('/proc/SERVER/mem', 'rb')"
    ),
    "by handle": raw(
        "303, -100, b'/etc/passwd', b'0' * 128, b'0' * 8, 0",
        "304, -100, b'0' * 128, 0",
        "437, -100, b'/etc/passwd', b'0' * 24, 24",
    ),
}

WRITING = {
    "outside": attempts(
        "open('OUTSIDE/new', 'w')", "open('../new', 'w')", "os.mkdir('OUTSIDE/folder')", "os.mkdir('../folder')"
    ),
    "by moving a file out": "import os\nopen('mine', 'w').close()\nos.rename('mine', 'OUTSIDE/mine')\nprint('GOT')",
    "by emptying an outside file": attempts(
        "os.truncate('OUTSIDE/kept', 0)",
        "os.open('OUTSIDE/kept', os.O_RDONLY | os.O_TRUNC)",
        "os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)",
    ),
    "the rights of an outside file": attempts(
        "os.chmod('OUTSIDE/kept', 0o777)",
        "os.chown('OUTSIDE/kept', os.getuid(), -1)",
        "os.utime('OUTSIDE/kept', (0, 0))",
        "os.setxattr('OUTSIDE/kept', 'user.a', b'b')",
    ),
    "through a symbolic link": "import os\nos.symlink('OUTSIDE/kept', 'link')\nprint('GOT', open('link').read())",
    "through a hard link": "import os\nos.link('OUTSIDE/kept', 'link')\nprint('GOT', open('link').read())",
    "a device or a pipe": attempts("os.mkfifo('pipe')", "os.mknod('device', 0o20666, 259)"),
    "a library": attempts("open(os.__file__, 'a')", "os.unlink(os.__file__)"),
}

NETWORK = {
    "TCP": attempts("socket.create_connection(('127.0.0.1', PORT), 1)", "socket.socket()"),
    "UDP": attempts("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))"),
    "IPv6": attempts("socket.socket(socket.AF_INET6)"),
    "Unix sockets": attempts("socket.socket(socket.AF_UNIX)", "socket.socketpair()"),
    "abstract sockets": attempts("socket.socket(socket.AF_UNIX).connect('\\0server')"),
    "netlink and raw": attempts("socket.socket(16, 3, 0)", "socket.socket(17, 3, 0)", "socket.socket(40, 1, 0)"),
    "a socket by its number": raw("41, 2, 1, 0", "53, 1, 1, 0, b'0' * 8", "42, 0, b'0' * 16, 16"),
    "names": attempts("socket.getaddrinfo('localhost', 80) and socket.gethostbyname('example.com')"),
}

PROCESSES = {
    "a fork bomb": attempts("os.fork() or os._exit(0)", "os.forkpty()"),
    "clone by its number": raw("56, 17, 0, 0, 0, 0", "435, b'0' * 64, 64", "57", "58"),
    "a thread bomb": attempts("__import__('threading').Thread(target=print).start()"),
    "a shell": attempts("subprocess.run(['/bin/sh', '-c', 'true'])", "os.posix_spawn('/bin/true', ['true'], {})"),
    "os.system": "import os\nos.system('echo GOT')\nNone",
    "an own binary": "open('own', 'wb').write(b'#!/bin/sh\\necho GOT\\n')\nimport os\nos.execv('./own', ['own'])",
    "a program in place of itself": attempts("os.execv('/bin/echo', ['echo', 'GOT'])"),
    "a program from memory": raw("319, b'a', 0", "322, 1, b'', 0, 0, 4096", "59, b'/bin/true', 0, 0"),
    "a daemon": attempts("os.fork() or __import__('time').sleep(99)"),
    "signals": attempts(
        "os.kill(SERVER, 0)", "os.kill(SERVER, 9)", "os.kill(-1, 9)", "os.kill(os.getppid(), 9)", "os.kill(1, 0)"
    ),
    "signals by the kernel's hand": (
        "import fcntl, os\nreading, writing = os.pipe()\n"
        "fcntl.fcntl(reading, 8, SERVER)\nfcntl.fcntl(reading, 10, 9)\nprint('GOT')"
    ),
    "signals by their number": raw("200, SERVER, 9", "129, SERVER, 9, b'0' * 128", "424, 0, 9, 0, 0", "434, SERVER, 0"),
    "ptrace": raw("101, 16, SERVER, 0, 0", "101, 0x4206, SERVER, 0, 0", "312, SERVER, SERVER, 0, 0, 0"),
    "another's limits": raw("302, SERVER, 7, 0, b'0' * 16", "203, SERVER, 8, b'0' * 8", "145, SERVER"),
}

KERNEL = {
    "io_uring": raw("425, 8, b'\\0' * 120"),
    "userfaultfd": raw("323, 0", "323, 1"),
    "bpf": raw("321, 0, b'\\0' * 64, 64"),
    "keyctl": raw("250, 0, -3, 0", "248, b'user', b'a', b'b', 1, -3"),
    "perf_event_open": raw("298, b'\\0' * 112, 0, -1, -1, 0"),
    "namespaces": raw("272, 0x10000000", "272, 0x20000", "308, 0, 0", "165, 0, b'/', b'tmpfs', 0, 0", "161, b'.'"),
    "System V memory": raw("29, 0, 4096, 0o1666", "64, 0, 1, 0o1666", "68, 0, 0o1666"),
    "message queues": raw("240, b'queue', 0o102, 0o666, 0"),
    "shared memory": (
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=9)\nprint('GOT')"
    ),
    "becoming another user": attempts("os.setuid(0)", "os.setgid(0)", "os.setgroups([0])"),
    "raising its limits": (
        "import resource\nfor kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):\n"
        "    try: resource.setrlimit(kind, (-1, -1))\n    except (OSError, ValueError): continue\n    print('GOT')"
    ),
    "x32 calls": raw("0x40000000 + 41, 2, 1, 0"),
    "32-bit calls": LIBC
    + (
        "import mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')  # getpid by int 0x80\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        "print('GOT', call())"
    ),
}

AMOUNTS = {
    "100 GB at once": "block = bytearray(100 << 30)\nprint('GOT')",
    "memory bit by bit": (
        "blocks = []\ntry:\n    while len(blocks) < 20: blocks.append(bytearray(b'x' * (32 << 20)))\n"
        "except MemoryError: pass\nprint('GOT') if len(blocks) == 20 else None\ndel blocks"
    ),
    "shared anonymous memory": (
        "import mmap\nmaps = []\ntry:\n    while len(maps) < 20: maps.append(mmap.mmap(-1, 32 << 20))\n"
        "except (OSError, MemoryError): pass\nprint('GOT') if len(maps) == 20 else None\ndel maps"
    ),
    "memfd memory": raw("319, b'a', 0", "447, 0"),
    "1 GB returned": "'x' * (1 << 30)",
    "a large value": "'x' * (100 << 20)",
    "a huge repr": "class Evil:\n    def __repr__(self): return 'x' * (64 << 20)\nEvil()",
    "a file of 1 GB": (
        "with open('big', 'wb') as file:\n    for _ in range(1024): file.write(bytes(1 << 20))\nprint('GOT')"
    ),
    "many descriptors": "import os\nheld = [os.open('/dev/null', 0) for _ in range(500)]\nprint('GOT')",
    "locked memory": raw("149, 0, 1 << 30", "151, 3"),
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nf(0)",
    "nested parentheses": "eval('(' * 100000 + ')' * 100000)",
}

ENDINGS = {
    "a crash": "import ctypes\nctypes.string_at(0)",
    "leaving": "import os\nos._exit(0)",
    "killing itself": "import os\nos.kill(os.getpid(), 9)",
    "abort": LIBC + "libc.abort()",
    "closing the channel": "import os\nos.close(3)",
    "closing everything": "import os\nos.closerange(0, 100)",
    "a length of 4 GB on the channel": "import os\nos.write(3, b'\\xff\\xff\\xff\\xff')",
    "nested JSON on the channel": "import os\nbody = b'[' * 1000000\nos.write(3, len(body).to_bytes(4, 'big') + body)",
    "another shape on the channel": "import os\nos.write(3, b'\\0\\0\\0\\x02[]')",
    "wrong types on the channel": forged("'value': 1, 'error': [], 'images': 'x'"),
    "a false image on the channel": forged("'value': '', 'error': '', 'images': ['PHN2Zz4=']"),
}

SLOW = {
    "a loop that catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "a loop in C": "sum(iter(int, 1))",
    "a large power": "x = 7 ** (10 ** 9)",
    "a sleep": "import time\nwhile True:\n    try: time.sleep(1000)\n    except BaseException: pass",
    "a loop with signals off": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    ),
    "a regular expression": "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
}
