#!/usr/bin/env bash
# Runs every benchmark program in the folder $1, one after the other, alone on the machine.
set -u
ran=0
for bench in "$1"/bench_*; do
  [[ -x $bench && -f $bench ]] || continue
  echo "bench: ${bench##*/}"
  "$bench" || { echo "bench: ${bench##*/} failed with status $?" >&2; exit 1; }
  ran=$((ran + 1))
done
((ran)) && echo "bench: $ran program(s) run" || echo "bench: no benchmark has been written yet (benches/ defines none)"
