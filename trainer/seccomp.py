"""The system calls that an engine may make: a seccomp filter, written as classic BPF and installed through prctl.

Rule: what is not on the list is answered as if the kernel did not know it (ENOSYS), which libraries are written to
survive. There is no process, no socket, no signal to others, no mode or owner of a file on the list.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# uname's machine -> the kernel's audit name of the architecture, and the place of its number in a row of the table.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# name, x86-64's number, ARM64's number (asm-generic); a dash where an architecture has no such call.
_ALLOWED = """
    read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; open 2 -; openat 257 56;
    close 3 57; lseek 8 62; fstat 5 80; stat 4 -; lstat 6 -; newfstatat 262 79; statx 332 291; access 21 -;
    faccessat 269 48; faccessat2 439 439; readlink 89 -; readlinkat 267 78; getdents64 217 61; getcwd 79 17;
    mkdir 83 -; mkdirat 258 34; rename 82 -; renameat 264 38; renameat2 316 276; unlink 87 -; unlinkat 263 35;
    rmdir 84 -; ftruncate 77 46; fallocate 285 47; fsync 74 82; fdatasync 75 83; flock 73 32; umask 95 166;
    dup 32 23; dup2 33 -; dup3 292 24; ioctl 16 29; pipe 22 -; pipe2 293 59; poll 7 -; ppoll 271 73; select 23 -;
    pselect6 270 72; epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22; eventfd2 290 19;
    mmap 9 222; munmap 11 215; mprotect 10 226; mremap 25 216; madvise 28 233; brk 12 214; mlock 149 228;
    munlock 150 229; msync 26 227; mincore 27 232; memfd_create 319 279; mbind 237 235; set_mempolicy 238 237;
    get_mempolicy 239 236; membarrier 324 283; rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139;
    rt_sigpending 127 136; rt_sigtimedwait 128 137; sigaltstack 131 132; restart_syscall 219 128; futex 202 98;
    futex_waitv 449 449; set_robust_list 273 99; get_robust_list 274 100; rseq 334 293; set_tid_address 218 96;
    arch_prctl 158 -; exit 60 93; exit_group 231 94; gettid 186 178; getpid 39 172; getppid 110 173; getuid 102 174;
    geteuid 107 175; getgid 104 176; getegid 108 177; sched_yield 24 124; sched_getaffinity 204 123;
    sched_getparam 143 121; sched_getscheduler 145 120; sched_get_priority_max 146 125;
    sched_get_priority_min 147 126; getcpu 309 168; clock_gettime 228 113; clock_getres 229 114;
    clock_nanosleep 230 115; nanosleep 35 101; gettimeofday 96 169; time 201 -; times 100 153; getrusage 98 165;
    getrlimit 97 163; getpriority 140 141; uname 63 160; sysinfo 99 179; getrandom 318 278
"""
_CLONE, _FCNTL, _PRCTL, _PRLIMIT, _TGKILL = (56, 220), (72, 25), (157, 167), (302, 261), (234, 131)

_CLONE_THREAD = 0x00010000
# F_SETOWN, F_SETSIG, F_SETOWN_EX: with them a pipe sends signals to any process of the user.
_FCNTL_SIGNALS = (8, 10, 15)
# PR_SET_NAME, PR_GET_NAME and PR_SET_VMA, with which threads and mappings get names.
_PRCTL_NAMES = (15, 16, 0x53564D41)

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _UNKNOWN, _FORBIDDEN = 0x7FFF0000, 0x80000000, 0x00050000 | 38, 0x00050000 | 1  # 38: ENOSYS, 1: EPERM
_PR_SET_SECCOMP, _FILTER = 22, 2

Instruction = tuple[int, int, int, int]  # code, jumps if true and if false, operand


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def build(machine: str, pid: int) -> list[Instruction] | None:
    """The filter for process `pid` on a machine of that architecture; None for one that the table does not have."""
    if machine not in _ARCHITECTURES:
        return None
    audit, column = _ARCHITECTURES[machine]
    instructions = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    for row in _ALLOWED.split(";"):
        if (number := row.split()[1 + column]) != "-":
            instructions += [(_EQUAL, 0, 1, int(number)), (_RETURN, 0, 0, _ALLOW)]
    # A thread, and no process. glibc takes clone where clone3, whose flags no filter can read, is not there.
    instructions += _guarded(_CLONE[column], 0, [(_ANY_BIT, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW)])
    # A signal to this process itself: abort() needs it.
    instructions += _guarded(_TGKILL[column], 0, _one_of((pid,)))
    instructions += _guarded(_PRLIMIT[column], 0, _one_of((0, pid)))
    instructions += _guarded(_PRCTL[column], 0, _one_of(_PRCTL_NAMES))
    instructions += _guarded(_FCNTL[column], 1, [*_none_of(_FCNTL_SIGNALS), (_RETURN, 0, 0, _ALLOW)])
    return [*instructions, (_RETURN, 0, 0, _UNKNOWN)]


def install() -> bool:
    """Bind this thread and those that it starts, for ever; no_new_privs must be set. False where there is none."""
    instructions = build(platform.machine(), os.getpid())
    if instructions is None:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(instructions), ctypes.cast(buffer, ctypes.c_void_p).value)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0)


def _guarded(number: int, argument: int, check: list[Instruction]) -> list[Instruction]:
    """For that call: load an argument's low half, which is all that the kernel reads of an int, and check it."""
    body = [(_LOAD, 0, 0, 16 + 8 * argument), *check, (_RETURN, 0, 0, _FORBIDDEN)]
    return [(_EQUAL, 0, len(body), number), *body]


def _one_of(values: tuple[int, ...]) -> list[Instruction]:
    return [i for value in values for i in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]


def _none_of(values: tuple[int, ...]) -> list[Instruction]:
    return [i for value in values for i in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _FORBIDDEN))]
