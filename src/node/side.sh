#!/bin/sh
# What runs on a node at the far end of a side channel (side.rs): bytes, beside the conversation that script.sh leads. POSIX
# sh. Like that script it comes over the channel and is never left behind.
#
# It greets, reads one line of words, and then does what they say with what comes in and goes out as raw bytes. At the end of
# its input, which is also how it learns that the controller is gone, it ends, and what it has started with it.
#
#   echo                                sends back what comes
#   put ROOT EPOCH SUM SIZE             takes an artifact, a tar of SIZE bytes with this SHA-256, into ROOT/a/SUM
#   log ROOT ID follow|once all         a process's log, as log.rs reads it: all that is kept,
#   log ROOT ID follow|once last N      or its last N lines,
#   log ROOT ID follow|once at GEN OFF  or from where another reading ended
set -f
NL='
'

# True when all of this channel's group was started by us: sshd gives each channel a session of its own, and so do we.
leads() {
  IFS= read -r _stat </proc/self/stat
  # shellcheck disable=SC2086 # split into fields
  set -- ${_stat##*) }
  [ "${3:-}" = "$$" ]
}

# ---- log ---------------------------------------------------------------------------------------------------------
# A log is the file log, and log.1, log.2 ... that it was copied or moved to, the youngest first. A place in it is GEN OFF: OFF
# bytes into the file that began when GEN was rotated away, - for none. A rotated file is known by its token, which stays
# when it moves on from log.1 to log.2.

# Most bytes that are sent as one, and that are searched for the last lines.
CHUNK=262144
SEARCHED=16777216

# Sees what there is: LOG, the size of log, empty when there is none; OLD, a line NAME TOKEN SIZE for each rotated file.
look() {
  LOG='' OLD=''
  cd "$D" 2>/dev/null || return
  set +f
  _seen=$(stat -c '%n %i.%s.%Y %s' log log.[0-9]* 2>/dev/null)
  set -f
  while read -r _name _token _size; do
    case $_name in
      log) LOG=$_size ;;
      '' | log.*[!0-9]*) ;;
      *) OLD="$OLD$_name $_token $_size$NL" ;;
    esac
  done <<SEEN
$_seen
SEEN
}

# NTH -> NAME, TOKEN and SIZE of that rotated file; the 0th is log itself. TOKEN is - when it is not there.
of() {
  NAME=log.$1 TOKEN=- SIZE=0
  if [ "$1" = 0 ]; then NAME=log SIZE=${LOG:-0}; fi
  while read -r _name _token _size; do
    [ "$_name" != "$NAME" ] || TOKEN=$_token SIZE=$_size
  done <<OLD
$OLD
OLD
}

# Looks until no rotation is under way: log.1 has not moved on without another in its place, what is seen stays the same, and log
# is shorter than its copy, for then it has been truncated. Where that does not show, after a while; 2 s at most.
settle() {
  _same=0 _tries=20
  while [ $_same -lt 3 ] && [ $_tries -gt 0 ]; do
    _tries=$((_tries - 1)) _same=$((_same + 1)) _before=$OLD
    sleep 0.1
    look
    of 1
    if [ "$OLD" != "$_before" ] || { [ "$TOKEN" = - ] && [ -n "$OLD" ]; }; then _same=0; fi
    if [ $_same != 0 ] && [ "${LOG:-0}" -lt "$SIZE" ]; then return; fi
  done
}

# Sets NTH, NAME and SIZE to the file that began when GEN was rotated away. If GEN is not there, it has been dropped, or there
# never was one; then it is the oldest.
locate() {
  NTH=0
  while of $((NTH + 1)) && [ "$TOKEN" != "$GEN" ] && [ "$TOKEN" != - ]; do
    NTH=$((NTH + 1))
  done
  of $NTH
}

# N -> GEN OFF, where the last N lines begin.
last() {
  _want=$1 NTH=0
  while :; do
    of $NTH
    _from=$((SIZE - SEARCHED))
    [ $_from -gt 0 ] || _from=0
    # shellcheck disable=SC2046 # two numbers
    set -- $(tail -c "+$((_from + 1))" "$NAME" 2>/dev/null | head -c $((SIZE - _from)) | tail -n "$_want" | wc -lc)
    OFF=$((SIZE - ${2:-0})) _want=$((_want - ${1:-0}))
    of $((NTH + 1))
    GEN=$TOKEN
    [ $OFF = 0 ] && [ $_want -gt 0 ] && [ "$GEN" != - ] || return
    NTH=$((NTH + 1))
  done
}

# Sends what there is at GEN OFF, moves these on, and says in MORE whether there may be more.
send() {
  MORE=1
  look
  [ "$OLD" = "$KNOWN" ] || settle
  KNOWN=$OLD
  locate
  [ "$GEN" != "$LAST" ] || [ "$SIZE" -le "$END" ] || SIZE=$END
  if [ "$OFF" -lt "$SIZE" ]; then
    _length=$((SIZE - OFF))
    [ $_length -le $CHUNK ] || _length=$CHUNK
    printf '= %s %s %s\n' "$GEN" "$OFF" $_length
    # Filled up with zeros if the file is truncated meanwhile.
    { tail -c "+$((OFF + 1))" "$NAME"; cat /dev/zero; } 2>/dev/null | head -c $_length
    look
    of $NTH
    if [ "$OLD" = "$KNOWN" ] && [ $((OFF + _length)) -le "$SIZE" ]; then
      printf '+\n'
      OFF=$((OFF + _length))
      [ $NTH != 0 ] || [ $OFF != "$SIZE" ] || MORE=''
    else
      printf -- '-\n'
    fi
  elif [ $NTH != 0 ]; then
    # On to the file that began when this one was rotated away.
    GEN=$TOKEN OFF=0
  elif [ "$OFF" -gt "$SIZE" ]; then
    # Truncated. If that was a rotation, the copy has been seen by now.
    settle
    [ "$OLD" != "$KNOWN" ] || OFF=0
  else
    MORE=''
  fi
}

# FROM... Sends the log to its end, and on while it is followed. The input is a bell.
relay() {
  look
  of 1
  if [ -n "$OLD" ] && [ "${LOG:-0}" -ge "$SIZE" ]; then settle; fi
  KNOWN=$OLD _was_there=''
  # Where a reading without an end would have none: what is written meanwhile is not shown.
  of 1
  LAST=$TOKEN END=${LOG:-0}
  [ "$FOLLOW" != follow ] || LAST=''
  case $1 in
    last) last "$2" ;;
    at) GEN=$2 OFF=$3 ;;
    *) GEN=- OFF=0 ;;
  esac
  printf '@ %s %s\n' "$GEN" "$OFF"
  while :; do
    [ "$GEN" != "$LAST" ] || [ "$OFF" -lt "$END" ] || break
    _off=$OFF
    send
    [ -z "$MORE" ] || continue
    [ -z "$LAST" ] || break
    if [ -d "$D" ]; then _was_there=1; elif [ -n "$_was_there" ]; then break; fi
    # Not for each line that a busy process writes.
    [ "$OFF" = "$_off" ] || sleep 0.2
    # Many rings are as good as one.
    [ "$(dd bs=65536 count=1 2>/dev/null | wc -c)" -gt 0 ] || break
  done
  printf 'E\n'
}

# Rings when the log grows, and now and then for what a tail does not tell.
ring() {
  _tail='' _pause=1
  while printf '\n'; do
    if [ -z "$_tail" ] && leads && cd "$D" 2>/dev/null; then
      tail -n 0 -F log 2>/dev/null &
      _tail=1
    elif [ -n "$_tail" ]; then
      # Once more soon, for the tail took a moment to look.
      _pause=5
    fi
    sleep $_pause
  done
}

# ROOT ID FOLLOW FROM...
log() {
  for _tool in stat tail head wc dd; do
    command -v $_tool >/dev/null 2>&1 || { printf 'X %s is missing\n' $_tool; return; }
  done
  D=$1/p/$2 FOLLOW=$3
  case $D in /*) ;; *) D=$HOME/$D ;; esac
  shift 3
  if [ "$FOLLOW" = follow ]; then ring; fi | relay "$@" &
  cat >/dev/null
  # The controller is gone.
  if leads; then kill -TERM 0; else kill -TERM $!; fi
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
  log) shift; log "$@" ;;
  put) put "$2" "$3" "$4" "$5" ;;
  *) printf 'X %s is no word of this script\n' "${1:-nothing}" ;;
esac
