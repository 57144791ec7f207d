# Runs firstboot in the built root, natively: namespaces of its own for mounts, host name and network, the root's own
# containerd with the baked layers, and a kubeadm that only says what its parent has taken so far.
# Arguments: system squashfs, payload squashfs, identity (Ignition config), an empty directory on a real filesystem.
set -eu
system=$1 payload=$2 ignition=$3 work=$4
mount --make-rprivate /
root=$work/root
mkdir -p "$root" "$work/var" "$work/etc" "$work/etc-work"
mount -t squashfs -o ro,loop "$system" "$root"
mount -t squashfs -o ro,loop "$payload" "$root/usr/lib/kiln/payload"
mount --bind "$work/var" "$root/var"
mount -t overlay -o "lowerdir=$root/etc,upperdir=$work/etc,workdir=$work/etc-work" overlay "$root/etc"
for dir in run tmp sys; do mount -t tmpfs tmpfs "$root/$dir"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/var/tmp" "$root/var/lib/kiln/firstboot" "$root/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config"
cp "$ignition" "$root/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw"
echo 'kiln.platform=qemu' >"$work/cmdline"
mount --bind "$work/cmdline" "$root/proc/cmdline"
cat >"$work/kubeadm" <<'PROBE'
#!/bin/sh
{ cat /proc/$PPID/stat; grep VmHWM /proc/$PPID/status; } >/run/probe.part
mv /run/probe.part /run/probe
exec sleep 60
PROBE
chmod 755 "$work/kubeadm"
mount --bind "$work/kubeadm" "$root/usr/lib/kiln/payload/usr/bin/kubeadm"
ip link set lo up
ip link add eth0 type veth peer name peer0
ip link set peer0 up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
chroot "$root" /usr/bin/containerd >"$work/containerd.log" 2>&1 &
containerd=$!
i=0
until [ -S "$root/run/containerd/containerd.sock" ]; do
  i=$((i + 1)); [ $i -lt 200 ] || { echo "containerd did not start in 10 s" >&2; tail -5 "$work/containerd.log" >&2; exit 1; }
  sleep 0.05
done
sleep 1 # the measurement begins with a containerd that is up, as on a node
chroot "$root" /usr/bin/firstboot run >"$work/firstboot.log" 2>&1 &
firstboot=$!
i=0
until [ -f "$root/run/probe" ]; do
  i=$((i + 1)); [ $i -lt 600 ] || { echo "firstboot did not come to kubeadm in 30 s" >&2; tail -5 "$work/firstboot.log" >&2; kill $firstboot $containerd; exit 1; }
  sleep 0.05
done
cat "$root/run/probe"
echo journal
cat "$root/var/lib/kiln/firstboot/journal"
kill -KILL $firstboot $containerd
