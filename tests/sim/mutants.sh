#!/bin/sh
# Plants each bug of tests/sim/mutants, one after the other, in a copy of the committed tree, and has the simulator look for it: first the
# seeds alone, and only where none finds it, the other tests. Prints which invariant and which seed or test found it, as the rows of the
# table in tests/sim/README.md. Fails when one was not found, or does not apply. The tree itself is left as it is.
#
# Arguments: the patches to try; all when there are none. MAINSTAY_SIM_SEEDS says how many seeds are run at most (1000).
set -u
cd "$(dirname "$0")/../.." || exit 2
root=$PWD
copy=$root/target/mutants/tree
rm -rf "$copy" && mkdir -p "$copy" || exit 2
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -x -m -C "$copy" || exit 2
# Its own, for cargo takes the copy for the tree: what was built here would be taken for what is built there.
CARGO_TARGET_DIR=$root/target/mutants CARGO_INCREMENTAL=1 RUST_BACKTRACE=0
export CARGO_TARGET_DIR CARGO_INCREMENTAL RUST_BACKTRACE
[ $# -gt 0 ] || set -- tests/sim/mutants/*.patch
out=$root/target/mutants/out
missed=0

# TEST…: true when one of them fails; what it says is in $out.
finds() { ! (cd "$copy" && timeout 900 cargo test -q --test sim -- "$@") >"$out" 2>&1; }

# What a run violates, by its last line that says so; or that it has no end.
invariant() { sed -n -e 's/.*VIOLATION of \([A-Z ]*\):.*/\1/p' -e 's/.*does not end.*/does not end/p' "$out" | tail -n 1; }

for patch in "$@"; do
  name=$(basename "$patch" .patch)
  if ! (cd "$copy" && patch -s -p1) <"$patch"; then
    printf '| %s | does not apply |\n' "$name"
    exit 2
  fi
  if ! (cd "$copy" && cargo test -q --no-run --test sim) >"$out" 2>&1; then
    printf '| %s | does not build |\n' "$name"
    missed=$((missed + 1))
  elif finds seeds --exact; then
    seed=$(sed -n -e 's/^seed \([0-9]*\)[:,].*/\1/p' "$out" | head -n 1)
    printf '| %s | %s | %s |\n' "$name" "$(invariant)" "$seed"
  elif finds --skip seeds --skip the_same_seed --skip contract; then
    test=$(sed -n -e "s/^thread '\([a-z_]*\)'.*panicked.*/\1/p" "$out" | tail -n 1)
    # shellcheck disable=SC2016 # Markdown's quotes
    printf '| %s | %s | no seed; `%s` |\n' "$name" "$(invariant)" "$test"
  else
    printf '| %s | NOT FOUND |\n' "$name"
    missed=$((missed + 1))
  fi
  (cd "$copy" && patch -s -R -p1) <"$patch" || exit 2
done
[ $missed = 0 ]
