#!/usr/bin/env bash
# test.sh BUILD_FOLDER [ctest options…]: runs the tests, shows what skipped and why, and ends with ctest's own closing lines.
set -u -o pipefail
folder=$1
shift

# The reasons stand in the output of tests that passed, which ctest keeps in this file.
skip_reasons() {
  grep -h -A 1 ': Skipped$' "$folder"/Testing/Temporary/LastTest.log* 2>/dev/null | grep -v -e ': Skipped$' -e '^--$' |
    sort | uniq --count | sed -E 's/^ *([0-9]+) (.*)/skipped (\1x): \2/'
}

ctest --test-dir "$folder" --output-on-failure "$@" | while IFS= read -r line; do
  [[ $line =~ ^[0-9]+%\ tests\ passed ]] && skip_reasons
  printf '%s\n' "$line"
done
exit "${PIPESTATUS[0]}"
