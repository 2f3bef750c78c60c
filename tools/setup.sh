#!/usr/bin/env bash
# Installs what Treadle needs on Debian 12: packages, and LibTorch from a wheel in .venv. Run it as often as you like: it skips
# what is there, mends what an interrupted run left, and says nothing when nothing is to do. On another system the packages are the
# user's: it only looks for the commands, and warns until a build is configured.
#
#   TORCH_PREFIX=DIR   use the LibTorch 2.x in DIR (holds include/ and lib/) and make no .venv
#
# A failure is one line on stderr, which says what failed and what to do, and exit status 1.
set -u

torch_version=2.13.0
packages=(g++ make cmake ninja-build git ccache
  libyaml-cpp-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libprotozero-dev zlib1g-dev
  libjpeg62-turbo-dev libpng-dev libgloo-dev libgtest-dev librapidcheck-dev dataset-fashion-mnist)

# MiB of free disk, before the step starts.
need_packages=1500
need_venv=3000
need_venv_cuda=17000  # 12 GB, and the 4 GB that pip takes them from
need_build=1000

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
venv=$root/.venv
log=$root/build/setup.log
child=

fail() {
  echo "setup: $*" >&2
  exit 1
}

stop_child() {
  [[ -n $child ]] && kill -- "-$child" 2>/dev/null && wait "$child" 2>/dev/null
  fail "interrupted; run it again to go on"
}
trap stop_child INT TERM

# require_space DIR MIB PURPOSE [ADVICE]
require_space() {
  local free_kib
  free_kib=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }')
  if [[ -n $free_kib ]] && ((free_kib / 1024 < $2)); then
    fail "the disk of $1 has $((free_kib / 1024)) MiB free, but $3 needs $2 MiB: ${4:-make room, then run this again}"
  fi
}

# quietly WHAT COMMAND…: runs the command with its output in the log, and shows a sign of life while it takes long.
quietly() {
  local what=$1 start=$SECONDS told=$SECONDS
  shift
  echo "setup: $what"
  printf '\n# %s\n' "$*" >>"$log"
  setsid "$@" >>"$log" 2>&1 </dev/null &  # a group of its own, so that an interrupt can end all of it
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - told >= 20)); then
      told=$SECONDS
      echo "setup: … still at it after $((SECONDS - start)) s"
    fi
  done
  wait "$child"
  local status=$?
  child=
  return $status
}

# log_says PATTERN: whether the newest command in the log wrote such a line.
log_says() {
  tac "$log" | sed '/^# /q' | grep -qiE "$1"
}

no_network="the network or its proxy does not answer; check the connection (and http_proxy, https_proxy), then run this again"
network_failed() {
  log_says 'could not (resolve|connect)|unable to connect|temporary failure|connection (failed|refused|broken|reset)|unreachable|ProxyError|NewConnectionError|ConnectTimeout|read ?timed ?out|Max retries exceeded'
}

# fail_from_log WHAT ADVICE: names the cause where the log shows a common one.
fail_from_log() {
  if log_says 'no space left on device|enough free space|disk quota exceeded'; then
    fail "$1: the disk is full; make room (df -h shows where), then run this again"
  elif network_failed; then
    fail "$1: $no_network"
  elif log_says 'could not get lock|unable to acquire the dpkg'; then
    fail "$1: another package manager is at work; wait until it ends, then run this again"
  elif log_says 'permission denied'; then
    fail "$1: permission denied; see the end of $log"
  fi
  fail "$1: $2 (the end of $log says more)"
}

prepare_folder() {
  mkdir -p "$root/build" 2>/dev/null && : >"$log" 2>/dev/null ||
    fail "cannot write in $root/build; check who owns the folder, and that the disk is not full (df -h)"
  exec 9>"$root/build/.setup-lock"
  flock --nonblock 9 || { echo "setup: another setup is running here; waiting for it" && flock 9; }
}

missing_packages() {
  local installed package
  installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null)
  for package in "$@"; do
    grep -qxF "installed $package" <<<"$installed" || echo "$package"
  done
}

# What a system without Debian's packages must have: the commands. Headers and libraries are left to CMake, which names what it misses.
check_other_system() {
  local name missing=()
  for name in c++ cmake ninja git python3; do
    [[ $name == c++ && -n ${CXX:-} ]] || command -v "$name" >/dev/null || missing+=("$name")
  done
  local system="this is no Debian system (no dpkg-query)" advice="install the equivalents of these Debian packages: ${packages[*]}"
  ((!${#missing[@]})) || fail "$system, and there is no ${missing[*]} in PATH; $advice; then run this again"
  [[ -e $root/build/release/build.ninja ]] || echo "setup: WARNING: $system; when the build misses something, $advice" >&2
}

install_packages() {
  command -v dpkg-query >/dev/null || { check_other_system && return; }
  local missing sudo=()
  mapfile -t missing < <(missing_packages "${packages[@]}")
  ((${#missing[@]})) || return 0
  if (($(id -u) != 0)); then
    sudo -n true 2>/dev/null ||
      fail "${#missing[@]} Debian package(s) missing and this user is not root; run: sudo apt-get install -y ${missing[*]}"
    sudo=(sudo -n)
  fi
  require_space /var "$need_packages" "installing Debian packages"
  require_space /usr "$need_packages" "installing Debian packages"
  prepare_folder
  local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2)
  quietly "fetching the list of Debian packages" "${apt[@]}" update ||
    fail_from_log "apt-get update failed" "mend what it complains of, then run this again"
  local lists_are_old=
  network_failed && lists_are_old=1  # apt-get update calls that a warning
  quietly "installing ${#missing[@]} Debian package(s): ${missing[*]}" \
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" ||
    if log_says 'unable to locate package|has no installation candidate'; then
      [[ $lists_are_old ]] && fail "installing ${missing[*]} failed: $no_network"
      fail "this system's package lists lack some of: ${missing[*]}; they are those of Debian 12 (main): check /etc/apt"
    else
      fail_from_log "installing ${missing[*]} failed" "run: sudo apt-get install -y ${missing[*]}"
    fi
}

# The LibTorch of the .venv is complete: pip writes INSTALLER after every other file of a package.
venv_is_ready() {
  [[ ! -e $venv/.unfinished ]] && compgen -G "$venv/lib/python3*/site-packages/torch-$torch_version[.+-]*/INSTALLER" >/dev/null &&
    compgen -G "$venv/lib/python3*/site-packages/numpy-*.dist-info/INSTALLER" >/dev/null
}

# Prints a Python that can make the .venv: the user's own, or Debian's where the user's is too old or lacks parts.
find_python() {
  local candidate reason="no python3 found; run: sudo apt-get install -y python3 python3-venv"
  for candidate in python3 /usr/bin/python3; do
    command -v "$candidate" >/dev/null || continue
    if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      reason="$("$candidate" --version 2>&1 | tail -n 1) is too old for torch $torch_version; install Python 3.10 or newer"
    elif ! "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
      reason="$(command -v "$candidate") cannot make a virtual environment; run: sudo apt-get install -y python3-venv"
    else
      echo "$candidate"
      return 0
    fi
  done
  echo "$reason"
  return 1
}

# Whether pip would take a CUDA build: its index has no CPU build for this kind of machine. Without an answer it is none.
gets_cuda_build() {
  local versions
  [[ $(uname -m) == x86_64 ]] || return 1
  versions=$("$venv/bin/python" -m pip --disable-pip-version-check index versions torch 2>/dev/null) || return 1
  grep -qE "(^|[ ,])$torch_version([ ,]|$)" <<<"$versions" && ! grep -qF "$torch_version+cpu" <<<"$versions"
}

install_torch() {
  venv_is_ready && return 0
  local python
  python=$(find_python) || fail "$python"
  require_space "$root" $((need_venv + need_build)) "setting up torch and the build"
  prepare_folder
  venv_is_ready && return 0  # another setup made it while this one waited
  if [[ -e $venv/.unfinished ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    # A step of a killed run may still be writing there.
    rm -rf "$venv" 2>/dev/null || { sleep 3 && rm -rf "$venv" 2>/dev/null; } ||
      fail "cannot remove the half-made $venv; check who owns it"
    mkdir "$venv" && touch "$venv/.unfinished" || fail "cannot write in $root; check who owns the folder"
    quietly "making the Python environment .venv" "$python" -m venv "$venv" ||
      fail_from_log "making $venv with $python failed" "run: sudo apt-get install -y python3-venv"
  fi
  touch "$venv/.unfinished"
  if gets_cuda_build; then
    require_space "$root" $((need_venv_cuda + need_build)) "the CUDA build of torch, which is all that pip's index offers," \
      "make room, or take the CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup"
  fi
  # pip takes a CPU build where its index offers one: 2.13.0+cpu is newer than 2.13.0 to it. Its temporary files go to the disk
  # that was checked above.
  mkdir -p "$venv/tmp"
  quietly "installing torch $torch_version into .venv (a CPU build: 0.2 GB to download, 1 GB of disk; a CUDA build: 4 and 12)" \
    env TMPDIR="$venv/tmp" "$venv/bin/python" -m pip --disable-pip-version-check install --retries 2 --progress-bar off \
    "torch==$torch_version" numpy || {
    if log_says 'no matching distribution|could not find a version' && ! network_failed; then
      fail "pip finds no torch $torch_version for $("$python" --version 2>&1) on $(uname -m); set TORCH_PREFIX to an unpacked LibTorch 2.x"
    fi
    fail_from_log "installing torch $torch_version failed" "run this again; if it stays, set TORCH_PREFIX to an unpacked LibTorch 2.x"
  }
  rm -rf "$venv/tmp" "$venv/.unfinished"
  venv_is_ready || fail "pip reported success but .venv lacks torch $torch_version; remove $venv and run this again"
}

# older VERSION LEAST
older() {
  [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

check_compiler() {
  local compiler=${CXX:-c++} version least=11
  compiler=${compiler%% *}
  command -v "$compiler" >/dev/null ||
    fail "CXX=$compiler is no compiler on this machine; install it, or leave CXX unset to take g++"
  version=$("$compiler" -dumpfullversion -dumpversion 2>/dev/null)
  [[ $("$compiler" --version 2>/dev/null) == *clang* ]] && least=14
  [[ -z $version ]] || ! older "$version" $least ||
    fail "$compiler is version $version, too old for C++20; install g++ 11, clang 14 or newer, and name it: CXX=g++-12 make build"
}

check_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
  [[ -z $version ]] || ! older "$version" 3.25 ||
    fail "$(command -v cmake) is version $version, and 3.25 or newer is needed; Debian 12 has one in /usr/bin, look at PATH"
}

# What an earlier configuration fixed, and CMake would keep without a word or refuse with many.
check_build_folder() {
  local cache=$root/build/release/CMakeCache.txt made_for compiler
  [[ -f $cache ]] || return 0
  made_for=$(sed -n 's/^CMAKE_HOME_DIRECTORY:[A-Z]*=//p' "$cache")
  [[ -z $made_for || $made_for -ef $root ]] ||
    fail "build/release was made for the sources in $made_for, not for these; run 'make clean' first"
  compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$cache")
  [[ -z ${CXX:-} || -z $compiler || $(command -v "${CXX%% *}") -ef $compiler ]] ||
    fail "build/release was made with $compiler; run 'make clean' first to build with CXX=$CXX"
}

check_prefix() {
  [[ -f $TORCH_PREFIX/include/torch/csrc/api/include/torch/torch.h && -d $TORCH_PREFIX/lib ]] ||
    fail "TORCH_PREFIX=$TORCH_PREFIX holds no LibTorch (include/torch/csrc/api/include/torch/torch.h and lib/); give the folder 'libtorch' of an unpacked archive, or site-packages/torch of a wheel"
  local header version
  for header in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
    [[ -f $TORCH_PREFIX/include/$header ]] || continue
    version=$(sed -nE 's/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+)/\2/p' "$TORCH_PREFIX/include/$header" | paste -sd.)
    [[ -z $version ]] || ! older "$version" 2.0 ||
      fail "TORCH_PREFIX=$TORCH_PREFIX holds LibTorch $version, and 2.0 or newer is needed"
    return
  done
}

if [[ -n ${TORCH_PREFIX:-} ]]; then
  check_prefix
  command -v python3 >/dev/null || packages+=(python3)  # the tools are written in it; any will do
else
  packages+=(python3-venv)
fi
install_packages
check_compiler
check_cmake
check_build_folder
if [[ -z ${TORCH_PREFIX:-} ]]; then
  install_torch
fi
if [[ ! -e $root/build/release/build.ninja ]]; then
  require_space "$root" "$need_build" "the build"
fi
