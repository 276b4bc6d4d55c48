#!/bin/sh
# What a machine can do that is to be a node; asked by `mainstay doctor`. POSIX sh. It leaves nothing behind: its one file is
# removed at once.
#
# The second argument is the greeting's nonce. The first line of the input is the directory that the node's state is kept in, absolute or
# relative to the home. A line each is said: NAME VALUE. The last one is `end`.
set -f
printf '\nMAINSTAY %s\n' "$2"
IFS= read -r root || exit 1

say() { printf '%s %s\n' "$1" "$2"; }

for tool in setsid flock head tail grep sleep wc mkdir mv rm cp cat tr sha256sum tar tee mkfifo stat dd; do
  if command -v "$tool" >/dev/null 2>&1; then say has "$tool"; else say lacks "$tool"; fi
done
if sleep 0.001 2>/dev/null; then say can sleep; else say cannot sleep; fi
if [ -r /proc/self/stat ] && [ -r /proc/uptime ] && [ -r /proc/sys/kernel/random/boot_id ]; then
  say can proc
else
  say cannot proc
fi
say clock "$(date +%s 2>/dev/null)"

if [ -d "${HOME:-}" ]; then say can home; else say cannot home; fi
case $root in
  /*) ;;
  *) root=${HOME:-/}/$root ;;
esac
# As long as it was never a node, what will be above the directory counts.
while [ ! -d "$root" ]; do
  root=${root%/*}
  [ -n "$root" ] || root=/
done
say directory "$root"
file=$root/.mainstay-doctor.$$
trap 'rm -f "$file"' EXIT
if (head -c 65536 /dev/zero >"$file") 2>/dev/null; then say can write; else say cannot write; fi
if flock -n "$file" true 2>/dev/null; then say can lock; else say cannot lock; fi
rm -f "$file"
# The last line, up to its capacity: … AVAILABLE CAPACITY
free=$(df -Pk "$root" 2>/dev/null | tail -n 1)
free=${free%%"% /"*}
# shellcheck disable=SC2086 # split into fields
set -- $free
if [ $# -ge 2 ]; then
  shift $(($# - 2))
  say free "$1"
fi
say end .
