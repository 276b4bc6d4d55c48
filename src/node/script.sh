#!/bin/sh
# What runs on a node while the controller is connected, and the small supervisor of each process. POSIX sh, setsid and
# flock of util-linux, GNU grep and tail, sleep. Nothing of it is installed: it comes over the connection, and a supervisor
# carries it in its environment.
#
# The first argument says which part this is: link (speaks the line protocol of protocol.rs on stdin and stdout) or
# run (one process's supervisor, or its stopping). The variable MAINSTAY holds this text.
#
# One directory a process, $ROOT/p/ID:
#   lock  held by the one supervisor, and by the process itself until rec says who it is
#   rec   one line: 1 PHASE BOOT SUP SUPSTART PID START RESTARTS HASH EXIT SINCE .   (the dot: completely written)
#   live  hash of what the process was last told by a reload
#   log   its stdout and stderr
# $ROOT/a/SUM/ holds an artifact, by the SHA-256 of the tar that it came as (side.sh puts it there whole).
# In $ROOT: events (a line with the id after each change of a rec, and what a link is asked for), fence (the newest EPOCH REVISION), lock, bundle.json.
#
# A process is known by boot id + pid + start time; nothing else is ever signalled, but for members of its session and
# what carries its tag in the environment.
set -f
# shellcheck disable=SC2034 # the controller's quoting names it
NL='
'
IFS= read -r BOOT </proc/sys/kernel/random/boot_id

# Hundredths of a second since boot: a clock that no one sets.
now() {
  read -r _up _ </proc/uptime
  UP=$((${_up%.*} * 100 + 1${_up#*.} - 100))
}

# PID -> SS (start time), SID (session), ME (the pid itself, for "self"); fails when it is gone or a zombie. No fork.
# The name in the middle may hold anything, so what counts is after the last ") ".
st() {
  _s='' SS='' SID='' ME=''
  { while IFS= read -r _l || [ -n "$_l" ]; do _s="$_s $_l"; done <"/proc/$1/stat"; } 2>/dev/null || return 1
  ME=${_s%% (*} ME=${ME# }
  # shellcheck disable=SC2086 # split into fields
  set -- ${_s##*) }
  SID=${4:-} SS=${20:-}
  case ${1:-} in '' | Z | X | x) return 1 ;; esac
}

# PID START: is it that very process, and alive?
alive() { [ "$1" != - ] && st "$1" && [ "$SS" = "$2" ]; }

nap() { # milliseconds
  _ms=$(($1 % 1000 + 1000))
  sleep "$(($1 / 1000)).${_ms#1}" 9>&-
}

# Reads $d/rec, waiting a little for one that is being written. 1: there is none. 2: it was never complete.
load() {
  _tries=20
  while :; do
    phase='' boot='' sup=- sups=- pid=- pids=- restarts=0 hash=- exit=- since=0 _dot=''
    { read -r _v phase boot sup sups pid pids restarts hash exit since _dot <"$d/rec"; } 2>/dev/null
    [ "$_dot" = . ] && return 0
    phase='' boot='' sup=- sups=- pid=- pids=-
    [ -e "$d/rec" ] || return 1
    _tries=$((_tries - 1))
    [ $_tries -gt 0 ] || return 2
    [ $_tries -gt 10 ] || nap 5
  done
}

# Writes $d/rec, then rings.
put() {
  printf '1 %s %s %s %s %s %s %s %s %s %s .\n' "$phase" "$BOOT" "$sup" "$sups" "$pid" "$pids" \
    "$restarts" "$hash" "$exit" "$since" >"$d/rec" && printf '%s\n' "$id" >>"$ROOT/events"
}

# ---- one process: start, restart, stop, remove -------------------------------------------------------------------

# Sets M to the live processes of the session that PID START leads or led, and those that carry this process's tag.
members() {
  M=''
  # Itself first: it is told a moment before it has a session of its own.
  if alive "$1" "$2"; then M=" $1"; fi
  # A stranger may have our old pid by now; then the session of that number is the stranger's.
  _own=1
  st "$1"
  [ -z "$SS" ] || [ "$SS" = "$2" ] || _own=''
  set +f
  if [ -n "$_own" ] && [ "$1" != - ]; then
    for _p in /proc/[0-9]*; do
      st "${_p#/proc/}" && [ "$SID" = "$1" ] && M="$M ${_p#/proc/}"
    done
  fi
  # shellcheck disable=SC2013 # paths in /proc hold no blanks
  for _p in $(grep -lF "MAINSTAY_TAG=$d/." /proc/[0-9]*/environ 2>/dev/null 9>&-); do
    _p=${_p#/proc/} _p=${_p%/environ}
    st "$_p" && M="$M $_p"
  done
  set -f
}

# Kills what is left of the tree of PID START.
sweep() {
  _tries=0
  while members "$1" "$2" && [ -n "$M" ] && [ $_tries -lt 50 ]; do
    # shellcheck disable=SC2086 # a list of pids
    kill -KILL $M 2>/dev/null
    _tries=$((_tries + 1))
    nap 10
  done
}

# Ends the tree of PID START: the signal, the grace, then KILL.
halt() {
  if alive "$1" "$2"; then
    kill "-$sig" "-$1" 2>/dev/null || kill "-$sig" "$1" 2>/dev/null
    now
    _end=$((UP + grace * 100)) _step=5
    while [ $UP -lt $_end ]; do
      if ! alive "$1" "$2"; then
        members "$1" "$2"
        [ -n "$M" ] || break
      fi
      nap $_step
      [ $_step -ge 100 ] || _step=$((_step * 2))
      now
    done
    sweep "$1" "$2"
  else
    # It ended unseen, so its session's number may be a stranger's by now: only the tag proves what is ours.
    sweep - -
  fi
}

# In a child of the supervisor: says who it is, then becomes the process. It keeps the lock until rec names it, so that
# whoever takes the lock after a killed supervisor sees what runs.
launch() {
  st self
  pid=$ME pids=$SS phase=running
  put || exit 125
  exec 9>&- </dev/null >>"$d/log" 2>&1
  cd "$HOME" 2>/dev/null || cd / || exit 125
  # setsid takes the session in place, for this child leads no group: the pid stays. From here on no variable of ours
  # is read, for the service's environment may hold one of the same name.
  set -- "$SETSID" "$@"
  export MAINSTAY_TAG="$d/." MAINSTAY_BUNDLE="$ROOT/bundle.json"
  unset MAINSTAY SETSID
  eval "unset MAINSTAY_ENV; $MAINSTAY_ENV"
  exec "$@"
}

supervise() {
  restarts=0 delay=0 exit=-
  # Kept apart from what a record says: one that the process was killed in the middle of writing says nothing.
  _sup=$sup _sups=$sups _restarts=0
  while :; do
    now
    since=$UP _since=$UP
    [ "$restarts" = 0 ] || rotate
    # In the foreground: a shell makes what it starts with & ignore INT and QUIT for ever.
    (launch "$@")
    _exit=$?
    # Somebody removed our directory: what can't be recorded can't be kept to one copy either.
    [ -d "$d" ] || exit 1
    load
    sweep "$pid" "$pids"
    now
    [ $((UP - _since)) -lt 1000 ] || delay=0
    _restarts=$((_restarts + 1))
    sup=$_sup sups=$_sups hash=$want restarts=$_restarts phase=backoff pid=- pids=- exit=$_exit since=$UP
    put
    [ $delay = 0 ] || nap $delay
    # At once, then 0.1 s, doubling to 30 s; a run of 10 s starts over.
    delay=$((delay * 2))
    [ $delay != 0 ] || delay=100
    [ $delay -le 30000 ] || delay=30000
  done
}

rotate() {
  _size=$(wc -c <"$d/log" 9>&-)
  [ "${_size:-0}" -lt 10485760 ] || mv -f "$d/log" "$d/log.1" 9>&-
}

# Takes the lock from the supervisor that has it, for which it tries 10 s: who that is may be about to be written.
depose() {
  _left=1000
  while [ $_left -gt 0 ]; do
    if load && [ "$boot" = "$BOOT" ] && alive "$sup" "$sups"; then kill -KILL "$sup"; fi
    flock -n 9 && return 0
    _left=$((_left - 1))
    nap 10
  done
  return 1
}

# OP ID HASH SIGNAL GRACE ARGV…, in a session of its own.
run() {
  op=$1 id=$2 want=$3 sig=$4 grace=$5
  shift 5
  d=$ROOT/p/$id
  exec 9>>"$d/lock"
  if [ "$op" = start ]; then
    flock -n 9 || exit 0
  else
    depose || exit 1
  fi
  load
  [ "$boot" = "$BOOT" ] || pid=- pids=-
  if [ "$op" = start ] && alive "$pid" "$pids"; then exit 0; fi
  _pid=$pid _pids=$pids
  st self
  sup=$ME sups=$SS
  if [ "$op" != start ]; then
    now
    phase=stopping since=$UP
    put || exit 1
    halt "$_pid" "$_pids"
  fi
  case $op in
    start | restart) hash=$want; supervise "$@" ;;
    stop) now; phase=stopped pid=- pids=- since=$UP; put ;;
    remove) rm -rf "$d"; printf '%s\n' "$id" >>"$ROOT/events" ;;
  esac
}

# ---- the link ----------------------------------------------------------------------------------------------------

# Says how a process is, from its record and from what is alive.
show() {
  id=$1 d=$ROOT/p/$1
  load
  if [ -z "$phase" ]; then
    if [ -e "$d/rec" ]; then printf 'P %s busy - - 0 - - - 0\n' "$id"; else printf 'G %s\n' "$id"; fi
    return
  fi
  if [ "$boot" != "$BOOT" ]; then
    case $phase in stopped) ;; *) phase=lost ;; esac
    pid=- pids=-
  elif [ "$phase" != stopped ]; then
    # It is recorded a moment before it becomes its program; that it leads a session is the sign that it has.
    _more=50
    while alive "$pid" "$pids" && [ "$SID" != "$pid" ] && [ $_more -gt 0 ]; do
      _more=$((_more - 1))
      nap 2
      load
    done
    if alive "$pid" "$pids"; then
      alive "$sup" "$sups" || phase=unsupervised
    elif alive "$sup" "$sups"; then
      [ "$phase" != running ] || phase=backoff
    else
      phase=lost
    fi
  fi
  live=-
  { read -r live <"$d/live"; } 2>/dev/null
  now
  printf 'P %s %s %s %s %s %s %s %s %s\n' "$id" "$phase" "$pid" "$pids" "$restarts" "$exit" "$hash" "$live" \
    $((UP - since))
}

look() {
  set +f
  for _dir in "$ROOT"/p/*; do
    [ -d "$_dir" ] && show "${_dir##*/}"
  done
  for _dir in "$ROOT"/a/*; do
    [ -d "$_dir" ] && show_artifact "${_dir##*/}"
  done
  set -f
  show_bundle
}

show_artifact() {
  if [ -d "$ROOT/a/$1" ]; then printf 'A %s here\n' "$1"; else printf 'A %s gone\n' "$1"; fi
}

show_bundle() {
  _sum=-
  { read -r _sum <"$ROOT/bundle.sum"; } 2>/dev/null
  printf 'B %s\n' "$_sum"
}

# Says what the events are about. Once the link is open it is the only one that says how things are, so that no word of it
# is overtaken by an older one: what the link is asked for goes through the events too, marked as its own.
relay() {
  while read -r _word _whose _what; do
    case $_word in
      '?artifact') show_artifact "$_whose" ;;
      '?'*)
        [ "$_whose" = "$LINK" ] || continue
        case $_word in
          '?look') look; printf 'K %s\n' "$_what" ;;
          '?bundle') show_bundle ;;
          '?done') printf 'D %s done\n' "$_what" ;;
        esac
        ;;
      '' | .* | *[!A-Za-z0-9._-]*) ;;
      *) show "$_word" ;;
    esac
  done
}

# EPOCH REVISION: true when nothing newer has spoken, and then they are the newest. Under the node's lock.
fence() {
  _e=0 _r=0
  { read -r _e _r <"$ROOT/fence"; } 2>/dev/null
  if [ "$1" -lt "${_e:-0}" ] || { [ "$1" -eq "${_e:-0}" ] && [ "$2" -lt "${_r:-0}" ]; }; then
    return 1
  fi
  printf '%s %s\n' "$1" "$2" >"$ROOT/fence.new" && mv -f "$ROOT/fence.new" "$ROOT/fence"
}

lock() { exec 7>>"$ROOT/lock" && flock -w 10 7; }
unlock() { exec 7>&-; }

# ROOT EPOCH REVISION: from here on, what was said before this is refused.
open() {
  ROOT=$1
  case $ROOT in /*) ;; *) ROOT=$HOME/$ROOT ;; esac
  if ! mkdir -p "$ROOT/p" || ! chmod 700 "$ROOT" || ! { : >>"$ROOT/events"; }; then
    printf 'X unusable no directory %s\n' "$ROOT"
    return
  fi
  lock || { printf 'X unusable the lock of %s is taken\n' "$ROOT"; return; }
  if ! fence "$2" "$3"; then printf 'X fenced %s\n' "$_e"; unlock; return; fi
  _at=$(wc -c <"$ROOT/events" 7>&-)
  if [ "$_at" -gt 262144 ]; then : >"$ROOT/events"; _at=0; fi
  unlock
  printf 'R %s\n' "$ROOT"
  look
  # After the offset was taken and before it is followed, so that no change falls between.
  tail --pid=$$ -c "+$((_at + 1))" -F "$ROOT/events" 2>/dev/null | relay &
  printf 'O\n'
}

# What one step has to say.
tell() { printf 'E %s %s\n' "$id" "$1"; }

# ARGV… of run, in a session of its own. setsid -f rather than &, see supervise.
spawn() {
  waiting="$waiting $id:$boot:$sup:$sups"
  # shellcheck disable=SC2016 # the new shell reads it
  "$SETSID" -f /bin/sh -c 'eval "$MAINSTAY"' mainstay run "$ROOT" "$@" </dev/null >/dev/null 2>&1 7>&-
}

# One line of a batch, as words.
step() {
  op=$1 id=$2
  d=$ROOT/p/$2
  load
  case $op in
    start | restart)
      # ID HASH LIVE SIGNAL GRACE ENV ARGV…
      if [ "$op" = start ] && [ "$boot" = "$BOOT" ] && { alive "$sup" "$sups" || alive "$pid" "$pids"; }; then return; fi
      _live=$4
      # Started without the bundle that it should be told of: to be told later.
      [ -z "$unbundled" ] || _live=-
      if ! mkdir -p "$d" || ! printf '%s\n' "$_live" >"$d/live"; then tell "can't write $d"; return; fi
      _hash=$3 _sig=$5 _grace=$6
      export MAINSTAY_ENV="$7"
      shift 7
      spawn "$op" "$id" "$_hash" "$_sig" "$_grace" "$@"
      ;;
    stop | remove)
      # ID SIGNAL GRACE
      [ -d "$d" ] || return
      export MAINSTAY_ENV=
      spawn "$op" "$id" - "$3" "$4"
      ;;
    reload)
      # ID SIGNAL LIVE
      if [ -n "$unbundled" ]; then
        tell "the bundle that it should read could not be written"
      elif [ "$boot" = "$BOOT" ] && alive "$pid" "$pids" && kill "-$3" "$pid"; then
        printf '%s\n' "$4" >"$d/live"
      else
        tell "it is not running, so it was not told"
      fi
      ;;
    bundle)
      # HASH TEXT
      if printf '%s' "$3" >"$ROOT/bundle.new" && mv -f "$ROOT/bundle.new" "$ROOT/bundle.json"; then
        printf '%s\n' "$2" >"$ROOT/bundle.sum"
      else
        unbundled=1
        tell "can't write $ROOT/bundle.json"
      fi
      ;;
    discard)
      # ADDRESS. What runs from it says so in its environment, and so does its supervisor.
      set +f
      _used=$(grep -lF "/a/$2/" /proc/[0-9]*/environ 2>/dev/null 7>&-)
      set -f
      if [ -n "$_used" ]; then
        tell "something still runs from it"
      elif [ -d "$ROOT/a/$2" ]; then
        # Out of sight at once; what is large takes its time to go, and holds up nobody.
        now
        if mv -f "$ROOT/a/$2" "$ROOT/a/.old-$$-$UP"; then
          rm -rf "$ROOT/a/.old-$$-$UP" >/dev/null 2>&1 7>&- &
        else
          tell "can't move $ROOT/a/$2"
        fi
      fi
      ;;
    *) tell "unknown step $op" ;;
  esac
}

# Waits until each supervisor that was just started has said so in its record, 5 s at most: a disk may be full.
settle() {
  now
  _until=$((UP + 500)) _pause=2
  while [ -n "$waiting" ]; do
    _left=''
    for _was in $waiting; do
      id=${_was%%:*}
      d=$ROOT/p/$id
      load
      [ $? = 1 ] && [ "${_was#*:}" != ":-:-" ] && continue
      [ "$_dot" = . ] && [ "$boot:$sup:$sups" != "${_was#*:}" ] && continue
      _left="$_left $_was"
    done
    waiting=$_left
    now
    if [ -n "$waiting" ] && [ $UP -ge $_until ]; then
      for _was in $waiting; do
        id=${_was%%:*}
        tell "its supervisor did not report within 5 s; is the disk full?"
      done
      return
    fi
    [ -z "$waiting" ] || nap $_pause
    [ $_pause -ge 20 ] || _pause=$((_pause * 2))
  done
}

# EPOCH REVISION COUNT; the steps follow, then END COUNT. Nothing is done before all of it is here.
batch() {
  epoch=$1 revision=$2 count=$3 _n=0 _whole=''
  while IFS= read -r _line; do
    if [ "$_line" = "END $count" ] && [ $_n -eq "$count" ]; then
      _whole=1
      break
    fi
    _n=$((_n + 1))
    eval "L$_n=\$_line"
  done
  [ -n "$_whole" ] || exit 3
  lock || { printf 'D %s locked\n' "$revision"; return; }
  if fence "$epoch" "$revision"; then
    waiting='' unbundled='' _n=0
    while [ $_n -lt "$count" ]; do
      _n=$((_n + 1))
      eval "eval \"step \$L$_n\""
    done
    settle
    unlock
    _n=0
    {
      while [ $_n -lt "$count" ]; do
        _n=$((_n + 1))
        eval "_line=\$L$_n"
        case $_line in
          "bundle "*) printf '?bundle %s\n' "$LINK" ;;
          "discard "*) printf '?artifact %s\n' "${_line#* }" ;;
          *) _line=${_line#* }; printf '%s\n' "${_line%% *}" ;;
        esac
      done
      printf '?done %s %s\n' "$LINK" "$revision"
    } >>"$ROOT/events"
  else
    unlock
    printf 'D %s fenced %s %s\n' "$revision" "${_e:-0}" "${_r:-0}"
  fi
}

link() {
  unset SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_AUTH_SOCK SSH_ORIGINAL_COMMAND
  for _tool in setsid flock tail grep sleep wc mkdir mv rm; do
    command -v "$_tool" >/dev/null 2>&1 || { printf 'X unusable %s is missing\n' "$_tool"; exit 1; }
  done
  [ -d "${HOME:-}" ] || { printf 'X unusable HOME is no directory\n'; exit 1; }
  export MAINSTAY SETSID
  SETSID=$(command -v setsid)
  # What a busybox lacks: without the first a service would ignore INT and QUIT, without the second a part of its tree
  # could outlive it, without the third a change would be told late.
  "$SETSID" -f true 2>/dev/null || { printf 'X unusable its setsid has no -f; install util-linux\n'; exit 1; }
  printf 'a\0b' | grep -qF b || { printf 'X unusable its grep stops at a NUL; install GNU grep\n'; exit 1; }
  tail --pid=$$ -n 0 /dev/null 2>/dev/null || { printf 'X unusable its tail has no --pid; install GNU tail\n'; exit 1; }
  LINK=$1 ROOT=''
  printf 'MAINSTAY %s 1 %s\n' "$LINK" "$BOOT"
  while IFS= read -r _line; do
    eval "set -- $_line"
    [ -n "$ROOT" ] || [ "$1" = OPEN ] || exit 1
    case $1 in
      OPEN) open "$2" "$3" "$4" ;;
      BATCH) batch "$2" "$3" "$4" ;;
      LOOK) printf '?look %s %s\n' "$LINK" "$2" >>"$ROOT/events" ;;
      *) printf 'X unusable unknown line %s\n' "$1" ;;
    esac
  done
  # The controller is gone: end the relay and its tail, which are what is left of this group.
  st self
  [ "$SID" != "$ME" ] || kill -TERM 0
}

case $1 in
  link) link "$2" ;;
  run) ROOT=$2; shift 2; run "$@" ;;
esac
