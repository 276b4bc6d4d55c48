#!/bin/sh
# What runs on a node at the far end of a side channel (side.rs): bytes, beside the conversation that script.sh leads. POSIX
# sh. Like that script it comes over the channel and is never left behind.
#
# It greets, reads one line of words, and then does what they say with what comes in and goes out as raw bytes. At the end of
# its input, which is also how it learns that the controller is gone, it ends, and what it has started with it.
#
#   echo     sends back what comes
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

# On a line of its own, whatever an rc file has left unfinished.
printf '\nMAINSTAY %s\n' "$2"
IFS= read -r _words || exit 0
eval "set -- $_words"
case ${1:-} in
  echo) cat ;;
  *) printf 'X %s is no word of this script\n' "${1:-nothing}" ;;
esac
