#!/usr/bin/env bash
# lint.sh check|format [FILE…]: checks (or puts right) the project's C++ files, or only those named.
#
# check: 1. clang-format, 2. every public header compiles alone with warnings as errors, 3. clang-tidy, with clang's warnings as
# errors, on what is not a test, 4. the breaks of tests/mutants still find the code that they break. The tools come from PyPI into .venv-lint, in the versions below, so that the verdict is the same
# everywhere. A FILE that is a header is checked in 1 and 2.
#
#   CHANGED=1     only the files that differ from the last commit (CHANGED=REF: from the commit REF) and the new ones
#   JOBS=2        how many compilers run at once
#   TESTS=1       clang-tidy on the tests too
#   ANALYZE=1     with clang's static analyzer, which takes three times as long as all the rest
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

clang_version=22.1.8
venv=.venv-lint
build=build/lint
jobs=${JOBS:-2}

fail() {
  echo "lint: $*" >&2
  exit 1
}

install_tools() {
  local done_mark=$venv/.ready-$clang_version
  [[ -e $done_mark ]] && return 0
  echo "lint: installing clang-format and clang-tidy $clang_version into $venv (60 MB to download)"
  rm -rf "$venv"
  { python3 -m venv "$venv" || /usr/bin/python3 -m venv --clear "$venv"; } >/dev/null 2>&1 ||
    fail "python3 -m venv $venv failed; run: sudo apt-get install -y python3-venv"
  local output
  output=$("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --retries 2 \
    "clang-format==$clang_version" "clang-tidy==$clang_version" 2>&1) ||
    fail "pip cannot install clang-format and clang-tidy: $(grep -v WARNING <<<"$output" | tail -n 1); check the network, then run this again"
  touch "$done_mark"
}

# git_lists ARGUMENTS…: the C++ files that such a call of git prints. A list that is empty because git failed would pass every check.
git_lists() {
  local output
  output=$(git "$@" -- '*.cpp' '*.hpp' 2>&1) ||
    fail "git $1 failed: ${output##*$'\n'}; mend that, or name the files to look at"
  printf '%s\n' "$output"
}

# Prints the chosen files, one a line.
chosen_files() {
  local file listed reason
  if (($#)); then
    for file in "$@"; do
      [[ -f $file ]] || fail "there is no file $file in $PWD"
      [[ $file == *.[ch]pp ]] || fail "$file is neither a .cpp nor a .hpp file"
    done
    listed=$(printf '%s\n' "$@")
  elif ! reason=$(git rev-parse --git-dir 2>&1); then
    fail "git cannot tell which files are the project's: ${reason##*$'\n'}; mend that, or name the files to look at"
  elif [[ -n ${CHANGED:-} ]]; then
    local ref=$CHANGED
    [[ $ref == 1 ]] && ref=HEAD
    git rev-parse --quiet --verify "$ref^{commit}" >/dev/null ||
      fail "CHANGED=$CHANGED is no commit that git knows; give a branch, a tag or a hash, or 1 for the last commit"
    listed=$(git_lists diff --name-only --diff-filter=d "$ref" && git_lists ls-files --others --exclude-standard) || exit 1
  else
    listed=$(git_lists ls-files --cached --others --exclude-standard) || exit 1
  fi
  # git lists deleted files too.
  sort -u <<<"$listed" | while IFS= read -r file; do [[ ! -f $file ]] || echo "$file"; done
}

check_headers() {
  echo "lint: compiling every public header alone"
  cmake --build "$build" --parallel "$jobs" --target all_verify_interface_header_sets >"$build/headers.log" 2>&1 ||
    { grep -vE '^\[[0-9]+/[0-9]+\] (Building|Generating|Linking)' "$build/headers.log"; return 1; }
}

# Only files that a build compiles have their flags in compile_commands.json.
check_tidy() {
  local file sources=()
  for file in "$@"; do
    [[ $file == *.cpp ]] || continue
    [[ $file == tests/* && -z ${TESTS:-} ]] && continue
    if grep -qF "\"$PWD/$file\"" "$build/compile_commands.json"; then
      sources+=("$file")
    else
      echo "lint: $file is in no target of the build: clang-tidy skips it"
    fi
  done
  ((${#sources[@]})) || return 0
  echo "lint: clang-tidy on ${#sources[@]} file(s), $jobs at a time"
  # GCC's own warning names are unknown to clang; the count of warnings in other people's headers is no news.
  printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$jobs" bash -c '
    output=$("$0" --quiet -p "$1" ${ANALYZE:+--checks=clang-analyzer-*} --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-deprecated-declarations "$2" 2>&1) && exit 0
    grep -vE "^[0-9]+ (warnings?|errors?)( and [0-9]+ errors?)? (generated|treated as errors)" <<<"$output"
    exit 1' "$venv/bin/clang-tidy" "$build"
}

mode=${1:-}
[[ $mode == check || $mode == format ]] || fail "say 'check' or 'format'"
shift
chosen=$(chosen_files "$@") || exit 1
[[ -n $chosen ]] || { echo "lint: no C++ file to look at"; exit 0; }
mapfile -t files <<<"$chosen"
install_tools
if [[ $mode == format ]]; then
  exec "$venv/bin/clang-format" -i "${files[@]}"
fi

status=0
mkdir -p "$build" || fail "cannot write in $PWD"
echo "lint: the format of ${#files[@]} file(s)"
if ! "$venv/bin/clang-format" --dry-run -Werror "${files[@]}" >"$build/format.log" 2>&1; then
  grep 'error:' "$build/format.log"
  echo "lint: 'make format' puts the format right"
  status=1
fi
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DTREADLE_WERROR=ON -DTREADLE_BUILD_TESTS=ON \
  -DTREADLE_BUILD_EXAMPLES=ON -DTREADLE_BUILD_BENCHES=ON -DTREADLE_PRECOMPILE=OFF \
  -DTORCH_PREFIX="${TORCH_PREFIX:-}" >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log" >&2; fail "CMake cannot configure $build"; }
if [[ " ${files[*]}" == *" include/"* ]]; then
  check_headers || status=1
fi
check_tidy "${files[@]}" || status=1
python3 tools/mutants.py --check || status=1
((status)) && fail "failed"
echo "lint: clean"
