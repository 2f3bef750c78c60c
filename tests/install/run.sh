#!/usr/bin/env bash
# run.sh SOURCE BUILD WORK TORCH: installs BUILD into a prefix below WORK, builds a project against it, runs it; then builds and
# runs a project that has SOURCE as a subdirectory. Any failure ends it with status 1 and the output of what failed.
set -u
source=$1 build=$2 work=$3 torch=$4
here=$source/tests/install
rm -rf "$work" && mkdir -p "$work" || exit 1
unset TORCH_PREFIX

# step NAME COMMAND…
step() {
  echo "install: $1"
  "${@:2}" >"$work/log" 2>&1 && return
  cat "$work/log"
  echo "install: failed: $1"
  exit 1
}

# expect TEXT FILE
expect() {
  tr '\n' ' ' <"$2" | tr -s ' ' | grep -qF "$1" && return
  cat "$2"
  echo "install: \"$1\" is not in the output"
  exit 1
}

launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
configure=(cmake -G Ninja "${launcher[@]}")

step 'cmake --install' cmake --install "$build" --prefix "$work/prefix"
step 'the installed command' "$work/prefix/bin/treadle" --help
step 'find_package(treadle)' "${configure[@]}" -S "$here/installed" -B "$work/installed" -DCMAKE_PREFIX_PATH="$work/prefix"
step 'a program on the installed package' cmake --build "$work/installed"
step 'that program' "$work/installed/program" "$work/files"
expect 'the loss fell; the checkpoint came back' "$work/log"

echo 'install: a LibTorch that is not there'
"${configure[@]}" -S "$here/installed" -B "$work/wrong" -DCMAKE_PREFIX_PATH="$work/prefix" -DTORCH_PREFIX=/nowhere >"$work/log" 2>&1 && exit 1
expect 'none is in "/nowhere"' "$work/log"

# Static or shared, nothing may need the build folder any more, and the prefix may be moved.
runpaths() {
  local file
  for file in "$work/prefix/bin/treadle" "$work"/prefix/lib*/libtreadle_*.so "$work"/prefix/lib*/*/libtreadle_*.so; do
    [[ ! -e $file ]] || readelf -d "$file" | grep PATH
  done
}
step 'the runpaths' runpaths
grep -F "$build" "$work/log" && echo 'install: a runpath names the build folder' && exit 1
step 'a moved prefix' mv "$work/prefix" "$work/moved"
step 'the command in it' "$work/moved/bin/treadle" --help

step 'add_subdirectory' "${configure[@]}" -S "$here/subdirectory" -B "$work/subdirectory" -DTREADLE_FOLDER="$source" -DTORCH_PREFIX="$torch"
step 'a program on one room' cmake --build "$work/subdirectory" --target program --parallel 2
step 'that program' "$work/subdirectory/program" "$work/picture.png"
expect 'decoded 2 x 3' "$work/log"
