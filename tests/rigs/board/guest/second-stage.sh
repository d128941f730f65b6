#!/bin/sh
# The first process of a machine that has debootstrap's first stage in its memory: configures Debian
# there, writes all of it as a tar file to the disk, and switches the machine off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
if /debootstrap/debootstrap --second-stage </dev/null; then
    apt-get clean
    modprobe -a virtio_pci virtio_blk
    mount -t devtmpfs devtmpfs /mnt
    tar --one-file-system --exclude=./init --numeric-owner -C / -cf /mnt/vda . && sync &&
        echo "rig: the second stage is complete"
else
    tail -n 20 /debootstrap/debootstrap.log
fi
mountpoint -q /proc || mount -t proc proc /proc
echo o >/proc/sysrq-trigger
sleep 60
