#!/bin/sh
# What runs on a node while the controller is connected, and the small supervisor of each process. POSIX sh, setsid, flock,
# grep, tail, sleep; GNU's or busybox's. Nothing of it is installed: it comes over the connection, and a supervisor
# carries the first half of it in its environment, of which it reads what stands before the helpers.
#
# The first argument says which part this is: link (speaks the line protocol of protocol.rs on stdin and stdout), run (one
# process's supervisor, or its stopping), keeper (keeps the logs of all processes to their sizes) or guard (stops what has a
# lease that is over). The variables MAINSTAY and MAINSTAY_HELPERS hold this text.
#
# One directory a process, $ROOT/p/ID:
#   lock    held by the one supervisor, and by the process itself until rec says who it is
#   rec     one line: 1 PHASE BOOT SUP SUPSTART PID START RESTARTS HASH EXIT SINCE .   (the dot: completely written)
#   live    hash of what the process was last told by a reload
#   health  one line: PID START STATE WHY
#   log     its stdout and stderr; log.1, log.2 … what was rotated, the youngest first
#   keep    SIZE:COUNT, when the log is rotated and how many are kept
#   lease   SECONDS SIGNAL GRACE . of what may run only while the controller renews its lease: how long that lasts, and how it
#           is stopped when it is over
# $ROOT/a/SUM/ holds an artifact, by the SHA-256 of the tar that it came as (side.sh puts it there whole).
# In $ROOT: events (a line with the id after each change of a rec or health, and what a link is asked for), fence (the newest
# EPOCH REVISION), lock, bundle.json, keeper and guard (PID START of who that is), lease (BOOT SEEN SEEN . when the controller
# had seen this node, as it last said; from then on each lease lasts).
#
# A process is known by boot id + pid + start time; nothing else is ever signalled, but for members of its session, the
# group of its supervisor, and what carries its tag in the environment.
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

# The time of day in seconds, or - where nobody can say it.
clock() {
  CLOCK=$(date +%s 2>/dev/null)
  case $CLOCK in '' | *[!0-9]*) CLOCK=- ;; esac
}

# Sets SEEN to when the controller had seen this node, in hundredths of a second since boot; empty when it has not since then.
seen() {
  _tries=5
  # A shell may read byte by byte, and in between it may be written anew. Then the two differ.
  while _in='' SEEN='' _again='' && { read -r _in SEEN _again _ <"$ROOT/lease"; } 2>/dev/null &&
    [ "$SEEN" != "$_again" ] && [ $_tries -gt 0 ]; do
    _tries=$((_tries - 1))
  done
  [ "$_in" = "$BOOT" ] && [ "$SEEN" = "$_again" ] || SEEN=''
  case $SEEN in *[!0-9]*) SEEN='' ;; esac
}

# SECONDS: true when a lease that lasts so long is over. LEFT is for how many hundredths of a second it is not.
is_over() {
  LEFT=0
  seen
  [ -n "$SEEN" ] || return 0
  now
  LEFT=$((SEEN + $1 * 100 - UP))
  [ $LEFT -le 0 ]
}

# True when there is no room where ROOT is: then a write that failed has failed for that.
is_full() {
  _df=$(df -Pk "$ROOT" 2>/dev/null 7>&- || df -Pk "$HOME" 2>/dev/null 7>&-) || return 1
  # The last line, up to its capacity: … AVAILABLE CAPACITY
  _df=${_df##*"$NL"} _df=${_df%%"% /"*}
  # shellcheck disable=SC2086 # split into fields
  set -- $_df
  [ $# -ge 2 ] || return 1
  shift $(($# - 2))
  [ "$1" -lt 64 ] 2>/dev/null
}

# A line for whoever follows the events. They hold nothing that no record says, so where there is no room for one more, the
# old ones make it.
ring() {
  printf '%s\n' "$1" >>"$ROOT/events" || { printf '' >"$ROOT/events" && printf '%s\n' "$1" >>"$ROOT/events"; }
}

# PID -> SS (start time), SID (session), PARENT, ME (the pid itself, for "self"); fails when it is gone or a zombie. No fork.
# The name in the middle may hold anything, so what counts is after the last ") ".
st() {
  _s='' SS='' SID='' PARENT='' ME=''
  { while IFS= read -r _l || [ -n "$_l" ]; do _s="$_s $_l"; done <"/proc/$1/stat"; } 2>/dev/null || return 1
  ME=${_s%% (*} ME=${ME# }
  # shellcheck disable=SC2086 # split into fields
  set -- ${_s##*) }
  PARENT=${2:-} SID=${4:-} SS=${20:-}
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
    "$restarts" "$hash" "$exit" "$since" >"$d/rec" || return
  # That nobody can be rung for is no reason to fail: it stands there.
  ring "$id" || :
}

# ---- one process: start, restart, stop, remove -------------------------------------------------------------------

# Sets M to the live processes of the session that PID START leads or led, and those that carry this process's tag.
members() {
  M=''
  # Itself first: it is told a moment before it has a session of its own.
  if alive "$1" "$2"; then M=" $1"; fi
  # A stranger may have our old pid by now; then the session of that number is the stranger's.
  _led=$1
  st "$1"
  set +f
  # One grep over all, for to read them here takes ten times as long; what it finds is looked at again. Mostly it finds nothing.
  # shellcheck disable=SC2046 # paths in /proc hold no blanks
  if [ -n "$GREPNUL" ]; then
    set -- $(grep -lF -e " $_led " -e "MAINSTAY_TAG=$d/." /proc/[0-9]*/stat /proc/[0-9]*/environ 2>/dev/null 9>&-)
  else
    set -- $(exec 9>&-; grep -lF " $_led " /proc/[0-9]*/stat 2>/dev/null; tagged)
  fi
  set -f
  for _p in "$@"; do
    _of=${_p#/proc/} _of=${_of%/*}
    st "$_of" || continue
    case $_p in
      */stat) [ "$SID" = "$_led" ] || continue ;;
      *) [ -z "$GREPNUL" ] || grep -qF "MAINSTAY_TAG=$d/." "$_p" 2>/dev/null 9>&- || continue ;;
    esac
    M="$M $_of"
  done
}

# The environments in /proc that hold this process's tag, where a grep stops at a NUL.
tagged() {
  if cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -qxF "MAINSTAY_TAG=$d/."; then
    for _p in /proc/[0-9]*/environ; do
      { tr '\0' '\n' <"$_p"; } 2>/dev/null | grep -qxF "MAINSTAY_TAG=$d/." && printf '%s\n' "$_p"
    done
  fi
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
    # Most end at once, sooner than a sleep is started.
    _end=$((UP + grace * 100)) _step=-10
    while [ $UP -lt $_end ]; do
      if ! alive "$1" "$2"; then
        members "$1" "$2"
        [ -n "$M" ] || return 0
        [ $_step -gt 0 ] || _step=1
      fi
      if [ $_step -gt 0 ]; then nap $_step; fi
      if [ $_step -le 0 ]; then _step=$((_step + 1)); elif [ $_step -lt 100 ]; then _step=$((_step * 2)); fi
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
  become "$@"
}

# Takes the environment of the service, and becomes a program.
become() {
  export MAINSTAY_TAG="$d/." MAINSTAY_BUNDLE="$ROOT/bundle.json"
  unset MAINSTAY MAINSTAY_HELPERS SETSID DETACH LOCKER GREPNUL
  eval "unset MAINSTAY_ENV; $MAINSTAY_ENV"
  exec "$@"
}

# Waits for the end of PID START, which is no child of ours, so that no exit status is to be had.
await() {
  while alive "$1" "$2"; do nap 500; done
}

# Starts the process again and again; with "adopted" set, waits first for the one that runs.
supervise() {
  delay=0 exit=- _exit=-
  # Kept apart from what a record says: one that the process was killed in the middle of writing says nothing.
  _sup=$sup _sups=$sups _restarts=$restarts checker=''
  printf '%s\n' "$keep" >"$d/keep"
  if [ "$lease" != - ]; then
    # In one piece and before it runs: whoever finds it finds it guarded.
    { printf '%s %s %s .\n' "$lease" "$sig" "$grace" >"$d/lease.new" && mv -f "$d/lease.new" "$d/lease" 9>&-; } || exit 1
  elif [ -e "$d/lease" ]; then
    rm -f "$d/lease" 9>&-
  fi
  if [ "$check" != - ]; then
    # shellcheck disable=SC2119 # it sets its own words
    { eval "$MAINSTAY_HELPERS"; look_after; } 9>&- </dev/null >/dev/null 2>&1 &
    checker=$!
  fi
  while :; do
    if [ "$lease" != - ]; then
      runs guard 9>&-
      # It may have been started late, by what was long on its way: then it may run elsewhere by now.
      if [ -z "$adopted" ] && is_over "$lease"; then
        sup=$_sup sups=$_sups hash=$want restarts=$_restarts phase=stopped pid=- pids=- exit=$_exit since=$UP
        put
        [ -z "$checker" ] || kill "$checker"
        return
      fi
    fi
    now
    _since=$UP
    if [ -n "$adopted" ]; then
      adopted=''
      await "$pid" "$pids"
      _exit=-
    else
      since=$UP
      # In the foreground: a shell makes what it starts with & ignore INT and QUIT for ever.
      (launch "$@")
      _exit=$?
    fi
    # Somebody removed our directory: what can't be recorded can't be kept to one copy either.
    [ -d "$d" ] || { [ -z "$checker" ] || kill "$checker"; exit 1; }
    load
    # It could not even say who it was; what the record names is an older one, whose numbers may be a stranger's by now.
    [ "$phase" = running ] || pid=- pids=-
    now
    [ $((UP - _since)) -lt 1000 ] || delay=0
    _restarts=$((_restarts + 1))
    sup=$_sup sups=$_sups hash=$want restarts=$_restarts phase=backoff exit=$_exit since=$UP
    # Told first, for a sweep takes its time. The pid stays, so that who takes over from us in the middle knows that there is something
    # to sweep.
    put
    sweep "$pid" "$pids"
    [ $delay = 0 ] || nap $delay
    # At once, then 0.1 s, doubling to 30 s; a run of 10 s starts over.
    delay=$((delay * 2))
    [ $delay != 0 ] || delay=100
    [ $delay -le 30000 ] || delay=30000
    runs keeper 9>&-
    [ -z "$checker" ] || kill -USR1 "$checker"
  done
}

# True, or made so: this node has its keeper or its guard, whichever is named.
runs() {
  _kp='' _ks=''
  { read -r _kp _ks <"$ROOT/$1"; } 2>/dev/null
  # shellcheck disable=SC2086 # words
  # Without the variables of the service that was started last.
  # shellcheck disable=SC2030,SC2031 # only for the helper
  alive "${_kp:--}" "$_ks" || (export MAINSTAY_ENV=; detach "$1" "$ROOT")
}

# Rings both, when there may be nothing to do for them any more.
ring_helpers() {
  for _helper in keeper guard; do
    _kp='' _ks=''
    { read -r _kp _ks <"$ROOT/$_helper"; } 2>/dev/null
    ! alive "${_kp:--}" "$_ks" || kill -USR1 "$_kp"
  done
}

# ARGV… of this script, in a session of its own, never waited for. Not with &, see supervise.
detach() {
  # shellcheck disable=SC2016,SC2086 # the new shell reads it; words
  $DETACH ${with_lock:+$LOCKER "$with_lock"} /bin/sh -c 'eval "$MAINSTAY"' mainstay "$@" </dev/null >/dev/null 2>&1
}

# ---- one operation -----------------------------------------------------------------------------------------------

# Takes the lock from the supervisor that has it, for which it tries 10 s: who that is may be about to be written.
depose() {
  _left=500
  while [ $_left -gt 0 ]; do
    # Others may have done it while this waited, and another process has been started since.
    is_due || exit 0
    # With all that is in its group: its checker, and what these two wait for.
    if load && [ "$boot" = "$BOOT" ] && alive "$sup" "$sups" &&
      { kill -KILL "-$sup" || kill -KILL "$sup"; } 2>/dev/null; then
      # What was killed is gone in a moment, and whoever has the lock after it soon says so. A busybox's flock can't wait.
      flock -w 1 9 2>/dev/null && return 0
      _left=$((_left - 50))
    else
      flock -n 9 && return 0
      nap 20
      _left=$((_left - 1))
    fi
  done
  return 1
}

# False for a stop for a lease that is over, when the lease of what is there now is not, or there is none: it was renewed, taken back, or is
# another process's.
is_due() {
  [ "$op" = stop ] && [ "$lease" != - ] || return 0
  _seconds=''
  { read -r _seconds _ <"$d/lease"; } 2>/dev/null
  [ -n "$_seconds" ] && is_over "$_seconds"
}

# OP ID HASH SIGNAL GRACE KEEP CHECK LEASE ARGV…, in a session of its own.
run() {
  op=$1 id=$2 want=$3 sig=$4 grace=$5 keep=$6 check=$7 lease=$8 adopted=''
  shift 8
  d=$ROOT/p/$id
  is_due || exit 0
  if [ "$op" = start ] && [ -n "$LOCKER" ]; then
    # It came with the lock, see spawn.
    # shellcheck disable=SC3013 # the link has tried it
    [ /proc/self/fd/3 -ef "$d/lock" ] || exit 1
    exec 9>&3 3>&-
  else
    exec 9>>"$d/lock"
    if [ "$op" = start ]; then flock -n 9 || exit 0; else depose || exit 1; fi
  fi
  load
  [ "$boot" = "$BOOT" ] || pid=- pids=- restarts=0
  if [ "$op" = start ] && alive "$pid" "$pids"; then exit 0; fi
  _pid=$pid _pids=$pids
  st self
  sup=$ME sups=$SS
  case $op in
    adopt)
      if alive "$_pid" "$_pids"; then
        adopted=1 phase=running hash=$want
        put || exit 1
      fi
      ;;
    restart | stop | remove)
      now
      phase=stopping since=$UP
      put || exit 1
      halt "$_pid" "$_pids"
      ;;
  esac
  case $op in
    start | restart | adopt)
      # It ended unseen, and so did its supervisor: what is left of its tree would be beside the new one.
      [ "$op" = restart ] || [ -n "$adopted" ] || [ "$_pid" = - ] || sweep - -
      [ "$op" = adopt ] || restarts=0
      hash=$want
      supervise "$@"
      ;;
    stop) now; phase=stopped pid=- pids=- since=$UP; put ;;
    remove) rm -rf "$d"; ring "$id" ;;
  esac
  ring_helpers
}

case $1 in
  run) ROOT=$2; shift 2; run "$@"; exit ;;
  keeper | guard) ROOT=$2; eval "$MAINSTAY_HELPERS"; "$1"; exit ;;
esac

: the helpers
# From here on no supervisor reads it: health checks, keeper and guard are read by those who do them.

# ---- health ------------------------------------------------------------------------------------------------------

# Sleeps, but wakes when USR1 comes; for what sleeps long.
doze() { # milliseconds
  _ms=$(($1 % 1000 + 1000))
  sleep "$(($1 / 1000)).${_ms#1}" &
  _nap=$!
  wait "$_nap"
  kill "$_nap" 2>/dev/null
}

# Beside the supervisor _SUP: asks the process of the moment whether it does its work, and records what that comes to. The supervisor
# rings with USR1 when there is another process.
# shellcheck disable=SC2120
look_after() {
  trap : USR1
  trap 'kill "$_nap" 2>/dev/null; exit' TERM
  eval "set -- $check"
  _every=$1 _within=$2 _enough_bad=$3 _enough_good=$4
  shift 4
  tools_for "$1"
  _of='' _pause=200
  while alive "$_sup" "$_sups"; do
    load
    if [ "$phase" = running ] && alive "$pid" "$pids"; then
      [ "$_of" = "$pid $pids" ] || _of="$pid $pids" _state='' _good=0 _bad=0
      if [ -z "$tool" ]; then
        found unchecked "$why"
      else
        why=$(probe "$@" 2>&1)
        _status=$?
        if [ $_status = 0 ]; then
          _good=$((_good + 1)) _bad=0
          [ $_good -lt "$_enough_good" ] || found healthy -
        else
          _bad=$((_bad + 1)) _good=0
          [ $_status != 124 ] || why="no answer within $_within s"
          [ $_bad -lt "$_enough_bad" ] || found unhealthy "${why:-exit status $_status}"
        fi
      fi
      # Quick until it has done its work once, so that a start is not waited for longer than it takes.
      if [ "$_state" = healthy ] || [ "$_state" = unchecked ]; then _pause=$((_every * 1000)); fi
    fi
    doze $_pause
    [ $_pause -ge 1000 ] || _pause=$((_pause * 2))
    [ "$_state" = healthy ] || [ $_pause -le 1000 ] || [ "$_state" = unchecked ] || _pause=1000
  done
}

# STATE WHY: records and rings, if that is news and the process is still the one that was asked.
found() {
  [ "$_state" != "$1" ] || return
  _state=$1
  printf '%s %s %.200s\n' "$_of" "$1" "${2%%"$NL"*}" >"$d/health" && ring "$id"
}

has() { command -v "$1" >/dev/null 2>&1; }

# Sets tool to what this node can ask with, or why to what it lacks.
tools_for() {
  tool='' why=''
  case $1 in
    tcp)
      if has bash && has timeout; then tool=bash
      elif has nc && nc -h 2>&1 | grep -q -e '-[a-zA-Z]*z'; then tool=ncz
      elif has nc && has timeout; then tool=nc
      else why='this node has no bash with timeout and no nc to connect with'; fi
      ;;
    http)
      if has curl; then tool=curl
      elif has wget && wget --version >/dev/null 2>&1; then tool=gnuwget
      elif [ "${2#https:}" = "$2" ] && has bash && has timeout; then tool=bash
      elif [ "${2#https:}" = "$2" ] && has nc && has timeout; then tool=nc
      elif has wget; then tool=wget
      else why='this node has no curl, no wget, and no bash or nc with timeout to ask with'; fi
      ;;
    exec) if has timeout; then tool=timeout; else why='this node has no timeout to bound the check with'; fi ;;
  esac
}

# URL -> host, port, and the request to send there.
address() {
  host=${1#http://} path=/
  case $host in */*) path=/${host#*/} host=${host%%/*} ;; esac
  request=$(printf 'GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n.' "$path" "$host")
  request=${request%.} port=80
  case $host in *]) ;; *:*) port=${host##*:} host=${host%:*} ;; esac
  host=${host#[} host=${host%]}
}

# Reads an answer: 0 when its status is from 200 to 399.
answered() {
  read -r _ _status _ || { printf 'no answer\n'; return 1; }
  case $_status in 2?? | 3??) ;; *) printf 'status %s\n' "$_status"; return 1 ;; esac
}

# One check: 0 when all is well, else what it prints says why.
# shellcheck disable=SC2016 # the new shell reads it
probe() {
  case $1:$tool in
    tcp:bash) timeout "$_within" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" ;;
    tcp:ncz) nc -z -w "$_within" "$2" "$3" ;;
    tcp:nc) timeout "$_within" nc "$2" "$3" </dev/null >/dev/null ;;
    http:curl) curl -gfsS -o /dev/null -m "$_within" --noproxy '*' -- "$2" ;;
    http:gnuwget) wget -q -t 1 -T "$_within" --no-proxy -O /dev/null -- "$2" ;;
    http:wget) wget -q -T "$_within" -O /dev/null "$2" ;;
    http:bash)
      address "$2"
      timeout "$_within" bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf %s "$2" >&3 && cat <&3' \
        "$host" "$port" "$request" | answered
      ;;
    http:nc) address "$2"; printf %s "$request" | timeout "$_within" nc "$host" "$port" | answered ;;
    exec:timeout)
      shift
      # shellcheck disable=SC2030,SC2031 # only for the program
      (
        cd "$HOME" 2>/dev/null || cd / || exit 1
        become timeout "$_within" "$@"
      )
      ;;
  esac
}

# ---- keeper and guard ---------------------------------------------------------------------------------------------

# True while a process is, or is about to be, at work here; with "lease", while one is that has a lease.
at_work() {
  set +f
  for d in "$ROOT"/p/*; do
    [ -z "${1:-}" ] || [ -e "$d/$1" ] || continue
    load && [ "$boot" = "$BOOT" ] && [ "$phase" != stopped ] && { alive "$sup" "$sups" || alive "$pid" "$pids"; } &&
      { set -f; return 0; }
  done
  set -f
  return 1
}

# KEEPER|GUARD: true when this is the only one of the node, and says so.
is_only() {
  flock -n 9 || return 1
  st self
  printf '%s %s\n' "$ME" "$SS" >"$ROOT/$1" || exit 1
}

# One a node, for as long as a process is at work: rotates logs by copying and truncating, for the process has the file open. Sees to
# it that there is a guard.
keeper() {
  exec 9>>"$ROOT/keeper.lock"
  trap : USR1
  while at_work && is_only keeper; do
    while at_work; do
      set +f
      wc -c "$ROOT"/p/*/log 2>/dev/null 9>&- | while read -r _size _path; do
        set -f
        case $_path in */log) ;; *) continue ;; esac
        keep=''
        { read -r keep <"${_path%log}keep"; } 2>/dev/null
        [ -n "$keep" ] && [ "$_size" -gt "${keep%:*}" ] && rotate "$_path" "${keep#*:}"
      done 9>&-
      set -f
      if at_work lease; then
        enforce 9>&-
        runs guard 9>&-
      fi
      doze 2000 9>&-
    done
    # What is started while we end finds the lock taken; so look again once it is free.
    flock -u 9
  done
}

# One a node, for as long as something that has a lease is at work: stops it when that is over. Sees to it that there is a keeper, who does the
# same if somebody kills this one.
guard() {
  exec 9>>"$ROOT/guard.lock"
  # Who has started it may be about to say so.
  _early=5
  trap '_early=0' USR1
  while { [ $_early -gt 0 ] || at_work lease; } && is_only guard; do
    while [ $_early -gt 0 ] || at_work lease; do
      _early=$((_early - 1))
      enforce 9>&-
      ! at_work || runs keeper 9>&-
      doze $_soon 9>&-
    done
    flock -u 9
  done
}

# Stops what has a lease that is over. Sets _soon, the milliseconds until the next one is, 1000 at most.
enforce() {
  _soon=1000
  set +f
  for _lease in "$ROOT"/p/*/lease; do
    set -f
    _seconds='' _sig='' _grace='' _dot=''
    { read -r _seconds _sig _grace _dot <"$_lease"; } 2>/dev/null
    [ "$_dot" = . ] || continue
    if is_over "$_seconds"; then
      d=${_lease%/lease}
      load
      case $?:$phase in
        0:stopped | 1:*) ;;
        # While it is being stopped, who does that is let do it.
        0:stopping) [ "$boot" != "$BOOT" ] || alive "$sup" "$sups" || end_it ;;
        # Also where neither it nor its supervisor is left, for it may have left others.
        0:*) [ "$boot" != "$BOOT" ] || end_it ;;
        # Its record was destroyed in the middle of a word: what there is of it is found by its tag.
        *) end_it ;;
      esac
    elif [ $((LEFT * 10)) -lt $_soon ]; then
      _soon=$((LEFT * 10))
    fi
  done
  set -f
}

# Stops the process in $d like a stop of the controller.
end_it() { detach run "$ROOT" stop "${d##*/}" - "$_sig" "$_grace" - - "$_seconds"; }

# LOG COUNT
rotate() {
  _n=$2
  rm -f "$1.$((_n + 1))"
  while [ "$_n" -gt 1 ]; do
    mv -f "$1.$((_n - 1))" "$1.$_n" 2>/dev/null
    _n=$((_n - 1))
  done
  # On a full disk the copy is given up, for the bound is what was promised.
  [ "$2" = 0 ] || { cp "$1" "$1.new" && mv -f "$1.new" "$1.1"; } 2>/dev/null || rm -f "$1.new"
  : >"$1"
}

: the link
# From here on no supervisor carries it.

# ---- the link ----------------------------------------------------------------------------------------------------

# Says how a process is, from its record and from what is alive. It is recorded a moment before it becomes its program; that it leads a
# session is the sign that it has. With "soon", what has not in a millisecond is put off (1), so that others need not wait for it.
show() {
  id=$1 d=$ROOT/p/$1
  load
  if [ -z "$phase" ]; then
    if [ -e "$d/rec" ]; then printf 'P %s busy - - 0 - - - 0 -\n' "$id"; else printf 'G %s\n' "$id"; fi
    return
  fi
  now
  if [ "$boot" != "$BOOT" ]; then
    case $phase in stopped) ;; *) phase=lost ;; esac
    pid=- pids=-
  elif [ "$phase" != stopped ]; then
    _lives='' _more=50
    while alive "$pid" "$pids"; do
      if [ "$SID" = "$pid" ] || [ $_more = 0 ]; then
        _lives=1
        break
      fi
      _more=$((_more - 1))
      if [ "${2:-}" != soon ] || [ $((UP - since)) -ge 100 ]; then
        # Who asks has to be answered now, and told of a program that it is one.
        nap 2
      elif [ -n "$in_batch" ] || [ $_more -lt 40 ]; then
        return 1
      fi
      load
    done
    if [ -n "$_lives" ]; then
      # Whose child it is, that one is there.
      [ "$PARENT" = "$sup" ] || alive "$sup" "$sups" || phase=unsupervised
    else
      pid=- pids=-
      if ! alive "$sup" "$sups"; then
        phase=lost
      elif [ "$phase" = running ]; then
        phase=backoff
      fi
    fi
  fi
  live=-
  { read -r live <"$d/live"; } 2>/dev/null
  [ -n "$live" ] || live=-
  _hp='' _hs='' _health='' _why=''
  # Of this very process, and not of the one before.
  { [ "$pid" = - ] || read -r _hp _hs _health _why <"$d/health"; } 2>/dev/null
  [ "$_hp $_hs" = "$pid $pids" ] || _health=- _why=''
  printf 'P %s %s %s %s %s %s %s %s %s %s %s\n' "$id" "$phase" "$pid" "$pids" "$restarts" "$exit" "$hash" "$live" \
    $((UP - since)) "$_health" "$_why"
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

# TOKEN: how all of it is, and that this was all.
answer() { look; clock; printf 'K %s %s\n' "$1" "$CLOCK"; }

show_artifact() {
  if [ -d "$ROOT/a/$1" ]; then printf 'A %s here\n' "$1"; else printf 'A %s gone\n' "$1"; fi
}

show_bundle() {
  _sum=-
  { read -r _sum <"$ROOT/bundle.sum"; } 2>/dev/null
  [ -n "$_sum" ] || _sum=-
  printf 'B %s\n' "$_sum"
}

# Says what the events are about. Once the link is open it is the only one that says how things are, so that no word of it
# is overtaken by an older one: what the link is asked for goes through the events too, marked as its own.
relay() {
  told='' in_batch='' before='' later=''
  while read -r _word _whose _what; do
    case $_word in
      '?artifact') show_artifact "$_whose" ;;
      '?'*)
        [ "$_whose" = "$LINK" ] || continue
        case $_word in
          '?look') answer "$_what" ;;
          '?bundle') show_bundle ;;
          # Between these two, what a supervisor has rung for need not be said again.
          '?begin') in_batch=1 told=' ' ;;
          '?say')
            case $told in *" $_what "*) ;; *) show "$_what"; told="$told$_what " ;; esac
            # It was said: who rings for it from here on rings for something else.
            [ "$before" != "$_what" ] || before=''
            ;;
          '?done')
            printf 'D %s done\n' "$_what"
            later="$later $before" in_batch='' before=''
            put_off
            told=''
            ;;
          '?later') show_soon "$_what" ;;
        esac
        ;;
      '' | .* | *[!A-Za-z0-9._-]*) ;;
      "$before") ;;
      *)
        if [ -n "$in_batch" ]; then
          case $told in *" $_word "*) told="${told%%" $_word "*} ${told#*" $_word "}" ;; esac
          # When the next one rings, this one has become its program.
          _look=$before before=$_word
          [ -z "$_look" ] || show_soon "$_look"
        else
          show_soon "$_word"
        fi
        ;;
    esac
  done
  # Where no tail follows the events, this was one round of many.
  later="$later $before"
  put_off
}

# ID: says how it is, or puts it off; within a batch to the end of it, for there it is said anyway if it is the batch's.
show_soon() {
  if show "$1" soon; then
    [ -z "$in_batch" ] || told="$told$1 "
  else
    later="$later $1"
    [ -n "$in_batch" ] || put_off
  fi
}

# Has what is still to be said rung for in a moment.
put_off() {
  for _late in $later; do
    case $told in *" $_late "*) ;; *) (nap 2; ring "?later $LINK $_late") & ;; esac
  done
  later=''
}

# EPOCH REVISION: true when nothing newer has spoken; what has last is _e and _r.
is_newest() {
  _e=0 _r=0
  { read -r _e _r <"$ROOT/fence"; } 2>/dev/null
  [ "$1" -gt "${_e:-0}" ] || { [ "$1" -eq "${_e:-0}" ] && [ "$2" -ge "${_r:-0}" ]; }
}

# EPOCH REVISION: true when nothing newer has spoken, and then they are the newest. 1: something newer has. 2: it can't be
# written. Under the node's lock.
fence() {
  is_newest "$1" "$2" || return 1
  # In place and always as long: that needs no room, so that one can stop things on a full disk.
  printf '%019d %019d\n' "$1" "$2" 1<>"$ROOT/fence" || return 2
}

# EPOCH REVISION SEEN: renews all leases from when this node had said SEEN, and says what time it is now. It may have been long on its way:
# what an older one renewed for longer stays.
renew() {
  is_newest "$1" "$2" || { printf 'X fenced %s\n' "$_e"; return; }
  seen
  now
  if [ "$3" -le "$UP" ] && [ "$3" -gt "${SEEN:--1}" ]; then
    # In place and always as long, like the fence. Where something has a lease there is this file.
    printf '%s %19d %19d .\n' "$BOOT" "$3" "$3" 1<>"$ROOT/lease"
  fi
  printf 'L %s\n' "$UP"
}

lock() {
  exec 7>>"$ROOT/lock" || return
  _left=500
  until flock -n 7; do
    _left=$((_left - 1))
    [ $_left -gt 0 ] || return
    nap 20
  done
}
unlock() { exec 7>&-; }

# Says that the node can't be used because this could not be written.
refuse() {
  if is_full; then printf 'X full there is no room for %s\n' "$1"; else printf 'X unusable %s can not be written\n' "$1"; fi
}

# ROOT EPOCH REVISION: from here on, what was said before this is refused.
open() {
  ROOT=$1
  case $ROOT in /*) ;; *) ROOT=$HOME/$ROOT ;; esac
  if ! mkdir -p "$ROOT/p" || ! chmod 700 "$ROOT" || ! printf '' >>"$ROOT/events"; then
    refuse "$ROOT"
    return
  fi
  lock || { printf 'X unusable the lock of %s is taken\n' "$ROOT"; return; }
  fence "$2" "$3"
  case $? in
    0) ;;
    1) printf 'X fenced %s\n' "$_e"; unlock; return ;;
    *) refuse "$ROOT/fence"; unlock; return ;;
  esac
  _at=$(wc -c <"$ROOT/events" 7>&-)
  # Never quite empty, so that on a full disk there is something that can be dropped for a bell.
  if [ "$_at" = 0 ] || [ "$_at" -gt 262144 ]; then printf '\n' >"$ROOT/events"; _at=0; fi
  unlock
  printf 'R %s\n' "$ROOT"
  look
  # After the offset was taken and before it is followed, so that no change falls between.
  if [ -n "$TAILPID" ]; then
    tail --pid=$$ -c "+$((_at + 1))" -F "$ROOT/events" 2>/dev/null | {
      relay
      # Somebody killed the tail. The controller comes again at once, rather than when it gets no answer.
      printf 'X unusable its events are not followed any more\n'
    } &
  else
    poll &
    poller=$!
  fi
  runs keeper
  clock
  now
  printf 'L %s\n' "$UP"
  printf 'O %s\n' "$CLOCK"
}

# The events from _AT on, where no tail can follow them and end with us: looked for once a second, and when the link rings.
poll() {
  trap : USR1
  while kill -0 $$ 2>/dev/null; do
    _size=$(wc -c <"$ROOT/events")
    [ "$_size" -ge "$_at" ] || _at=0
    if [ "$_size" -gt "$_at" ]; then
      # Up to what was measured: what comes meanwhile is for the next round, or it would be said twice.
      tail -c "+$((_at + 1))" "$ROOT/events" | head -c $((_size - _at)) | relay
      _at=$_size
    else
      doze 1000
    fi
  done
}

# Wakes the poller, if there is one.
wake() { [ -z "$poller" ] || kill -USR1 "$poller"; }

# What one step has to say.
tell() { printf 'E %s %s\n' "$id" "$1"; }

# It failed because this could not be written.
unwritten() {
  if is_full; then tell "disk full: there is no room for $1"; else tell "can't write $1"; fi
}

# ARGV… of run, in a session of its own.
spawn() {
  waiting="$waiting $id:$boot:$sup:$sups"
  # A start takes the lock on its way, which saves a process.
  with_lock=''
  [ "$1" != start ] || with_lock=${LOCKER:+$d/lock}
  detach run "$ROOT" "$@" 3>&- 7>&-
  with_lock=''
}

# One line of a batch, as words.
step() {
  op=$1 id=$2
  d=$ROOT/p/$2
  load
  case $op in
    start | restart | adopt)
      # ID HASH LIVE SIGNAL GRACE ENV KEEP CHECK LEASE ARGV…
      if [ "$op" != adopt ] && [ "${10}" != - ] && is_over "${10}"; then
        if [ ! -s "$ROOT/lease" ] && is_full; then unwritten "$ROOT/lease"; else tell "its lease was over when this came"; fi
        return
      fi
      if [ "$op" = start ] && [ "$boot" = "$BOOT" ] && { alive "$sup" "$sups" || alive "$pid" "$pids"; }; then return; fi
      _live=$4
      # Started without the bundle that it should be told of: to be told later.
      [ -z "$unbundled" ] || _live=-
      if { [ ! -d "$d" ] && ! mkdir -p "$d"; } ||
        { [ "$op" != adopt ] && ! printf '%s\n' "$_live" >"$d/live"; }; then
        unwritten "$d"
        return
      fi
      _hash=$3 _sig=$5 _grace=$6
      # shellcheck disable=SC2031 # the subshell elsewhere is another's
      export MAINSTAY_ENV="$7"
      shift 7
      if [ "$3" != - ]; then
        [ -n "$guarded" ] || runs guard 7>&-
        guarded=1
      fi
      started=1
      spawn "$op" "$id" "$_hash" "$_sig" "$_grace" "$@"
      ;;
    stop | remove)
      # ID SIGNAL GRACE
      [ -d "$d" ] || return
      export MAINSTAY_ENV=
      spawn "$op" "$id" - "$3" "$4" - - -
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
      # HASH TEXT. The account's alone: it may hold what users are authenticated by.
      if (umask 077 && printf '%s' "$3" >"$ROOT/bundle.new") && mv -f "$ROOT/bundle.new" "$ROOT/bundle.json"; then
        printf '%s\n' "$2" >"$ROOT/bundle.sum"
      else
        unbundled=1
        unwritten "$ROOT/bundle.json"
        rm -f "$ROOT/bundle.new" 7>&-
      fi
      ;;
    unbundle) rm -f "$ROOT/bundle.json" "$ROOT/bundle.sum" 7>&- || tell "can't remove $ROOT/bundle.json" ;;
    discard)
      # ADDRESS
      if in_use "$2" 7>&-; then
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

# True when something runs from this artifact. It says so in its environment, and so does its supervisor.
in_use() {
  set +f
  if [ -n "$GREPNUL" ]; then
    grep -qF "/a/$1/" /proc/[0-9]*/environ 2>/dev/null
  else
    cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -qF "/a/$1/"
  fi
  _used=$?
  set -f
  return $_used
}

# Waits until each supervisor that was just started has said so in its record, 5 s at most: a disk may be full.
settle() {
  now
  _until=$((UP + 500)) _pause=2
  # One after the other: by the time that the first has, most others have too.
  for _was in $waiting; do
    id=${_was%%:*}
    d=$ROOT/p/$id
    while :; do
      load
      [ $? = 1 ] && [ "${_was#*:}" != ":-:-" ] && break
      [ "$_dot" = . ] && [ "$boot:$sup:$sups" != "${_was#*:}" ] && break
      now
      if [ $UP -ge $_until ]; then
        if is_full; then tell "disk full: there is no room for its record"; else tell "its supervisor did not report within 5 s"; fi
        break
      fi
      nap $_pause
      [ $_pause -ge 20 ] || _pause=$((_pause * 2))
    done
  done
}

# Makes the directories that these steps will need, in one go. Where that failed, the step finds out.
make_directories() {
  _missing=''
  for _line in "$@"; do
    case $_line in
      "start "* | "restart "*)
        _line=${_line#* } _line=${_line%% *}
        [ -d "$ROOT/p/$_line" ] || _missing="$_missing $_line"
        ;;
    esac
  done
  # shellcheck disable=SC2086 # ids, which hold no blanks
  [ -z "$_missing" ] || (cd "$ROOT/p" && mkdir -p $_missing) 7>&-
}

# EPOCH REVISION COUNT BYTES; so many bytes follow, a step a line and then END COUNT. Nothing is done before all of it is here.
batch() {
  epoch=$1 revision=$2 count=$3
  # A shell reads byte by byte, so what is long is read by another. That one may read ahead; nothing is sent before the answer.
  if [ "$4" -gt 2000 ]; then
    _text=$(head -c "$4")
  else
    _text=''
    while [ "${_text##*"$NL"}" != "END $count" ] && IFS= read -r _line; do
      _text=$_text${_text:+$NL}$_line
    done
  fi
  [ "${_text##*"$NL"}" = "END $count" ] || exit 3
  IFS=$NL
  # shellcheck disable=SC2086 # split into lines
  case $_text in *"$NL"*) set -- ${_text%"$NL"*} ;; *) set -- ;; esac
  unset IFS
  [ $# -eq "$count" ] || exit 3
  lock || { printf 'D %s locked\n' "$revision"; return; }
  fence "$epoch" "$revision"
  _fence=$?
  if [ $_fence = 1 ]; then
    unlock
    printf 'D %s fenced %s %s\n' "$revision" "${_e:-0}" "${_r:-0}"
    return
  fi
  waiting='' unbundled='' started='' guarded=''
  ring "?begin $LINK"
  make_directories "$@"
  for _line in "$@"; do
    if [ $_fence = 0 ]; then
      eval "step $_line"
    else
      id=${_line#* } id=${id%% *}
      unwritten "$ROOT/fence"
    fi
  done
  settle
  unlock
  # Where not even a bell has room, the relay hears of nothing that is newer, so that what is said here overtakes no word of it.
  for _line in "$@"; do
    case $_line in
      "bundle "* | "unbundle "*) ring "?bundle $LINK" || show_bundle ;;
      "discard "*) ring "?artifact ${_line#* }" || show_artifact "${_line#* }" ;;
      *) _line=${_line#* } _line=${_line%% *}; ring "?say $LINK $_line" || show "$_line" ;;
    esac
  done
  ring "?done $LINK $revision" || printf 'D %s done\n' "$revision"
  wake
  [ -z "$started" ] || runs keeper
}

link() {
  unset SSH_CLIENT SSH_CONNECTION SSH_TTY SSH_AUTH_SOCK SSH_ORIGINAL_COMMAND
  for _tool in setsid flock head tail grep sleep wc mkdir mv rm cp cat tr; do
    has "$_tool" || { printf 'X unusable %s is missing\n' "$_tool"; exit 1; }
  done
  [ -d "${HOME:-}" ] || { printf 'X unusable HOME is no directory\n'; exit 1; }
  MAINSTAY=${MAINSTAY%%": the link"*}
  MAINSTAY_HELPERS=${MAINSTAY#*": the helpers"}
  MAINSTAY=${MAINSTAY%%": the helpers"*}
  export MAINSTAY MAINSTAY_HELPERS SETSID DETACH LOCKER GREPNUL
  SETSID=$(command -v setsid)
  # Both detach: where there is no -f, the second setsid leads a group already, so that it has to fork.
  if "$SETSID" -f true 2>/dev/null; then DETACH="$SETSID -f"; else DETACH="$SETSID $SETSID"; fi
  # A flock that becomes a program, and hands it the lock as the first free descriptor.
  LOCKER='flock -n -F'
  # shellcheck disable=SC2016 # the new shell reads it
  $LOCKER -s / /bin/sh -c '[ /proc/self/fd/3 -ef / ]' 3>&- 2>/dev/null || LOCKER=''
  # A busybox's grep stops at a NUL, and its tail can't end with us.
  GREPNUL=''
  ! printf 'a\0b' | grep -qF b || GREPNUL=1
  TAILPID=''
  ! tail --pid=$$ -n 0 /dev/null 2>/dev/null || TAILPID=1
  sleep 0.001 2>/dev/null || { printf 'X unusable its sleep takes whole seconds only\n'; exit 1; }
  LINK=$1 ROOT='' poller='' with_lock=''
  # On a line of its own, whatever an rc file has left unfinished.
  printf '\nMAINSTAY %s 3 %s\n' "$LINK" "$BOOT"
  while IFS= read -r _line; do
    eval "set -- $_line"
    [ -n "$ROOT" ] || [ "$1" = OPEN ] || exit 1
    case $1 in
      OPEN) open "$2" "$3" "$4" ;;
      BATCH) batch "$2" "$3" "$4" "$5" ;;
      LEASE) renew "$2" "$3" "$4" ;;
      LOOK)
        ring "?look $LINK $2" || answer "$2"
        wake
        ;;
      *) printf 'X unusable unknown line %s\n' "$1" ;;
    esac
  done
  # The controller is gone: end the relay and its tail, which are what is left of this group.
  st self
  [ "$SID" != "$ME" ] || kill -TERM 0
}

link "$2"
