"""Network file systems are known by the table of mounts."""

from __future__ import annotations

import pytest

from aurora_swarm.journal.mounts import network_filesystem

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
lustre@o2ib:/flare /flare lustre rw 0 0
auto.misc /misc autofs rw 0 0
server:/misc /misc nfs rw 0 0
me@host: /mnt/far\\040away fuse.sshfs rw 0 0
portal /run/doc fuse.portal rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/run.journal", ""),
        ("/tmp/run.journal", ""),
        ("/home/me/run.journal", "nfs4"),
        ("/home", "nfs4"),
        ("/homestead/run.journal", ""),
        ("/home/local/run.journal", ""),
        ("/flare/project/run.journal", "lustre"),
        ("/misc/run.journal", "nfs"),
        ("/mnt/far away/run.journal", "fuse.sshfs"),
        ("/run/doc/run.journal", ""),
    ],
)
def test_the_innermost_mount_decides(path: str, kind: str) -> None:
    assert network_filesystem(path, MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.glusterfs"])
def test_a_network_root_is_seen(kind: str) -> None:
    assert network_filesystem("/run.journal", f"it / {kind} rw 0 0\n") == kind


def test_without_a_table_nothing_is_refused() -> None:
    assert network_filesystem("/run.journal", "") == ""
