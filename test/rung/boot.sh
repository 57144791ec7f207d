# What stands in for firmware, kernel and initramfs: puts the root together as firstboot/initramfs leaves it, makes it the
# root of this mount namespace, and becomes the image's init. Runs as process 1 of new namespaces of processes, mounts,
# network, hostname, IPC and cgroups.
#
# Arguments: directory of the node, the image's mounted root, a file of the host that a node cannot see, the console's
# terminal, the words of the kernel command line that systemd reads. The node's directory has:
#   var/      the disk: what the state partition is on a machine
#   run/      copied to /run: what the initramfs left, and the cable's configuration
#   bind/     files that are bound over the root's of the same path
#   sysctl/   files that are bound over /proc/sys, so that the host's settings stay the host's
#   firmware/ what the machine shows below /sys/firmware
#   dmi/      what it shows in /sys/class/dmi/id
#   cgroups   one line for each hierarchy: directory, type, options
#   cmdline   the kernel command line
#
# It stops at the first error. An init that is started on the host's own root would take the host apart: nothing is
# executed before it is proven that the host's files cannot be seen any more.
set -eu
node=$1 image=$2 marker=$3 console=$4 words=$5
die() { echo "boot.sh: $*" >&2; exit 1; }
[ $$ -eq 1 ] || die "not process 1 of a pid namespace"
[ -e "$marker" ] || die "the marker $marker is not there to begin with: its absence would prove nothing"

# The hostname of a kernel that was just started: a node has its own only from its identity.
echo "(none)" >/proc/sys/kernel/hostname
mount --make-rprivate /
root=$node/root
mount --rbind "$image" "$root"

# State partition and /etc, as firstboot/initramfs does.
mount --bind "$node/var" "$root/var"
mkdir -p "$root/var/lib/kiln/etc/upper" "$root/var/lib/kiln/etc/work"
mount -t overlay -o "lowerdir=$root/etc,upperdir=$root/var/lib/kiln/etc/upper,workdir=$root/var/lib/kiln/etc/work" overlay "$root/etc"

mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
cp -r "$node/run/." "$root/run/"
mkdir -p "$root/run/rung"

# The kernel's settings are shared by everything that runs on it. Only the network's belong to the namespace and stay as
# they are; the rest is read-only, but for the few that a node insists on setting.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for dir in kernel vm fs; do
  mount --bind "$root/proc/sys/$dir" "$root/proc/sys/$dir"
  mount -o remount,bind,ro "$root/proc/sys/$dir"
done
cp -r "$node/sysctl" "$root/run/rung/sysctl"
(cd "$root/run/rung/sysctl" && find . -type f) | while read -r file; do
  mount --bind "$root/run/rung/sysctl/$file" "$root/proc/sys/$file"
done
cp "$node/cmdline" "$root/run/rung/cmdline"
mount --bind "$root/run/rung/cmdline" "$root/proc/cmdline"

# A sysfs of this network namespace. It is read-only, as in every container: systemd-udevd then does not run, and does not
# ask the host's devices to announce themselves again.
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount --bind "$node/firmware" "$root/sys/firmware"
class=$root/run/rung/class
mkdir "$class"
mount --bind "$root/sys/class" "$class"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/class"
for entry in "$class"/*; do
  name=${entry##*/}
  [ "$name" = dmi ] && continue
  mkdir "$root/sys/class/$name"
  mount --bind "$entry" "$root/sys/class/$name"
done
umount "$class"
rmdir "$class"
mkdir -p "$root/sys/class/dmi/id"
cp "$node"/dmi/* "$root/sys/class/dmi/id/"

mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
while read -r dir kind options; do
  if [ "$dir" = /sys/fs/cgroup ]; then
    umount "$root/sys/fs/cgroup" # version 2 alone: no tmpfs around it
  else
    mkdir -p "$root$dir"
  fi
  mount -t "$kind" ${options:+-o "$options"} "$kind" "$root$dir"
done <"$node/cgroups"
mount -o remount,bind,ro "$root/sys"

mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
device() { mknod -m 666 "$root/dev/$1" c "$2" "$3"; }
device null 1 3
device zero 1 5
device full 1 7
device random 1 8
device urandom 1 9
device tty 5 0
device fuse 10 229
# The kubelet insists on a kernel log. The host's is nobody's business.
device kmsg 1 3
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/dev/net"
device net/tun 10 200
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0 1 2; do ln -s "/proc/self/fd/$n" "$root/dev/$(echo stdin stdout stderr | cut -d' ' -f$((n + 1)))"; done
: >"$root/dev/console"
mount --bind "$console" "$root/dev/console"

# What only this kind of machine needs. The image's own kubeadm stays in reach for what is bound over it.
: >"$root/run/rung/kubeadm"
mount --bind "$root/usr/lib/kiln/payload/usr/bin/kubeadm" "$root/run/rung/kubeadm"
(cd "$node/bind" && find . -type f) | while read -r file; do
  mount --bind "$node/bind/$file" "$root/$file"
done

# A machine has its network card when its kernel starts.
i=0
until [ -e "$root/sys/class/net/eth0" ]; do
  i=$((i + 1)); [ $i -lt 1000 ] || die "no cable to eth0 after 10 s"
  sleep 0.01
done

cd "$root"
pivot_root . .
umount -l .
cd /
[ ! -e "$marker" ] || die "the host's $marker is still visible: this is the host's root"
[ -f /usr/lib/kiln/node.json ] || die "this is not the root of a kiln image"
[ -x /usr/lib/systemd/systemd ] || die "the image has no systemd"
mount --make-rshared /
# Without these two capabilities no node can set the host's clock or load a module into its kernel.
exec setpriv --bounding-set=-sys_time,-sys_module env -i PATH=/usr/sbin:/usr/bin TERM=linux container=kiln-rung SYSTEMD_PROC_CMDLINE="$words" /usr/lib/systemd/systemd
