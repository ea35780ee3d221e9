#!/bin/sh
# Starts the sandbox's service in a container, with the arguments of `longhaul sandbox serve`.
set -eu

# A container sees these read-only; a process that can mount can make them writable. No program in a box sees either.
writable() {
  mount -o remount,bind,rw,nosuid,nodev,noexec "$1" || echo "$1 stays read-only: $2" >&2
}
if [ "$(id -u)" = 0 ]; then
  writable /sys/fs/cgroup "without control groups some limits hold for single processes only, as results will say"
  writable /proc/sys "bubblewrap cannot forbid its boxes further user namespaces, and will not start; crun may"
fi

exec /opt/longhaul/bin/python -m flows.cli.sandbox serve "$@"
