#!/bin/sh
# Plants each bug of tests/sim/mutants, one after the other, in a copy of the committed tree, and has the simulator look for it.
# Prints what found it. Fails when one was not found. The tree itself is left as it is.
#
# Arguments: the patches to try; all when there are none. MAINSTAY_SIM_SEEDS says how many seeds are run at most (1000).
set -u
cd "$(dirname "$0")/../.." || exit 2
root=$PWD
copy=$(mktemp -d) || exit 2
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -x -m -C "$copy" || exit 2
# Its own, for cargo takes the copy for the tree: what was built here would be taken for what is built there.
CARGO_TARGET_DIR=$root/target/mutants RUST_BACKTRACE=0
export CARGO_TARGET_DIR RUST_BACKTRACE
[ $# -gt 0 ] || set -- tests/sim/mutants/*.patch
missed=0
for patch in "$@"; do
  name=$(basename "$patch" .patch)
  if ! (cd "$copy" && patch -s -p1) <"$patch"; then
    printf '%-28s does not apply\n' "$name"
    exit 2
  fi
  out=$copy/out
  if ! (cd "$copy" && cargo test -q --no-run --test sim) >"$out" 2>&1; then
    printf '%-28s does not build\n' "$name"
    missed=$((missed + 1))
  elif (cd "$copy" && timeout 900 cargo test -q --test sim -- --skip the_same_seed --skip contract --test-threads 1) \
    >"$out" 2>&1; then
    printf '%-28s NOT FOUND\n' "$name"
    missed=$((missed + 1))
  else
    # The first message of a panic, or what a seed without an end says.
    why=$(grep -A1 -e 'panicked at' -e 'does not end' "$out" | grep -v -e 'panicked at' -e '^--' | head -n 1 | cut -c 1-120)
    printf '%-28s found: %s\n' "$name" "$why"
  fi
  (cd "$copy" && patch -s -R -p1) <"$patch" || exit 2
done
[ $missed = 0 ]
