"""Numbers of the system calls that the confined child's filter speaks of.

Source: `asm/unistd_64.h` (x86-64) and `asm-generic/unistd.h` (AArch64) of Linux 6.18.
A call that an architecture never had stands as -1.
"""

import platform
from dataclasses import dataclass

ABSENT = -1

# What a tensor program never needs, by what it would be good for.
_DENIED: dict[str, dict[str, tuple[int, int]]] = {
    "reach other machines and other programs": {
        "socket": (41, 198),
        "connect": (42, 203),
        "accept": (43, 202),
        # The channel is written with write(): no address, no descriptors to send.
        "sendto": (44, 206),
        "sendmsg": (46, 211),
        "bind": (49, 200),
        "listen": (50, 201),
        "getsockname": (51, 204),
        "getpeername": (52, 205),
        "socketpair": (53, 199),
        "accept4": (288, 242),
        "sendmmsg": (307, 269),
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semop": (65, 193),
        "semctl": (66, 191),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "semtimedop": (220, 192),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
    },
    "start programs": {
        "fork": (57, ABSENT),
        "vfork": (58, ABSENT),
        "execve": (59, 221),
        "execveat": (322, 281),
        "uselib": (134, ABSENT),
    },
    "touch other processes of the same user": {
        "ptrace": (101, 117),
        "rt_sigqueueinfo": (129, 138),
        "tkill": (200, 130),
        "rt_tgsigqueueinfo": (297, 240),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "kcmp": (312, 272),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        "setpriority": (141, 140),
        "sched_setparam": (142, 118),
        "sched_setscheduler": (144, 119),
        "ioprio_set": (251, 30),
        "sched_setattr": (314, 274),
        "setsid": (112, 157),
        "setpgid": (109, 154),
    },
    "change files by path or by a read-only descriptor (Landlock covers neither)": {
        "truncate": (76, 45),
        "link": (86, ABSENT),
        "symlink": (88, ABSENT),
        "chmod": (90, ABSENT),
        "fchmod": (91, 52),
        "chown": (92, ABSENT),
        "fchown": (93, 55),
        "lchown": (94, ABSENT),
        "utime": (132, ABSENT),
        "mknod": (133, ABSENT),
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
        "utimes": (235, ABSENT),
        "mknodat": (259, 33),
        "fchownat": (260, 54),
        "futimesat": (261, ABSENT),
        "linkat": (265, 37),
        "symlinkat": (266, 36),
        "fchmodat": (268, 53),
        "utimensat": (280, 88),
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
    },
    "watch files of others": {
        "inotify_init": (253, ABSENT),
        "inotify_add_watch": (254, 27),
        "inotify_init1": (294, 26),
        "fanotify_init": (300, 262),
        "fanotify_mark": (301, 263),
    },
    "hold memory that no limit counts": {
        "memfd_create": (319, 279),
    },
    "become somebody else": {
        "setuid": (105, 146),
        "setgid": (106, 144),
        "setreuid": (113, 145),
        "setregid": (114, 143),
        "setgroups": (116, 159),
        "setresuid": (117, 147),
        "setresgid": (119, 149),
        "setfsuid": (122, 151),
        "setfsgid": (123, 152),
        "capset": (126, 91),
        "setrlimit": (160, 164),
    },
    "change the machine": {
        "pivot_root": (155, 41),
        "adjtimex": (159, 171),
        "chroot": (161, 51),
        "sync": (162, 81),
        "acct": (163, 89),
        "settimeofday": (164, 170),
        "mount": (165, 40),
        "umount2": (166, 39),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "reboot": (169, 142),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
        "iopl": (172, ABSENT),
        "ioperm": (173, ABSENT),
        "init_module": (175, 105),
        "delete_module": (176, 106),
        "quotactl": (179, 60),
        "nfsservctl": (180, 42),
        "clock_settime": (227, 112),
        "kexec_load": (246, 104),
        "unshare": (272, 97),
        "clock_adjtime": (305, 266),
        "syncfs": (306, 267),
        "setns": (308, 268),
        "finit_module": (313, 273),
        "kexec_file_load": (320, 294),
        "syslog": (103, 116),
        "vhangup": (153, 58),
    },
    "widen the kernel's face: seldom used, often broken": {
        "personality": (135, 92),
        "modify_ldt": (154, ABSENT),
        "io_setup": (206, 0),
        "io_submit": (209, 2),
        "lookup_dcookie": (212, 18),
        "remap_file_pages": (216, 234),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        "splice": (275, 76),
        "tee": (276, 77),
        "vmsplice": (278, 75),
        "perf_event_open": (298, 241),
        "bpf": (321, 280),
        "userfaultfd": (323, 282),
    },
}

# Allowed only with some arguments; `seccomp.py` says which.
_WATCHED: dict[str, tuple[int, int]] = {
    "open": (2, ABSENT),
    "ioctl": (16, 29),
    "clone": (56, 220),
    "kill": (62, 129),
    "fcntl": (72, 25),
    "prctl": (157, 167),
    "sched_setaffinity": (203, 122),
    "tgkill": (234, 131),
    "openat": (257, 56),
    "prlimit64": (302, 261),
}
_SECCOMP = (317, 277)

# From 424 on both architectures share their numbers. Of these and of every number
# that a later kernel adds, only the following exist for the child: close_range,
# faccessat2, epoll_pwait2, futex_waitv, set_mempolicy_home_node, map_shadow_stack,
# futex_wake, futex_wait, futex_requeue, mseal. So io_uring, the pidfd calls, clone3,
# openat2, the new mount interface and what is not invented yet are absent.
FIRST_SHARED = 424
SHARED_ALLOWED = (436, 439, 441, 449, 450, 453, 454, 455, 456, 462)

LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446


@dataclass(frozen=True)
class Calls:
    """The numbers of one architecture.

    Attributes:
        audit_arch: `AUDIT_ARCH_*` as the kernel hands it to a filter.
        last_own: the last number below `FIRST_SHARED` that the architecture uses.
        denied: name -> number.
        watched: name -> number.
        seccomp: number of `seccomp` itself.
    """

    audit_arch: int
    last_own: int
    denied: dict[str, int]
    watched: dict[str, int]
    seccomp: int


def calls_of(machine: str | None = None) -> Calls | None:
    """Find the table of a machine (default: this one), None where there is none."""
    column = {"x86_64": 0, "aarch64": 1}.get(machine or platform.machine())
    if column is None:
        return None
    denied = {
        name: numbers[column]
        for group in _DENIED.values()
        for name, numbers in group.items()
        if numbers[column] != ABSENT
    }
    watched = {
        name: numbers[column]
        for name, numbers in _WATCHED.items()
        if numbers[column] != ABSENT
    }
    return Calls(
        audit_arch=(0xC000003E, 0xC00000B7)[column],
        last_own=(334, 294)[column],
        denied=denied,
        watched=watched,
        seccomp=_SECCOMP[column],
    )
