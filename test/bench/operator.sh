# What an operator of bare kubeadm does on a node, without a moment of thought; it runs in the place of firstboot, in the same
# unit. The disk has all that can be prepared: name, network, certificate authorities, kubeadm's configuration and patches.
#
# Arguments: init or join, the node's address, the archive of the container images, kubeadm's configuration. A file called
# "go" beside this script says that the API answers; begins and ends get the times of kubeadm's run, failed how it ended.
set -eu
verb=$1 address=$2 archive=$3 config=$4
cd /var/lib/operator
trap 'code=$?; [ -e ends ] || echo "exit code $code" >failed' EXIT
until [ -S /run/containerd/containerd.sock ] && grep -q -- "-- $address\$" /proc/net/fib_trie; do sleep 0.02; done
ctr --namespace k8s.io images import --platform linux/amd64 --snapshotter erofs --label io.cri-containerd.pinned=pinned "$archive" >import.log 2>&1
[ "$verb" = init ] || until [ -e go ]; do sleep 0.02; done
now() { date +%s%N >"$1.part" && mv "$1.part" "$1"; }
now begins
if [ "$verb" = init ]; then set -- init --skip-token-print --skip-phases=show-join-command; else set -- join; fi
kubeadm "$@" --config="$config" >kubeadm.log 2>&1
now ends
