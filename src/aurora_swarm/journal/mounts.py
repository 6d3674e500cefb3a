"""Which file system a path lies on, read from the kernel's table of mounts. Pure."""

from __future__ import annotations

import re

NETWORK_TYPES = frozenset(
    {
        "afs",
        "afpfs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "cvmfs",
        "daos",
        "davfs",
        "dvs",
        "fhgfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "quobyte",
        "smb3",
        "smbfs",
        "wekafs",
    }
)
"""Types whose locks or whose order of writes differ between nodes: a write-ahead log can be torn there unseen."""

NETWORK_FUSE = frozenset(
    {
        "beegfs",
        "ceph",
        "cvmfs2",
        "daos",
        "gcsfuse",
        "glusterfs",
        "juicefs",
        "mfs",
        "moosefs",
        "rclone",
        "s3fs",
        "sshfs",
        "vmhgfs-fuse",
        "weka",
    }
)
"""The same for what follows `fuse.`."""


def network_filesystem(path: str, mounts: str) -> str:
    """The type of the network file system that a path lies on.

    Args:
        path: Absolute, without symbolic links.
        mounts: Text of ``/proc/mounts``; empty where there is none.

    Returns:
        The type, for example ``nfs4`` or ``fuse.sshfs``; empty when the path lies on none.
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescape(fields[1]).rstrip("/")
        # A later mount hides an earlier one on the same point.
        if len(point) >= best and (path == point or path.startswith(point + "/")):
            best, kind = len(point), fields[2]
    family, _, program = kind.partition(".")
    network = kind in NETWORK_TYPES or (family == "fuse" and program in NETWORK_FUSE)
    return kind if network else ""


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
