#!/bin/sh
# What runs on a node at the far end of a side channel (side.rs): bytes, beside the conversation that script.sh leads. POSIX
# sh. Like that script it comes over the channel and is never left behind.
#
# It greets, reads one line of words, and then does what they say with what comes in and goes out as raw bytes. At the end of
# its input, which is also how it learns that the controller is gone, it ends, and what it has started with it.
#
#   echo                        sends back what comes
#   put ROOT EPOCH SUM SIZE     takes an artifact, a tar of SIZE bytes with this SHA-256, into ROOT/a/SUM
set -f
# shellcheck disable=SC2034 # the controller's quoting names it
NL='
'

# Ends what was started here. sshd gives a channel a session of its own; only where that shows is the whole group ours.
# shellcheck disable=SC2317,SC2329 # words that start something end with it
leave() {
  IFS= read -r _stat </proc/self/stat
  # shellcheck disable=SC2086 # split into fields
  set -- ${_stat##*) }
  [ "${3:-}" != "$$" ] || kill -TERM 0
}

# PID -> SS (start time), GROUP; fails when it is gone.
stat_of() {
  SS='' GROUP=''
  { IFS= read -r _stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # shellcheck disable=SC2086 # split into fields
  set -- ${_stat##*) }
  GROUP=${3:-} SS=${20:-}
}

# ---- put ---------------------------------------------------------------------------------------------------------

failed() {
  [ -z "$part" ] || rm -rf "$part"
  printf 'failed %s\n' "$1"
  exit 1
}

# Sets FREE to the kilobytes that are free below $a; empty when that can't be told.
room() {
  FREE=$(df -Pk "$a" 2>/dev/null | { read -r _ && read -r _ _ _ _free _ && printf '%s' "$_free"; })
  case $FREE in *[!0-9]*) FREE='' ;; esac
}

# Ends transfers that a newer one supersedes, and removes what was left of others. A connection that broke may not have
# been noticed here yet; its transfer waits for bytes that never come.
clean() {
  set +f
  for _old in "$a"/.part-* "$a"/.old-*; do
    set -f
    [ -e "$_old" ] || continue
    _who=${_old##*/.part-}
    _pid=${_who%%-*} _who=${_who#*-}
    case $_pid in
      '' | *[!0-9]*) ;;
      *)
        if [ "${_who#*-}" = "$boot" ] && stat_of "$_pid" && [ "$SS" = "${_who%%-*}" ]; then
          if [ "$GROUP" = "$_pid" ]; then kill -KILL "-$_pid"; else kill -KILL "$_pid"; fi
        fi
        ;;
    esac
    rm -rf "$_old"
  done
  set -f
}

# Says `ready` before it takes anything in and `done` at the end; `done` at once when it is there already; instead of
# either, `failed WHY`. Nothing is seen under its name before all of it is there and verified.
put() {
  root=$1 epoch=$2 sum=$3 size=$4
  a=$root/a part=''
  case $sum$epoch$size in *[!0-9a-f]*) failed "that is no artifact" ;; esac
  for _tool in sha256sum tar tee head mkfifo mkdir mv rm; do
    command -v "$_tool" >/dev/null 2>&1 || failed "$_tool is missing on the node; install it"
  done
  _e=0
  { read -r _e _ <"$root/fence"; } 2>/dev/null
  [ "$epoch" -ge "${_e:-0}" ] || failed "a newer controller (epoch ${_e#"${_e%%[!0]*}"}) has taken this node over"
  umask 022
  mkdir -p "$a" || failed "can't make $a"
  if [ -d "$a/$sum" ]; then printf 'done\n'; return; fi
  IFS= read -r boot </proc/sys/kernel/random/boot_id
  clean
  room
  # What is needed besides the bytes themselves is little: blocks that are not full, folders.
  _need=$((size / 1024 + size / 16384 + 64))
  [ -z "$FREE" ] || [ "$FREE" -ge $_need ] ||
    failed "disk full: $a has $FREE kB free, and $_need kB are needed; free some"
  stat_of "$$"
  part=$a/.part-$$-$SS-$boot
  if ! mkdir "$part" "$part/new" || ! mkfifo "$part/pipe"; then failed "can't write to $a"; fi
  printf 'ready\n'
  # Unpacked while it comes, so that it needs its room once; it is nobody's before its sum is right.
  sha256sum <"$part/pipe" >"$part/sum" 2>/dev/null &
  head -c "$size" | tee "$part/pipe" 2>/dev/null | tar -xmof - -C "$part/new" >/dev/null 2>"$part/why"
  _unpacked=$?
  wait
  _sum=''
  { read -r _sum _ <"$part/sum"; } 2>/dev/null
  if [ "$_unpacked" != 0 ]; then
    room
    [ "${FREE:-1000}" -ge 64 ] || failed "disk full: there is no room left in $a; free some"
    _why=''
    { IFS= read -r _why <"$part/why"; } 2>/dev/null
    failed "what arrived can't be unpacked: ${_why:-tar ended with $_unpacked}"
  fi
  [ "$_sum" = "$sum" ] || failed "what arrived is not what was sent: its SHA-256 is ${_sum:-unknown}"
  # On the disk before it has its name, or a power loss could leave an empty file under a name that promises its content.
  sync -f "$part/new" 2>/dev/null || sync
  mv "$part/new" "$a/$sum" || failed "can't write to $a"
  rm -rf "$part"
  printf '?artifact %s\n' "$sum" >>"$root/events"
  printf 'done\n'
}

# On a line of its own, whatever an rc file has left unfinished.
printf '\nMAINSTAY %s\n' "$2"
IFS= read -r _words || exit 0
eval "set -- $_words"
case ${1:-} in
  echo) cat ;;
  put) put "$2" "$3" "$4" "$5" ;;
  *) printf 'X %s is no word of this script\n' "${1:-nothing}" ;;
esac
