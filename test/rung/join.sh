# Moves itself into the node's cgroups, so that the cgroup namespace begins there, and goes on as its arguments say.
# Arguments: the file with one cgroup directory a line, then the program to become.
set -eu
list=$1
shift
while read -r dir; do echo 0 >"$dir/cgroup.procs"; done <"$list"
exec "$@"
