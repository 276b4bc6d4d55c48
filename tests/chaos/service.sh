#!/bin/sh
# The service of the chaos suite. ID KIND: which process it is, and how it behaves.
#
# Beside this file, one copy of a process holds two locks: ID.root, which only the program itself holds, and ID.tree,
# which everything that it starts holds too. So a second copy knows that it is one, however short its life, and so does
# a copy that is started beside what an earlier one left behind. It writes that into the file `accused`. Once it is through
# with its start it writes its pid into ID.up.
marks=${0%/*} id=$1 kind=$2

accuse() {
  there=''
  for place in /proc/[0-9]*; do
    grep -qsF "MAINSTAY_PROCESS=$id" "$place/environ" && { read -r stat <"$place/stat"; } 2>/dev/null &&
      there="$there  ${stat%% 0 0 *} …
"
  done
  # At once, for several may accuse.
  printf '%s: %s (pid %s of supervisor %s); of this process there is:\n%s' "$id" "$1" $$ $PPID "$there" >>"$marks/accused"
  exit 1
}

exec 8>>"$marks/$id.root" 7>>"$marks/$id.tree"
flock -n 8 || accuse 'another copy runs'
# What was killed may take a moment to be gone; what was not killed stays.
flock -w 2 7 8>&- || accuse 'something of an earlier copy is left'

# The fault "dies at once".
[ ! -e "$marks/$id.brittle" ] || exit 1

case $kind in
  plain) trap 'exit 0' TERM ;;
  deaf) trap '' TERM ;;
  forks)
    trap 'exit 0' TERM
    # In a session of its own, with a parent that is gone, and ever new children in sessions of theirs.
    (
      exec 8>&-
      setsid /bin/sh -c 'while :; do setsid sleep 0.5; done' &
    )
    ;;
esac
echo $$ >"$marks/$id.up"
while :; do
  sleep 86400 8>&- &
  wait $!
done
