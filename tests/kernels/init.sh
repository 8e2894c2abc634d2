#!/bin/sh
# The guest's first process: the machine's own files, read-only under a layer that is kept in memory; then the job.
export PATH=/bin
mkdir -p /proc /sys /dev /machine /layer /new
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for name in $(cat /order); do insmod /modules/$name.ko; done
tries=0
until mount -t virtiofs machine /machine 2>/dev/null; do
	tries=$((tries + 1))
	[ $tries -gt 100 ] && echo "no file server" && reboot -f
	sleep 0.05
done
JOB= ROOT=
for word in $(cat /proc/cmdline); do
	case $word in lab.job=*) JOB=${word#*=} ;; lab.root=*) ROOT=${word#*=} ;; esac
done
mount -t tmpfs -o size=80% layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/machine$ROOT,upperdir=/layer/upper,workdir=/layer/work over /new || reboot -f
cd /new
mkdir -p proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs sys sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm
mount -t devpts pts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs -o mode=755 run run
ln -sf /proc/self/fd dev/fd
mount -t tracefs tracefs sys/kernel/tracing
mount -t debugfs debugfs sys/kernel/debug
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t securityfs security sys/kernel/security
# Emulated, a processor executes some fortieth of what a real one does in a slice of time: without this, threads would be put
# aside in the midst of the kernel's calls forty times as often as anywhere else.
SLICE=sys/kernel/debug/sched/base_slice_ns
[ ! -e $SLICE ] || echo $(($(cat $SLICE) * 40)) >$SLICE
ifconfig lo 127.0.0.1 up
hostname guest
. /machine$JOB/mounts
echo >/new$JOB/started
chroot /new /bin/sh $JOB/command </dev/null >/new$JOB/output 2>&1
echo $? >/new$JOB/status
sync
reboot -f
