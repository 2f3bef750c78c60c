#!/usr/bin/env bash
# run.sh SOURCE BUILD WORK TORCH [SANITIZERS]: installs BUILD, which was compiled with SANITIZERS, into a prefix below WORK, builds
# projects against it, runs them; then builds and runs one that has SOURCE as a subdirectory. Two projects are made of what
# README.md shows. Any failure ends it with status 1 and the output of what failed.
set -u
source=$1 build=$2 work=$3 torch=$4
[[ -z ${5:-} ]] || export CXXFLAGS=-fsanitize=$5 LDFLAGS=-fsanitize=$5
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

# readme_block N: the Nth block of CMake in the README.
readme_block() {
  awk -v wanted="$1" '/^```cmake$/ { n++; inside = n == wanted; next } /^```/ { inside = 0 } inside' "$source/README.md"
}

mkdir -p "$work/readme" "$work/readme-sub"
readme_block 1 >"$work/readme/CMakeLists.txt"
cp "$source/examples/plain_loop/main.cpp" "$work/readme"
release=-DCMAKE_BUILD_TYPE=Release
step 'what README.md shows of find_package' "${configure[@]}" -S "$work/readme" -B "$work/readme/build" $release -DCMAKE_PREFIX_PATH="$work/prefix"
step 'its program' cmake --build "$work/readme/build"
step 'that program' "$work/readme/build/my_program"
expect 'fitted: mean squared error' "$work/log"

# The libraries of this LibTorch, below headers that tell another version.
other=$work/other-torch/include/torch
mkdir -p "$other/headeronly" "$other/csrc/api/include/torch"
ln -s "$torch/lib" "$work/other-torch/lib"
touch "$other/csrc/api/include/torch/torch.h"
printf '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 99\n#define TORCH_VERSION_PATCH 1\n' >"$other/headeronly/version.h"
echo 'install: another LibTorch'
"${configure[@]}" -S "$here/installed" -B "$work/wrong-version" -DCMAKE_PREFIX_PATH="$work/prefix" -DTORCH_PREFIX="$work/other-torch" \
  >"$work/log" 2>&1 && exit 1
expect "and \"$work/other-torch\" holds 2.99.1: give the folder of the former as -DTORCH_PREFIX=DIR" "$work/log"

echo 'install: a LibTorch that is not there'
"${configure[@]}" -S "$here/installed" -B "$work/wrong" -DCMAKE_PREFIX_PATH="$work/prefix" -DTORCH_PREFIX=/nowhere >"$work/log" 2>&1 && exit 1
expect 'none is in "/nowhere"' "$work/log"

# In one build folder, as a user does who follows the advice.
moved=("${configure[@]}" -S "$here/installed" -B "$work/moved-torch" -DCMAKE_PREFIX_PATH="$work/moved-torch-prefix")
cp -r "$work/prefix" "$work/moved-torch-prefix"
find "$work/moved-torch-prefix" -name treadle-config.cmake -exec sed -i "s|\"$torch\"|\"/was/there\"|" {} +
echo 'install: a LibTorch that has moved'
"${moved[@]}" >"$work/log" 2>&1 && exit 1
expect 'none is in "/was/there": give the folder' "$work/log"
step 'the same with TORCH_PREFIX in the environment' env TORCH_PREFIX="$torch" "${moved[@]}"
echo 'install: the same with another one, which holds none'
TORCH_PREFIX=/elsewhere "${moved[@]}" >"$work/log" 2>&1 && exit 1
expect 'none is in "/elsewhere"' "$work/log"
step 'an empty TORCH_PREFIX in the environment' env TORCH_PREFIX= "${configure[@]}" -S "$here/installed" -B "$work/empty" -DCMAKE_PREFIX_PATH="$work/prefix"

# components NAME: a project that asks for one.
components() {
  mkdir -p "$work/components-$1"
  printf 'cmake_minimum_required(VERSION 3.16)\nproject(components LANGUAGES CXX)\nfind_package(treadle REQUIRED COMPONENTS %s)\n' "$1" \
    >"$work/components-$1/CMakeLists.txt"
  "${configure[@]}" -S "$work/components-$1" -B "$work/components-$1/build" -DCMAKE_PREFIX_PATH="$work/prefix"
}
step 'find_package(treadle COMPONENTS checkpoint)' components checkpoint
echo 'install: a component that there is not'
components chekpoint >"$work/log" 2>&1 && exit 1
expect 'treadle has no component "chekpoint": name some of base, ' "$work/log"

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

# The README's lines as they are, and to be compiled with the smallest room in place of theirs.
subdirectory() {
  { printf 'cmake_minimum_required(VERSION 3.25)\nproject(my_program LANGUAGES CXX)\nadd_executable(my_program main.cpp)\n'; readme_block 2; } |
    sed "$1" >"$work/readme-sub/CMakeLists.txt"
  "${configure[@]}" -S "$work/readme-sub" -B "$work/readme-sub/build" -DTORCH_PREFIX="$torch" "${@:2}"
}
ln -s "$source" "$work/readme-sub/treadle"
cp "$here/subdirectory/main.cpp" "$work/readme-sub"
step 'what README.md shows of add_subdirectory' subdirectory ''
expect 'treadle is compiled without optimization' "$work/log"
step 'the same with every room' subdirectory 's/treadle::hooks/treadle::treadle/' $release
step 'the same with one small room' subdirectory 's/treadle::hooks/treadle::image/' $release
grep -F 'without optimization' "$work/log" && echo 'install: a warning in spite of the build type' && exit 1
step 'its program' cmake --build "$work/readme-sub/build" --target my_program --parallel 2
step 'that program' "$work/readme-sub/build/my_program" "$work/picture.png"
expect 'decoded 2 x 3' "$work/log"
